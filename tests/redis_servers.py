"""Redis servers of a test's own, which it may stop, start again, and let lose what they have."""

from __future__ import annotations

import contextlib
import importlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.fixtures import await_port, free_port

redis = importlib.import_module('redis')

NOTHING_KEPT = ('--save', '')
#: Each write is on the disk before it is answered.
ALL_KEPT = (*NOTHING_KEPT, '--appendonly', 'yes', '--appendfsync', 'always')


class RedisServer:
    """A process of ``redis-server`` on a free port. It keeps what it has only if `options` say so, in `folder`."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.folder, self.options, self.port = folder, options or NOTHING_KEPT, port or free_port()
        self.start()

    @property
    def url(self) -> str:
        return f'redis://127.0.0.1:{self.port}/0'

    @property
    def client(self) -> Any:
        return redis.Redis(port=self.port)

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            ['redis-server', *self.options, '--port', str(self.port), '--bind', '127.0.0.1', '--dir', str(self.folder)],
            stdout=subprocess.DEVNULL)
        await_port(self.port)

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """End it as an administrator does: its replicas get what they lack."""
        self.process.terminate()
        self.process.wait(10)


def wait_for(what: str, is_so: Callable[[], bool]) -> None:
    """Return when it is so."""
    until = time.monotonic() + 20
    while True:
        with contextlib.suppress(redis.exceptions.RedisError):
            if is_so():
                return
        assert time.monotonic() < until, f'{what} did not come to be'
        time.sleep(0.02)


@contextlib.contextmanager
def redis_server(folder: Path, *options: str, port: int | None = None) -> Iterator[RedisServer]:
    """A server that ends with the block."""
    server = RedisServer(folder, *options, port=port)
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def master_and_replica(folder: Path) -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """A master called ``mymaster``, its replica, and a sentinel that makes this the master when that one is gone."""
    with contextlib.ExitStack() as servers:
        def serve(name: str, *options: str) -> RedisServer:
            return servers.enter_context(redis_server(folder / name, *options))

        master = serve('master')
        replica = serve('replica', *NOTHING_KEPT, '--replicaof', f'127.0.0.1 {master.port}')
        wait_for('the replica', lambda: replica.client.info('replication')['master_link_status'] == 'up')
        config = folder / 'sentinel.conf'
        config.write_text(f'sentinel monitor mymaster 127.0.0.1 {master.port} 1\n'
                          'sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n')
        sentinel = serve('sentinel', str(config), '--sentinel')
        wait_for('the sentinel', lambda: len(sentinel.client.sentinel_slaves('mymaster')) == 1)
        yield master, replica, sentinel


@contextlib.contextmanager
def redis_cluster(folder: Path) -> Iterator[list[RedisServer]]:
    """Three masters that share all hash slots."""
    with contextlib.ExitStack() as stack:
        options = (*ALL_KEPT, '--cluster-enabled', 'yes', '--cluster-node-timeout', '2000')
        servers = [stack.enter_context(redis_server(folder / name, *options, port=port_of_a_node())) for name in 'abc']
        subprocess.run(['redis-cli', '--cluster', 'create', *(f'127.0.0.1:{server.port}' for server in servers),
                        '--cluster-yes'], check=True, stdout=subprocess.DEVNULL, timeout=60)
        wait_for('the cluster', lambda: all(node.client.cluster('info')['cluster_state'] == 'ok' for node in servers))
        yield servers


def port_of_a_node() -> int:
    """A free port above which, as nodes want for what they say to each other, one that is 10,000 higher is free too."""
    while True:
        port = free_port()
        with contextlib.suppress(OSError, OverflowError), socket.socket() as sock:
            sock.bind(('127.0.0.1', port + 10_000))
            return port
