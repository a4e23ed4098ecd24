"""Real servers and real workers for every test that wants them.

RabbitMQ and Redis are nodes of the test run's own, started from the installed binaries on free ports, so that a
test may close every connection or stop the node; PostgreSQL and MariaDB answer on loopback and lend a schema.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pytest_rabbitmq import factories
from xdist.scheduler import LoadScopeScheduling

from tests.workers import WorkerProcess

APPS = Path(__file__).parent / 'apps'

# A node of ours must not inherit the listeners of a system-wide configuration.
_rabbitmq_config = Path(tempfile.mkdtemp(prefix='canvaslite-rabbitmq-'))
(_rabbitmq_config / 'rabbitmq.conf').write_text(
    'vm_memory_high_watermark.relative = 0.8\ndisk_free_limit.absolute = 50MB\n'
)
(_rabbitmq_config / 'rabbitmq-env.conf').write_text('')
os.environ['RABBITMQ_CONFIG_FILE'] = str(_rabbitmq_config / 'rabbitmq.conf')
os.environ['RABBITMQ_CONF_ENV_FILE'] = str(_rabbitmq_config / 'rabbitmq-env.conf')

rabbitmq_proc = factories.rabbitmq_proc(node=f'canvaslite-{os.getpid()}@localhost')


def pytest_sessionfinish() -> None:
    shutil.rmtree(_rabbitmq_config, ignore_errors=True)


# What the processes of pytest-xdist lock: all go through the gate one by one, and whoever wants the room for itself
# keeps the gate until it is empty, or it would never be.
_gate, _room = (os.open(path, os.O_RDONLY) for path in (APPS, __file__))


class InsideTogether(LoadScopeScheduling):  # type: ignore[misc]
    """The tests that run in the process of pytest itself, and seldom wait, stay in one, in their order."""

    FOLDERS = ('tests/architecture/', 'tests/contract/', 'tests/model/', 'tests/unit/')

    def _split_scope(self, nodeid: str) -> str:
        return 'inside' if nodeid.startswith(self.FOLDERS) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> InsideTogether:
    return InsideTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that are marked `alone`: the later they come, the longer the tests that all wait for."""
    items.sort(key=lambda item: item.get_closest_marker('alone') is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Run a test that is marked `alone` while no other process runs one."""
    if not hasattr(item.config, 'workerinput'):
        return (yield)
    fcntl.flock(_gate, fcntl.LOCK_EX)
    fcntl.flock(_room, fcntl.LOCK_EX if item.get_closest_marker('alone') else fcntl.LOCK_SH)
    fcntl.flock(_gate, fcntl.LOCK_UN)
    try:
        return (yield)
    finally:
        fcntl.flock(_room, fcntl.LOCK_UN)


@pytest.fixture(scope='session')
def rabbitmqctl(rabbitmq_proc: Any) -> Callable[..., str]:
    """Run ``rabbitmqctl`` on the test run's own node."""
    return rabbitmq_proc.rabbitctl_output


class Vhosts:
    """Virtual hosts of the test run's node, made by the dozen: asking ``rabbitmqctl`` takes about a second."""

    DOZEN = 12

    def __init__(self, rabbitmqctl: Callable[..., str]) -> None:
        self.rabbitmqctl = rabbitmqctl
        self.unused: list[str] = []

    def take(self) -> str:
        """The name of one that nobody has used."""
        if not self.unused:
            names = [f'test-{uuid.uuid4().hex[:8]}' for _ in range(self.DOZEN)]
            quoted = ','.join(f'<<"{name}">>' for name in names)
            self.rabbitmqctl(
                'eval',
                f'[begin rabbit_vhost:add(V, <<"tests">>), '
                f'rabbit_auth_backend_internal:set_permissions('
                f'<<"guest">>, V, <<".*">>, <<".*">>, <<".*">>, <<"tests">>) '
                f'end || V <- [{quoted}]].',
            )
            self.unused = names
        return self.unused.pop()


@pytest.fixture(scope='session')
def vhosts(rabbitmqctl: Callable[..., str]) -> Vhosts:
    return Vhosts(rabbitmqctl)


@pytest.fixture
def broker_url(rabbitmq_proc: Any, vhosts: Vhosts) -> str:
    """URL of a vhost that only this test uses."""
    return f'amqp://guest:guest@127.0.0.1:{rabbitmq_proc.port}/{vhosts.take()}'


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return int(sock.getsockname()[1])


def await_port(port: int, timeout: float = 20.0) -> None:
    """Return when something accepts connections on loopback `port`."""
    until = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection(('127.0.0.1', port), 1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)


@contextlib.contextmanager
def serving(port: int, *command: str) -> Iterator[int]:
    """`port`, while this server runs there."""
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    await_port(port)
    yield port
    server.terminate()
    server.wait(10)


def load_app(name: str) -> ModuleType:
    """The module of that name in tests/apps, anew: with an app of its own."""
    spec = importlib.util.spec_from_file_location(name, APPS / f'{name}.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def close_later() -> Iterator[Callable[[Any], Any]]:
    """Gives back the app that it gets, and closes it after the test."""
    with contextlib.ExitStack() as apps:
        yield lambda app: apps.enter_context(contextlib.closing(app))


@pytest.fixture(scope='session')
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a Redis of the test run's own."""
    port, folder = free_port(), tmp_path_factory.mktemp('redis')
    with serving(port, 'redis-server', '--port', str(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no',
                 '--dir', str(folder)):
        yield port


@pytest.fixture
def redis_url(redis_port: int) -> Iterator[str]:
    """URL of an empty Redis database."""
    yield f'redis://127.0.0.1:{redis_port}/0'
    subprocess.run(['redis-cli', '-p', str(redis_port), 'flushall'], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f'db+sqlite:///{tmp_path}/results.sqlite'


@pytest.fixture
def postgresql_schema() -> Iterator[tuple[str, Any]]:
    """Name of an empty schema of the PostgreSQL on loopback, and a cursor there."""
    psycopg2 = importlib.import_module('psycopg2')
    try:
        server = psycopg2.connect('postgresql://postgres@127.0.0.1/postgres', connect_timeout=3)
    except psycopg2.OperationalError as exc:
        pytest.fail(f'no PostgreSQL on 127.0.0.1:5432 (user postgres); tests/start-servers starts one: {exc}')
    server.autocommit = True
    schema = f'cl_{uuid.uuid4().hex[:8]}'
    with contextlib.closing(server), server.cursor() as cursor:
        cursor.execute(f'CREATE SCHEMA {schema}')
        yield schema, cursor
        cursor.execute(f'DROP SCHEMA {schema} CASCADE')


@pytest.fixture
def postgresql_url(postgresql_schema: tuple[str, Any]) -> str:
    """URL of an empty schema of the PostgreSQL on loopback."""
    return f'db+postgresql://postgres@127.0.0.1/postgres?options=-csearch_path%3D{postgresql_schema[0]}'


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
    with serving(port, 'memcached', '-l', '127.0.0.1', '-p', str(port), '-U', '0', '-u', 'nobody'):
        yield port


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
def start_worker(tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start ``canvaslite -A <app> worker …`` as a process of its own and await that it is ready.

    ``start_worker('proj', '-c', '2', BROKER=…, BACKEND=…)``: upper-case keywords are its environment.
    """
    workers: list[WorkerProcess] = []

    def start(
        app: str, *options: str, package: str = 'canvaslite', await_ready: bool = True, **env: str
    ) -> WorkerProcess:
        worker = WorkerProcess(
            [sys.executable, '-m', package, '-A', app, 'worker', *options],
            env={'PYTHONPATH': str(APPS), **env},
            cwd=tmp_path,
        )
        workers.append(worker)
        if await_ready:
            worker.await_line(r'\bready\.$')
        return worker

    yield start
    for worker in workers:
        worker.kill()
