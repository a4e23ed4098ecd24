"""Results in memcached, where one is installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from canvaslite import Celery, states
from canvaslite.exceptions import ImproperlyConfigured
from tests.fixtures import await_port, free_port

pytest.importorskip('pymemcache')
if shutil.which('memcached') is None:
    pytest.skip('no memcached is installed', allow_module_level=True)


@pytest.fixture(scope='module')
def url() -> Iterator[str]:
    port = free_port()
    server = subprocess.Popen(['memcached', '-u', 'root', '-p', str(port), '-l', '127.0.0.1'])
    await_port(port)
    yield f'cache+memcached://127.0.0.1:{port}/'
    server.terminate()
    server.wait(10)


def make(url: str) -> Any:
    return Celery('unit', broker='memory://', backend=url, set_as_current=False)


def test_a_result_is_read_by_another_client_until_it_is_forgotten(url: str) -> None:
    task_id = str(uuid.uuid4())
    assert make(url).backend.get_state(task_id) == states.PENDING

    make(url).backend.mark_as_done(task_id, {'a': 1})
    assert make(url).AsyncResult(task_id).get(timeout=5) == {'a': 1}

    make(url).backend.forget(task_id)
    assert make(url).backend.get_state(task_id) == states.PENDING


def test_celery_and_we_read_each_other_s_results(url: str) -> None:
    celery = pytest.importorskip('celery')
    theirs = celery.Celery('theirs', broker='memory://', backend=url, set_as_current=False)
    ours, one, two = make(url), str(uuid.uuid4()), str(uuid.uuid4())

    theirs.backend.mark_as_done(one, 1)
    ours.backend.mark_as_done(two, 2)

    assert ours.AsyncResult(one).get(timeout=5) == 1
    assert theirs.AsyncResult(two).get(timeout=5) == 2


def test_a_server_must_be_named() -> None:
    with pytest.raises(ImproperlyConfigured, match='memcached needs a server'):
        make('cache+memcached://').backend


def test_a_server_that_is_away_is_an_error_and_not_a_wait() -> None:
    with socket.socket() as taken, pytest.raises(OSError):
        taken.bind(('127.0.0.1', 0))
        make(f'cache+memcached://127.0.0.1:{taken.getsockname()[1]}/').backend.mark_as_done('id', 1)
