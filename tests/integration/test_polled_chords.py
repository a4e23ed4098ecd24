"""Chords that a task polls for: those of Celery on SQL, ours where Celery's workers take part, and stores of users."""

from __future__ import annotations

import importlib
import time
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite import Celery, chain, chord, group, wire
from canvaslite.backends.base import BaseBackend, KeyValueStoreBackend
from canvaslite.contrib.testing.worker import start_worker as start_worker_here
from canvaslite.exceptions import ChordError, ImproperlyConfigured, TaskRevokedError

TIMEOUT = 60
celery = importlib.import_module('celery')


@pytest.fixture
def servers(broker_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """RabbitMQ and SQLite."""
    env = {'BROKER': broker_url, 'BACKEND': f'db+sqlite:///{tmp_path}/results.sqlite'}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


@pytest.fixture
def celerys(servers: dict[str, str], project: ModuleType) -> Any:
    """A client of Celery's for the project."""
    app = celery.Celery('proj', broker=servers['BROKER'], backend=servers['BACKEND'], set_as_current=False)
    app.conf.task_default_queue = project.app.conf.task_default_queue

    def elsewhere(value: Any) -> Any:
        return value

    for name in ('identity', 'collect'):
        app.task(name=f'proj.{name}')(elsewhere)
    return app


def send_by_celery(app: Any, *header: Any) -> Any:
    tasks = app.tasks
    return celery.chord([tasks['proj.identity'].s(value) for value in header], tasks['proj.collect'].s(), app=app)()


def test_our_worker_joins_a_chord_of_celery(celerys: Any, start_project_worker: Callable[..., Any]) -> None:
    start_project_worker()

    assert send_by_celery(celerys, 1, 2, 3).get(timeout=TIMEOUT) == [1, 2, 3]


def test_celerys_workers_run_parts_of_a_compatible_chord(
    project: ModuleType, start_project_worker: Callable[..., Any], start_worker: Callable[..., Any],
    servers: dict[str, str]
) -> None:
    project.app.conf.result_chord_join = 'compat'
    start_project_worker()
    theirs = start_worker('proj', '-c', '2', '-l', 'INFO', '-n', 'theirs@%h', package='celery',
                          **{**servers, 'CANVAS_PACKAGE': 'celery'})
    sent = [chord([project.identity.s(i) for i in range(6)], project.collect.s())() for _ in range(5)]
    sent.append((group(project.identity.s(i) for i in range(6)) | project.collect.s())())

    assert [result.get(timeout=TIMEOUT) for result in sent] == [[*range(6)]] * 6
    theirs.await_line(r'proj.identity\[.*succeeded')
    assert project.app.backend.join.due(time.time() + 3600, 100) == [], 'nothing is counted in the store as well'


def test_a_failed_part_fails_a_compatible_chord(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    project.app.conf.result_chord_join = 'compat'
    start_project_worker()

    result = chord([project.identity.s(1), project.fail.s('wrong')], project.collect.s())()

    # (With the error propagated, whoever waits hears of the part's own before the chord is looked at.)
    error = project.app.AsyncResult(result.id).get(timeout=TIMEOUT, propagate=False)
    assert isinstance(error, ChordError) and 'wrong' in str(error)


def test_a_compatible_chord_whose_run_was_revoked_ends_with_what_follows_it(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    worker = start_project_worker(CHORD_JOIN='compat')
    header = [project.identity.si(1), project.await_file.si(str(tmp_path / 'never'), 'there')]
    result = chain(project.identity.s(0), chord(header, project.collect.s()), project.identity.s()).apply_async()
    worker.await_line('chord_unlock.*retry')

    project.app.control.revoke([], root_ids=[result.parent.parent.parent.id])

    for held in (result, result.parent):
        with pytest.raises(TaskRevokedError):
            held.get(timeout=TIMEOUT, follow_parents=False)


def test_nothing_can_be_added_to_a_compatible_chord(project: ModuleType) -> None:
    project.app.conf.result_chord_join = 'compat'
    gid, task_id = str(uuid.uuid4()), str(uuid.uuid4())
    project.app.backend.apply_chord((gid, [project.app.AsyncResult(task_id)]), project.collect.s())

    with pytest.raises(ImproperlyConfigured, match='result_chord_join'):
        project.app.backend.add_to_chord(gid, project.app.AsyncResult(str(uuid.uuid4())))


class Polling:
    """The polling task, run by hand."""

    def __init__(self, app: Any, body: Any) -> None:
        self.app, self.body = app, body.set(task_id=str(uuid.uuid4()))
        self.gid, self.member = str(uuid.uuid4()), app.AsyncResult(str(uuid.uuid4()))
        self.task = app.tasks[wire.CHORD_UNLOCK]

    def run(self, retries: int = 0, **kwargs: Any) -> Any:
        kwargs = {'result': [self.member.as_tuple()], 'interval': 0.1, **kwargs}
        self.task.push_request(id='poll', args=(self.gid, dict(self.body)), kwargs=kwargs, retries=retries,
                               called_directly=False, delivery_info={})
        try:
            return self.task.run(self.gid, dict(self.body), **kwargs)
        finally:
            self.task.pop_request()

    def sent(self) -> list[tuple[str, Any]]:
        """Names and argument lists of what is in the queue."""
        found = []
        with self.app.connection_for_read() as connection:
            bound = self.app.amqp.queues[self.app.conf.task_default_queue](connection.default_channel)
            bound.declare()
            while (message := bound.get(no_ack=True)) is not None:
                found.append((message.headers['task'], message.decode()))
        return found


def test_of_two_copies_of_the_polling_task_one_sends_the_body(project: ModuleType) -> None:
    polling = Polling(project.app, project.collect.s())
    project.app.backend.store_result(polling.member.id, 1, 'SUCCESS')

    polling.run(retries=3)
    polling.run(retries=4)
    assert [name for name, _ in polling.sent()] == ['proj.collect']
    polling.run(retries=3)  # it died having sent the body, and is delivered again
    assert [name for name, _ in polling.sent()] == ['proj.collect']
    project.app.backend.store_result(polling.body.options['task_id'], [1], 'SUCCESS')
    polling.run(retries=3)
    assert polling.sent() == []


def test_a_polled_chord_that_is_never_complete_fails_at_its_deadline(project: ModuleType) -> None:
    project.app.conf.result_chord_deadline = 60
    polling = Polling(project.app, project.collect.s())
    with pytest.raises(importlib.import_module('canvaslite.exceptions').Retry):
        polling.run()
    (_, (_, kwargs, _)), = polling.sent()
    assert abs(kwargs[wire.UNLOCK_DEADLINE] - time.time() - 60) < 10

    polling.run(**{wire.UNLOCK_DEADLINE: time.time() - 1})

    assert polling.sent() == []
    with pytest.raises(ChordError, match='result_chord_deadline'):
        project.app.AsyncResult(polling.body.options['task_id']).get(timeout=30)


kept: dict[Any, Any] = {}


class KeyValueStore(KeyValueStoreBackend):
    """As a user writes it."""

    def get(self, key: Any) -> Any:
        return kept.get(key)

    def set(self, key: Any, value: Any) -> None:
        kept[key] = value

    def delete(self, key: Any) -> None:
        kept.pop(key, None)


class OwnStore(BaseBackend):
    """As a user writes it."""

    def _store_result(self, task_id: str, result: Any, state: str, traceback: Any = None, request: Any = None,
                      **kwargs: Any) -> Any:
        kept[task_id] = self._get_result_meta(result, state, traceback, request)
        return result

    def _get_task_meta_for(self, task_id: str) -> Any:
        return self.meta_from_decoded(dict(kept.get(task_id, {'status': 'PENDING', 'result': None})))


@pytest.mark.parametrize('store', [KeyValueStore, OwnStore])
def test_a_store_of_a_user_joins_chords_by_polling(store: type[Any], broker_url: str) -> None:
    app = Celery('stores', broker=broker_url, backend=store, set_as_current=False)
    app.conf.result_chord_retry_interval = 0.1

    @app.task(name='stores.identity')
    def identity(x: Any) -> Any:
        return x

    @app.task(name='stores.fail')
    def fail(why: str) -> Any:
        raise ValueError(why)

    @contextmanager
    def worker() -> Any:
        with start_worker_here(app, pool='threads', concurrency=2, perform_ping_check=False):
            yield

    with worker():
        assert chord([identity.s(i) for i in range(3)], identity.s(), app=app)().get(timeout=TIMEOUT) == [0, 1, 2]
        failing = chord([identity.s(1), fail.s('wrong')], identity.s(), app=app)()
        with pytest.raises(ChordError, match='wrong'):
            app.AsyncResult(failing.id).get(timeout=TIMEOUT)
        with pytest.raises(ImproperlyConfigured, match=f'{store.__name__} cannot add to a running chord'):
            app.backend.add_to_chord(failing.parent.id, app.AsyncResult('another'))
    app.close()
    kept.clear()
