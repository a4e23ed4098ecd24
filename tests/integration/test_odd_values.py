"""Values of types that nobody expects, in messages and in what is stored: an error for those who wait, no hanging."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis
from kombu import Connection, Producer

from canvaslite import Celery, chain, chord
from canvaslite.exceptions import BackendGetMetaError, ChordError, InvalidTaskError
from canvaslite.result import ResultSet

HELD = 'held'
TIMEOUT = 60.0
SIGNATURE = {'task': 'proj.add', 'args': [1], 'kwargs': {}, 'options': {}, 'subtask_type': None, 'immutable': False}
HEADERS: list[dict[str, Any]] = [
    {'id': 5}, {'id': ['x']}, {'id': ''}, {'group': 7}, {'group': {}}, {'group_index': '0'}, {'root_id': ['x']},
    {'parent_id': ['x']}, {'retries': '1'}, {'timelimit': 'soon'}, {'replaced_task_nesting': 'x'}, {'stamps': 'x'},
    {'stamped_headers': [5]}, {'stamped_headers': 5}]
EMBEDS: list[dict[str, Any]] = [
    {'callbacks': 5}, {'errbacks': ['x']}, {'chain': {'a': 1}}, {'chord': 5}, {'chord': {**SIGNATURE, 'options': 5}},
    {'callbacks': [{**SIGNATURE, 'args': 5}]}, {'errbacks': [{**SIGNATURE, 'kwargs': 5}]},
    {'chain': [{**SIGNATURE, 'options': {'task_id': 5}}]}]


def forward(url: str, headers: dict[str, Any], embed: dict[str, Any]) -> None:
    """Give the message that is held to the worker, with these changes."""
    with Connection(url) as connection:
        channel = connection.default_channel
        message = channel.basic_get(HELD, no_ack=True)
        args, kwargs, after = json.loads(message.body)
        Producer(channel).publish(
            json.dumps([args, kwargs, {**after, **embed}]), exchange='', routing_key='proj',
            headers={**message.headers, **headers}, content_type='application/json', content_encoding='utf-8')


def test_a_message_with_odd_values_is_refused_in_one_line_and_those_who_wait_are_told(
    project: ModuleType, servers: dict[str, str], start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker()
    worker.await_line(r'\bready\.$')
    held = project.add.s(1, 1).set(queue=HELD)
    waiting = []
    with Connection(servers['BROKER']) as connection:
        connection.default_channel.queue_declare(HELD, durable=True, auto_delete=False)
    for headers, embed in [*((headers, {}) for headers in HEADERS), *(({}, embed) for embed in EMBEDS)]:
        waiting.append(chord([held, project.add.s(2, 2)], project.total.s()).apply_async())
        forward(servers['BROKER'], headers, embed)
    chained = [chain(held, project.add.s(1)).apply_async() for _ in HEADERS]
    for headers in HEADERS:
        forward(servers['BROKER'], headers, {})

    for result in waiting:
        with pytest.raises(ChordError, match='InvalidTaskError'):
            result.get(timeout=TIMEOUT, follow_parents=False)
    for result in chained:
        with pytest.raises(InvalidTaskError):
            result.get(timeout=TIMEOUT, follow_parents=False)
    assert project.add.delay(1, 1).get(timeout=TIMEOUT) == 2
    assert worker.stop() == 0
    refusals = [line for line in worker.lines if 'MainProcess] ' in line and 'routing key' in line]
    assert len(refusals) == len(waiting) + len(chained), worker.output
    assert 'Traceback' not in worker.output


def test_a_message_sets_nothing_that_is_the_runs_own_and_may_number_its_ancestors(
    project: ModuleType, servers: dict[str, str], start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker().await_line(r'\bready\.$')
    with Connection(servers['BROKER']) as connection:
        connection.default_channel.queue_declare(HELD, durable=True, auto_delete=False)
    result = project.succeed_after.s(1).set(queue=HELD).apply_async()
    forward(servers['BROKER'], {'_children': 5, '_protected': 'x', '_called_by': 'x', 'retries': None,
                               'root_id': 7, 'parent_id': 8}, {})
    assert result.get(timeout=TIMEOUT) == 1


DONE = {'status': 'SUCCESS', 'result': 1, 'traceback': None, 'children': []}
STORED: list[Any] = [
    b'no json', b'{"half', b'\xff', [1], 5, None, {}, {'result': 1}, {**DONE, 'status': 5}, {**DONE, 'status': ['x']},
    *({**DONE, 'status': 'FAILURE', 'result': exc} for exc in (
        5, 'x', [1], {'exc_message': 'x'}, {'exc_type': 5}, {'exc_type': 'E', 'exc_module': ['x']},
        {'exc_type': 'a\0b', 'exc_message': 'x'})),
    *({**DONE, 'children': children} for children in (5, 'x', [5], [['a', 1]], [[['a', 5], None]], [[None, None]]))]
ROWS: list[dict[str, Any]] = [
    {'result': b'no json'}, {'result': 5}, {'status': None}, {'status': 'FAILURE', 'result': b'5'},
    {'status': 'FAILURE', 'result': b'{"exc_message": 1}'}, {'children': b'5'}, {'children': b'no json'}]


def check_that_each_question_is_answered_alike(app: Any) -> None:
    def ask(question: Callable[[Any], Any]) -> None:
        with pytest.raises(BackendGetMetaError, match='lost-and-found') as told:
            question(app.AsyncResult('lost-and-found'))
        assert told.value.task_id == 'lost-and-found'  # type: ignore[attr-defined]

    ask(lambda result: result.get(timeout=TIMEOUT))
    ask(lambda result: ResultSet([result], app=app).get(timeout=TIMEOUT))
    for name in ('state', 'result', 'traceback', 'children'):
        ask(lambda result, name=name: getattr(result, name))  # type: ignore[misc]


def test_what_is_no_result_in_redis_is_one_error_that_names_the_task(redis_url: str) -> None:
    app, store = Celery(backend=redis_url, set_as_current=False), redis.Redis.from_url(redis_url)
    for stored in STORED:
        store.set('celery-task-meta-lost-and-found', stored if isinstance(stored, bytes) else json.dumps(stored))
        check_that_each_question_is_answered_alike(app)
    store.set('celery-taskset-meta-lost-and-found', '[5]')
    with pytest.raises(BackendGetMetaError, match='lost-and-found'):
        app.GroupResult.restore('lost-and-found')
    app.close()


def test_what_is_no_result_in_a_database_is_one_error_that_names_the_task(sqlite_url: str, tmp_path: Path) -> None:
    app = Celery(backend=sqlite_url, set_as_current=False)
    app.backend.prepare()
    for row in ROWS:
        with sqlite3.connect(tmp_path / 'results.sqlite') as database:
            columns = {'task_id': 'lost-and-found', 'status': 'SUCCESS', **row}
            database.execute('DELETE FROM celery_taskmeta')
            database.execute(f'INSERT INTO celery_taskmeta ({", ".join(columns)}) '
                             f'VALUES ({", ".join("?" * len(columns))})', tuple(columns.values()))
        check_that_each_question_is_answered_alike(app)
    app.close()


def test_an_odd_row_keeps_nobody_waiting_and_no_other_result_from_being_seen(redis_url: str) -> None:
    app, store = Celery(backend=redis_url, set_as_current=False), redis.Redis.from_url(redis_url)
    store.set('celery-task-meta-strange', json.dumps({**DONE, 'task_id': 5, 'children': [[[5, None], None]]}))
    strange = app.AsyncResult('strange')
    assert strange.get(timeout=TIMEOUT) == 1
    for ask in (strange.children[0].get, lambda: strange.children[0].then(print)):
        with pytest.raises(ValueError, match='5'):
            ask()
    store.set('celery-task-meta-strange', json.dumps({'status': 'FAILURE'}))
    with pytest.raises(Exception, match='None'):
        ResultSet([app.AsyncResult('strange')], app=app).get(timeout=TIMEOUT)
    app.backend.store_result('strange', 2, 'SUCCESS')
    assert app.AsyncResult('strange').get(timeout=TIMEOUT) == 2
    app.close()
