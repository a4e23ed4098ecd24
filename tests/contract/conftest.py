"""Every result store, behind the same sentences.

A test that takes `app` runs once for each store: `ALL` of them, or those that its mark names::

    @on(JOINING)
    def test_...(app): ...

`make_app` makes more apps on the same store, each with caches and connections of its own, as other processes have.
"""

from __future__ import annotations

import contextlib
import importlib
import socket
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from canvaslite import Celery
from canvaslite.backends import cache
from canvaslite.context import Context
from tests.fixtures import await_port, free_port

#: Stores by what they can do. `memory` is one process's own, `rpc` keeps nothing that was read.
SHARED = ('redis', 'sqlite', 'postgresql', 'mysql', 'file', 'memcached')
KEEPING = (*SHARED, 'memory')
ALL = JOINING = (*KEEPING, 'rpc')
#: Stores in which every process sees the same, by whatever means.
CROSSING = (*SHARED, 'rpc')


def on(stores: tuple[str, ...], **settings: Any) -> Any:
    """Run a test on those stores, with these settings."""
    return pytest.mark.parametrize('app', [pytest.param((name, settings), id=name) for name in stores], indirect=True)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f'db+sqlite:///{tmp_path}/results.sqlite'


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """URL of an empty schema of the PostgreSQL on loopback."""
    psycopg2 = importlib.import_module('psycopg2')
    try:
        server = psycopg2.connect('postgresql://postgres@127.0.0.1/postgres', connect_timeout=3)
    except psycopg2.OperationalError as exc:
        pytest.fail(f'no PostgreSQL on 127.0.0.1:5432 (user postgres); tests/start-servers starts one: {exc}')
    server.autocommit = True
    schema = f'cl_{uuid.uuid4().hex[:8]}'
    with contextlib.closing(server), server.cursor() as cursor:
        cursor.execute(f'CREATE SCHEMA {schema}')
        yield f'db+postgresql://postgres@127.0.0.1/postgres?options=-csearch_path%3D{schema}'
        cursor.execute(f'DROP SCHEMA {schema} CASCADE')


@pytest.fixture
def mysql_url() -> Iterator[str]:
    """URL of an empty database of the MariaDB or MySQL on loopback."""
    pymysql = importlib.import_module('pymysql')
    try:
        server = pymysql.connect(host='127.0.0.1', user='root', connect_timeout=3)
    except pymysql.err.OperationalError as exc:
        pytest.fail(f'no MariaDB on 127.0.0.1:3306 (user root, no password); tests/start-servers starts one: {exc}')
    name = f'cl_{uuid.uuid4().hex[:8]}'
    with contextlib.closing(server), server.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE {name}')
        yield f'db+mysql://root@127.0.0.1/{name}'
        cursor.execute(f'DROP DATABASE {name}')


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    (tmp_path / 'results').mkdir()
    return f'file://{tmp_path}/results'


@pytest.fixture(scope='session')
def memcached_port() -> Iterator[int]:
    """Port of a memcached of the test run's own."""
    port = free_port()
    server = subprocess.Popen(['memcached', '-l', '127.0.0.1', '-p', str(port), '-U', '0', '-u', 'nobody'])
    await_port(port)
    yield port
    server.terminate()
    server.wait(10)


@pytest.fixture
def memcached_url(memcached_port: int) -> Iterator[str]:
    """URL of an empty memcached."""
    yield f'cache+memcached://127.0.0.1:{memcached_port}/'
    with socket.create_connection(('127.0.0.1', memcached_port)) as server:
        server.sendall(b'flush_all\r\n')
        server.recv(16)


@pytest.fixture
def memory_url() -> str:
    return 'cache+memory://'


@pytest.fixture
def rpc_url() -> str:
    return 'rpc://'


@pytest.fixture
def folder_broker(tmp_path: Path) -> str:
    """URL of a broker that processes share without a server. Its folders are options of the transport."""
    for name in ('messages', 'processed', 'control'):
        (tmp_path / name).mkdir(exist_ok=True)
    return 'filesystem://'


@pytest.fixture
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """The settings of an app with a store of that name."""

    def settings_of(name: str) -> dict[str, Any]:
        settings: dict[str, Any] = {'result_backend': request.getfixturevalue(f'{name}_url')}
        if name == 'rpc':
            return {**settings, 'broker_url': request.getfixturevalue('broker_url')}
        folders = {'data_folder_in': f'{tmp_path}/messages', 'data_folder_out': f'{tmp_path}/messages',
                   'processed_folder': f'{tmp_path}/processed', 'control_folder': f'{tmp_path}/control'}
        return {**settings, 'broker_url': request.getfixturevalue('folder_broker'), 'broker_transport_options': folders}

    return settings_of


@pytest.fixture
def make_app(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Make another app on the store of `app`; keyword arguments are settings."""
    made = []

    def make(**settings: Any) -> Any:
        app = Celery('contract', set_as_current=False, changes={**request.getfixturevalue('app').given, **settings})
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


@pytest.fixture
def app(request: pytest.FixtureRequest, store_settings: Callable[[str], dict[str, Any]]) -> Iterator[Any]:
    """An app on a store: the parameter is ``(name of the store, settings)``."""
    name, settings = request.param
    given = {**store_settings(name), **settings}
    app = Celery('contract', set_as_current=False, changes=given)
    app.given = given
    app.store = name
    app.set_current()
    yield app
    app.close()
    cache.memory.chords.clear()  # one for all apps of this process


@pytest.fixture
def request_of(app: Any) -> Callable[..., Context]:
    """Make the request of a task that this thread has sent."""

    def make(task_id: str, **values: Any) -> Context:
        return Context(id=task_id, reply_to=app.thread_oid, correlation_id=task_id, **values)

    return make


@pytest.fixture
def sent(app: Any) -> Callable[..., str]:
    """Pretend to send a task: prepare what the store prepares then; return the task's id."""

    def send() -> str:
        task_id = str(uuid.uuid4())
        app.backend.on_task_call(None, task_id)
        return task_id

    return send
