"""Results in a real Redis: threads, lost connections, both protocols, and the same keys for Celery."""

from __future__ import annotations

import importlib
import os
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from canvaslite import Celery, states
from canvaslite.exceptions import BackendError, ChordError, TimeoutError
from tests.fixtures import await_port, free_port

redis = importlib.import_module('redis')


@pytest.fixture
def app(redis_url: str) -> Iterator[Any]:
    with Celery('redis-results', broker='memory://', backend=redis_url, set_as_current=False) as app:
        yield app
        app.backend.close()


class Server:
    """A Redis that can be stopped and started again, empty."""

    def __init__(self, port: int, *options: str) -> None:
        self.port = port
        self.options = options
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            ['redis-server', '--port', str(self.port), '--bind', '127.0.0.1', '--save', '', *self.options],
            stdout=subprocess.DEVNULL)
        await_port(self.port)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(free_port())
    yield server
    server.stop()


def store(app: Any, task_id: str, value: Any, state: str = states.SUCCESS) -> None:
    app.backend.store_result(task_id, value, state)


def in_threads(count: int, function: Any) -> tuple[list[threading.Thread], list[Any]]:
    returned: list[Any] = []
    threads = [threading.Thread(target=lambda n=n: returned.append(function(n))) for n in range(count)]
    for thread in threads:
        thread.start()
    return threads, returned


def await_subscriptions(app: Any, ids: list[str]) -> None:
    keys = [app.backend.get_key_for_task(task_id) for task_id in ids]
    until = time.monotonic() + 10
    while any(count == 0 for _, count in app.backend.client.pubsub_numsub(*keys)):
        assert time.monotonic() < until
        time.sleep(0.005)


def test_many_threads_wait_on_one_connection(app):
    def subscribed() -> set[str]:
        return {client['id'] for client in app.backend.client.client_list(_type='pubsub')}

    ids, others = [uuid.uuid4().hex for _ in range(20)], subscribed()
    threads, returned = in_threads(20, lambda n: app.AsyncResult(ids[n]).get(timeout=60))
    await_subscriptions(app, ids)
    assert len(subscribed() - others) == 1
    for n, task_id in enumerate(ids):
        store(app, task_id, n)
    for thread in threads:
        thread.join(20)
    assert sorted(returned) == list(range(20))


def test_two_threads_wait_for_the_same_task(app):
    threads, returned = in_threads(2, lambda n: app.AsyncResult('same').get(timeout=60))
    await_subscriptions(app, ['same'])
    store(app, 'same', 1)
    for thread in threads:
        thread.join(20)
    assert returned == [1, 1]


@pytest.mark.alone
def test_a_thread_that_begins_to_wait_does_not_wait_for_the_one_that_reads(app):
    threads, _ = in_threads(1, lambda n: app.AsyncResult('slow').get(timeout=60))
    await_subscriptions(app, ['slow'])
    store(app, 'there already', 5)
    start = time.monotonic()
    assert app.AsyncResult('there already').get(timeout=60) == 5
    assert time.monotonic() - start < 0.5
    store(app, 'slow', 1)
    threads[0].join(20)


def test_nothing_is_asked_of_the_server_before_get(redis_port):
    app = Celery('lazy', backend=f'redis://127.0.0.1:{free_port()}/0', set_as_current=False)
    assert app.AsyncResult('1').id == '1'  # no server there


@pytest.mark.parametrize('protocol', [2, 3])
def test_waiting_works_in_both_protocols(redis_url, protocol):
    with Celery('p', backend=f'{redis_url}?protocol={protocol}', set_as_current=False) as app:
        store(app, 'before', 1)
        assert app.AsyncResult('before').get(timeout=30) == 1
        threading.Timer(0.1, store, (app, 'after', 2)).start()
        assert app.AsyncResult('after').get(timeout=30) == 2
        group = app.GroupResult('g', [app.AsyncResult(f'm{n}') for n in range(200)])
        for n in range(200):
            store(app, f'm{n}', n)
        assert group.get(timeout=30) == list(range(200))
        app.backend.close()


def test_a_wait_outlives_a_restart_of_the_server(server):
    with Celery('r', backend=f'redis://127.0.0.1:{server.port}/0', set_as_current=False) as app:
        store(app, 'first', 1)
        assert app.AsyncResult('first').get(timeout=30) == 1
        threads, returned = in_threads(3, lambda n: app.AsyncResult(f'w{n}').get(timeout=30))
        await_subscriptions(app, ['w0', 'w1', 'w2'])
        server.stop()
        server.start()
        store(app, 'w0', 0)  # perhaps before they are subscribed again
        await_subscriptions(app, ['w1', 'w2'])
        store(app, 'w1', 1)
        store(app, 'w2', 2)
        for thread in threads:
            thread.join(30)
        assert sorted(returned) == [0, 1, 2]
        app.backend.close()


def test_a_timeout_holds_while_the_server_is_away(server):
    with Celery('away', backend=f'redis://127.0.0.1:{server.port}/0', set_as_current=False) as app:
        server.stop()
        start = time.monotonic()
        with pytest.raises((TimeoutError, redis.exceptions.ConnectionError)):
            app.AsyncResult('x').get(timeout=1.5)
        assert time.monotonic() - start < 4
        server.start()
        store(app, 'x', 1)
        assert app.AsyncResult('x').get(timeout=30) == 1
        app.backend.close()


def test_a_wrong_password_is_one_line_without_it():
    server = Server(free_port(), '--requirepass', 'right')
    try:
        app = Celery('pw', backend=f'redis://:wr0ng@127.0.0.1:{server.port}/0', set_as_current=False)
        for ask in (lambda: app.AsyncResult('x').state, lambda: store(app, 'x', 1),
                    lambda: app.AsyncResult('x').get(timeout=30)):
            with pytest.raises(BackendError, match='result_backend') as caught:
                ask()
            assert 'wr0ng' not in str(caught.value) and '\n' not in str(caught.value)
    finally:
        server.stop()


def test_a_child_process_has_connections_of_its_own(app):
    store(app, 'parent', 1)
    assert app.AsyncResult('parent').get(timeout=30) == 1
    pid = os.fork()
    if pid == 0:
        try:
            store(app, 'child', app.AsyncResult('parent').get(timeout=30) + 1)
        finally:
            os._exit(0)
    assert app.AsyncResult('child').get(timeout=60) == 2
    os.waitpid(pid, 0)
    store(app, 'again', 3)
    assert app.AsyncResult('again').get(timeout=30) == 3


def test_a_success_is_final(app):
    store(app, 'x', 1)
    store(app, 'x', ValueError('late'), states.FAILURE)
    assert app.AsyncResult('x').state == states.SUCCESS
    store(app, 'y', ValueError('early'), states.FAILURE)
    store(app, 'y', 2)
    assert app.AsyncResult('y').get(timeout=30) == 2


def test_results_expire_and_failures_by_their_own_setting(redis_url):
    app = Celery('e', backend=redis_url, set_as_current=False)
    app.conf.update(result_expires=100, result_failure_expires=1000)
    store(app, 'ok', 1)
    store(app, 'bad', ValueError(), states.FAILURE)
    assert 90 < app.backend.client.ttl('celery-task-meta-ok') <= 100
    assert 900 < app.backend.client.ttl('celery-task-meta-bad') <= 1000


@pytest.mark.parametrize(('deadline', 'least', 'most'), [(None, 40, 50), (1000, 1000, 90000)])
def test_an_open_chord_is_kept_until_its_deadline_or_as_long_as_its_setting_says(redis_url, deadline, least, most):
    app = Celery('e', backend=redis_url, set_as_current=False)
    app.conf.update(result_chord_expires=50, result_chord_deadline=deadline)
    app.backend.apply_chord(('g', []), app.signature({'task': 'body', 'chord_size': 2, 'options': {}}))
    for key in ('.s', '.o'):
        assert least < app.backend.client.ttl(f'celery-taskset-meta-g{key}') <= most


@pytest.mark.parametrize('settings', [{'result_compression': 'gzip'}, {'result_serializer': 'pickle'}])
def test_other_forms_of_storage_are_final_too(redis_url, settings):
    app = Celery('c', backend=redis_url, set_as_current=False)
    app.conf.update(settings, accept_content=['json', 'pickle'])
    store(app, 'x', {'v': 1})
    store(app, 'x', ValueError('late'), states.FAILURE)
    assert app.AsyncResult('x').get(timeout=30) == {'v': 1}


def test_celery_reads_our_results_and_we_read_celerys(app, redis_url):
    celery = importlib.import_module('celery')
    theirs = celery.Celery('t', broker='memory://', backend=redis_url, set_as_current=False)
    theirs.backend.store_result('theirs', {'a': 1}, states.SUCCESS)
    theirs.backend.store_result('their error', celery.exceptions.ChordError('x'), states.FAILURE)
    store(app, 'ours', {'b': 2})
    store(app, 'our error', ChordError('y'), states.FAILURE)
    store(app, 'key error', KeyError('z'), states.FAILURE)

    assert app.AsyncResult('theirs').get(timeout=30) == {'a': 1}
    assert theirs.AsyncResult('ours').result == {'b': 2}
    with pytest.raises(ChordError, match='x'):
        app.AsyncResult('their error').get(timeout=30)
    assert isinstance(theirs.AsyncResult('our error').result, celery.exceptions.ChordError)
    assert isinstance(theirs.AsyncResult('key error').result, KeyError)
    group = app.GroupResult('g', [app.AsyncResult('ours')], parent=app.AsyncResult('theirs'))
    group.save()
    restored = theirs.GroupResult.restore('g')
    assert restored.results[0].result == {'b': 2} and restored.parent.id == 'theirs'
    restored.forget()  # else Celery would look for the server when its results are collected
