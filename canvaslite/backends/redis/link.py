"""redis-py (this is the one place that imports it), and short conversations on its connections.

redis-py makes the connections, speaks their protocol and hides TLS, sentinels and passwords. Its client and its pool's
bookkeeping would take three times as long as the command itself, so connections are kept aside between commands.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from canvaslite.backends.redis.scripts import Script
from canvaslite.exceptions import ImproperlyConfigured

try:
    import redis as redis
    import redis.cluster
    import redis.sentinel
except ImportError as exc:
    raise ImproperlyConfigured(
        "result_backend: Redis needs the redis package: pip install 'canvaslite[redis]'") from exc

logger = logging.getLogger('celery.backends.redis')

#: Errors after which the same command may succeed on a new connection.
CONNECTION_ERRORS: tuple[type[Exception], ...] = (
    redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError, OSError)

#: The same of a cluster, while a node is away or slots move.
CLUSTER_ERRORS: tuple[type[Exception], ...] = (
    redis.exceptions.ClusterError, redis.exceptions.TryAgainError, redis.exceptions.RedisClusterException)

Told = tuple[Script, tuple[bytes, ...], tuple[bytes, ...]]


class Link:
    """Connections of one process to one server, one for each call in any thread; `make_pool` makes redis-py's pool."""

    def __init__(self, make_pool: Callable[[], Any]) -> None:
        self._make_pool = make_pool
        self.forget()

    def forget(self) -> None:
        """Drop all connections without a word: after a fork they are the parent's."""
        self._pool: Any = None
        self._idle: deque[Any] = deque()
        #: What was told on a connection, while its answer was not read; and what was not even sent.
        self._told: dict[Any, Told] = {}
        self._unsent: dict[Any, bytes] = {}
        self._loaded: set[bytes] = set()

    @property
    def pool(self) -> Any:
        """redis-py's connection pool."""
        if self._pool is None:
            self._pool = self._make_pool()
        return self._pool

    def connect(self) -> Any:
        """A connection, to be given to `discard` in the end."""
        return self.pool.get_connection()

    def call(self, *command: bytes) -> Any:
        """The reply to a command. Raises redis-py's errors."""
        connection = self._take()
        try:
            self._send(connection, command)
            if connection in self._told:
                self._hear(connection)
            reply = connection.read_response(disable_decoding=True)
        except redis.exceptions.ReadOnlyError:
            self.discard(connection)  # a former master: there is a new one to connect to
            raise
        except redis.exceptions.ResponseError:
            self._idle.append(connection)
            raise
        except BaseException:
            # Also a time limit's signal in the middle of a reply: what is left of it must not be read as the next.
            self.discard(connection)
            raise
        self._idle.append(connection)
        return reply

    def _take(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return self.connect()

    def _send(self, connection: Any, command: tuple[bytes, ...]) -> None:
        unsent = self._unsent.pop(connection, None) if self._unsent else None
        if unsent is None:
            connection.send_command(*command)
        else:
            connection.send_packed_command([unsent + b''.join(connection.pack_command(*command))])

    def tell(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...], waits: bool = False) -> None:
        """Have a script run, of which the reply says nothing: it is read with that of the next call. If it `waits` it
        is sent with that call too."""
        if script.digest not in self._loaded:
            self.run(script, keys, args)
            self._loaded.add(script.digest)
            return
        connection, command = self._take(), (b'EVALSHA', script.digest, b'%d' % len(keys), *keys, *args)
        try:
            if connection in self._told:
                self._hear(connection)
            if waits:
                self._unsent[connection] = b''.join(connection.pack_command(*command))
            else:
                connection.send_command(*command)
        except BaseException:
            self.discard(connection)
            raise
        self._told[connection] = script, keys, args
        self._idle.append(connection)

    def _hear(self, connection: Any) -> None:
        """Read the reply to what was told; if that went wrong, say it again, on another connection."""
        told, unsent = self._told.pop(connection), self._unsent.pop(connection, None)
        try:
            if unsent is not None:
                connection.send_packed_command([unsent])
            connection.read_response(disable_decoding=True)
        except redis.exceptions.NoScriptError:
            self.run(*told)  # the server has forgotten its scripts
        except redis.exceptions.ResponseError as exc:
            logger.warning('Redis did not do what it was told: %s', exc)

    def run(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        """The reply of a script."""
        try:
            return self.call(b'EVALSHA', script.digest, b'%d' % len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return self.call(b'EVAL', script.text, b'%d' % len(keys), *keys, *args)

    def discard(self, connection: Any) -> None:
        """Hang up, and give the connection back to the pool."""
        self._told.pop(connection, None)
        self._unsent.pop(connection, None)
        connection.disconnect()
        self.pool.release(connection)

    def close(self) -> None:
        """Close all connections."""
        pool = self._pool
        self.forget()
        if pool is not None:
            pool.disconnect()
