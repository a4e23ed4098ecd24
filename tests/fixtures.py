"""Real servers and real workers for every test that wants them.

RabbitMQ and Redis are nodes of the test run's own, started from the installed binaries on free ports, so that a
test may close every connection or stop the node; PostgreSQL and MariaDB answer on loopback and lend a schema.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_rabbitmq import factories

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


@pytest.fixture(scope='session')
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a Redis of the test run's own."""
    port, folder = free_port(), tmp_path_factory.mktemp('redis')
    server = subprocess.Popen(
        [
            'redis-server',
            '--port',
            str(port),
            '--bind',
            '127.0.0.1',
            '--save',
            '',
            '--appendonly',
            'no',
            '--dir',
            str(folder),
        ],
        stdout=subprocess.DEVNULL,
    )
    await_port(port)
    yield port
    server.terminate()
    server.wait(10)


@pytest.fixture
def redis_url(redis_port: int) -> Iterator[str]:
    """URL of an empty Redis database."""
    yield f'redis://127.0.0.1:{redis_port}/0'
    subprocess.run(['redis-cli', '-p', str(redis_port), 'flushall'], check=True, stdout=subprocess.DEVNULL)


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
