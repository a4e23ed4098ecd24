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
    import redis.sentinel
except ImportError as exc:
    raise ImproperlyConfigured(
        "result_backend: Redis needs the redis package: pip install 'canvaslite[redis]'") from exc

logger = logging.getLogger('celery.backends.redis')

#: Errors after which the same command may succeed on a new connection.
CONNECTION_ERRORS: tuple[type[Exception], ...] = (
    redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError, OSError)


class Link:
    """Connections of one process to one server, one for each call in any thread; `make_pool` makes redis-py's pool."""

    def __init__(self, make_pool: Callable[[], Any]) -> None:
        self._make_pool = make_pool
        self.forget()

    def forget(self) -> None:
        """Drop all connections without a word: after a fork they are the parent's."""
        self._pool: Any = None
        self._idle: deque[Any] = deque()

    @property
    def pool(self) -> Any:
        """redis-py's connection pool."""
        if self._pool is None:
            self._pool = self._make_pool()
        return self._pool

    def call(self, *command: bytes) -> Any:
        """The reply to a command. Raises redis-py's errors."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self.pool.get_connection()
        try:
            connection.send_command(*command)
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

    def run(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        """The reply of a script."""
        try:
            return self.call(b'EVALSHA', script.digest, b'%d' % len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return self.call(b'EVAL', script.text, b'%d' % len(keys), *keys, *args)

    def discard(self, connection: Any) -> None:
        """Hang up, and give the connection back to the pool."""
        connection.disconnect()
        self.pool.release(connection)

    def close(self) -> None:
        """Close all connections."""
        pool = self._pool
        self.forget()
        if pool is not None:
            pool.disconnect()
