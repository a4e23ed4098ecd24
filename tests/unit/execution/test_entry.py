"""What comes of a message."""

from __future__ import annotations

import gc
import pickle
import weakref
import zlib
from typing import Any

import pytest

from canvaslite import Celery, states
from canvaslite.exceptions import NotRegistered
from canvaslite.execution.entry import Executor
from canvaslite.execution.outcome import Kind
from canvaslite.protocol.job import KOMBU_PROPERTIES, Job
from tests.unit.execution.conftest import make_job


@pytest.fixture
def add(app: Celery) -> Any:
    @app.task(name='add')
    def add(x: int, y: int) -> int:
        return x + y
    return add


@pytest.fixture
def seen(app: Celery) -> Any:
    requests: list[Any] = []

    @app.task(name='seen', bind=True)
    def look(self: Any, *args: Any, **kwargs: Any) -> None:
        requests.append(self.request)
    return requests


def test_a_message_becomes_a_run_and_its_result_is_kept(app: Celery, execute: Any, add: Any) -> None:
    outcome = execute(add, [2, 3], id='one')
    assert (outcome.kind, outcome.value) == (Kind.SUCCESS, 5)
    assert app.AsyncResult('one').get(timeout=1) == 5


def test_the_request_says_what_the_message_said(execute: Any, seen: Any) -> None:
    execute('seen', [1], {'a': 2}, id='one', root_id='root', parent_id='parent', group='g', group_index=4, retries=2,
            timelimit=[9, 5], mine='own header', embed={'callbacks': None, 'chord': None})
    request = seen[0]
    assert (request.id, request.root_id, request.parent_id) == ('one', 'root', 'parent')
    assert (request.args, request.kwargs) == ([1], {'a': 2})
    assert (request.group, request.group_index, request.retries) == ('g', 4, 2)
    assert (request.time_limit, request.soft_time_limit) == (9, 5)
    assert request.headers == {'mine': 'own header'}
    assert request.delivery_info == {'exchange': '', 'routing_key': 'unit-queue', 'priority': 3, 'redelivered': False}
    assert (request.hostname, request.reply_to, request.correlation_id) == ('worker@unit', 'reply', 'one')
    assert not request.called_directly and not request.is_eager


def test_values_of_kombus_own_json_types_arrive_as_such(execute: Any, seen: Any) -> None:
    execute('seen', [{'__type__': 'decimal', '__value__': '1.5'}])
    assert str(seen[0].args[0]) == '1.5' and type(seen[0].args[0]).__name__ == 'Decimal'


@pytest.mark.parametrize('retried', [True, False], ids=['retried', 'failed'])
def test_nothing_of_a_run_that_failed_waits_for_a_garbage_collection(app: Celery, execute: Any, retried: bool) -> None:
    class Large:
        pass

    alive: Any = weakref.WeakSet()

    @app.task(name='large', bind=True)
    def large(self: Any) -> None:
        mine = Large()
        alive.add(mine)
        try:
            raise ValueError('no')
        except ValueError as exc:
            if retried:
                raise self.retry(exc=exc, countdown=100) from None
            raise KeyError('neither') from exc

    gc.collect()
    gc.disable()
    try:
        execute(large)
        assert not alive
    finally:
        gc.enable()


def test_a_body_can_be_compressed(execute: Any, add: Any) -> None:
    body = zlib.compress(b'[[1, 2], {}, {}]')
    assert execute(add, body=body, compression='application/x-gzip').value == 3


def test_a_message_of_protocol_1_is_run(execute: Any, add: Any) -> None:
    import json
    executor_app = add.app
    body = json.dumps({'id': 'old', 'task': 'add', 'args': [1], 'kwargs': {'y': 1}, 'retries': 0}).encode()
    from canvaslite.protocol.job import AMQP_PROPERTIES
    from canvaslite.transport.properties import encode_properties
    head = encode_properties({}, content_type='application/json', content_encoding='utf-8')
    outcome = Executor(executor_app, 'w').run(Job(AMQP_PROPERTIES, head, body))
    assert outcome.value == 2
    assert executor_app.AsyncResult('old').get(timeout=1) == 2


def test_a_message_that_kombu_received_is_run(app: Celery, add: Any) -> None:
    head = pickle.dumps({'headers': {'id': 'k', 'task': 'add', 'lang': 'py', 'compression': 'application/x-gzip'},
                         'properties': {}, 'content_type': 'application/json', 'content_encoding': 'utf-8'})
    outcome = Executor(app, 'w').run(Job(KOMBU_PROPERTIES, head, b'[[1, 2], {}, null]'))
    assert outcome.value == 3


def test_an_unknown_task_fails_for_those_who_wait(app: Celery, execute: Any) -> None:
    outcome = execute('no.such', [1], id='u')
    assert outcome.kind is Kind.UNKNOWN and 'no.such' in outcome.note
    with pytest.raises(NotRegistered):
        app.AsyncResult('u').get(timeout=1)


@pytest.mark.parametrize('body', [b'{', b'', b'\xff\xfe', b'[' * 100_000, b'[1]', b'[[], [], {}]', b'"text"'])
def test_a_body_that_cannot_be_read_is_refused_in_one_line(app: Celery, execute: Any, add: Any, body: bytes) -> None:
    outcome = execute(add, body=body, id=f'bad-{len(body)}-{body[:5]!r}')
    assert outcome.kind is Kind.UNDECODABLE
    assert outcome.note and len(outcome.note) <= 2000 and '\n' not in outcome.note
    assert app.AsyncResult(f'bad-{len(body)}-{body[:5]!r}').state == states.FAILURE


def test_pickle_is_refused_unless_accepted(app: Celery, execute: Any, add: Any) -> None:
    body = pickle.dumps(([1, 2], {}, {}))
    outcome = execute(add, body=body, content_type='application/x-python-serialize')
    assert outcome.kind is Kind.UNDECODABLE and 'untrusted' in outcome.note
    app.conf.accept_content = ['json', 'pickle']
    job = make_job('add', body=body, content_type='application/x-python-serialize')
    assert Executor(app, 'w').run(job).value == 3


def test_json_is_refused_where_it_is_not_accepted(app: Celery, add: Any) -> None:
    app.conf.accept_content = ['pickle']
    assert Executor(app, 'w').run(make_job('add', [1, 2])).kind is Kind.UNDECODABLE


@pytest.mark.parametrize('headers', [{'id': 5}, {'id': None}, {'lang': None, 'id': ['x']}])
def test_headers_of_the_wrong_type_are_refused(execute: Any, add: Any, headers: dict[str, Any]) -> None:
    assert execute('add', [1, 1], **headers).kind is Kind.UNDECODABLE


def test_a_time_limit_that_is_none_is_none(execute: Any, add: Any) -> None:
    assert execute('add', [1, 1], timelimit=3).value == 2


def test_what_ends_a_process_is_not_kept_from_it(execute: Any, app: Celery) -> None:
    @app.task(name='leave')
    def leave() -> None:
        raise SystemExit(3)
    with pytest.raises(SystemExit):
        execute('leave')
    assert app.current_task is None or not app.current_task
