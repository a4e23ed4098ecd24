"""Short conversations with the Redis server: a packed command out, a reply in.

redis-py makes and pools the connections (TLS, sentinel, passwords, …); sending ready-made bytes on one of them costs a
tenth of what its command methods do, and that is most of what storing a result costs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import sha1
from typing import Any

__all__ = ('Link', 'Script', 'pack')


def pack(*args: bytes) -> bytes:
    """A command as the server reads it."""
    parts = [b'*%d\r\n' % len(args)]
    parts += [b'$%d\r\n%b\r\n' % (len(arg), arg) for arg in args]
    return b''.join(parts)


class Script:
    """A Lua script, called by its digest."""

    __slots__ = ('digest', 'text')

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.digest = sha1(self.text).hexdigest().encode()


class Link:
    """The connections of one process to one server. Any thread may call; each call has a connection to itself.

    `make_pool` makes redis-py's connection pool when it is first needed.
    """

    def __init__(self, make_pool: Callable[[], Any], refused: tuple[type[Exception], ...],
                 script_missing: type[Exception]) -> None:
        self._make_pool = make_pool
        self._refused = refused
        self._script_missing = script_missing
        self._pool: Any = None
        #: Connections that nobody uses. They stay checked out of the pool, whose own bookkeeping is slow.
        self._idle: deque[Any] = deque()

    @property
    def pool(self) -> Any:
        """redis-py's connection pool."""
        if self._pool is None:
            self._pool = self._make_pool()
        return self._pool

    def call(self, command: bytes) -> Any:
        """The reply to a packed command. Raises redis-py's errors."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self.pool.get_connection()
        try:
            connection.send_packed_command((command,))
            reply = connection.read_response(disable_decoding=True)
        except self._refused:
            # The server understood and said no: the connection is as good as before.
            self._idle.append(connection)
            raise
        except BaseException:
            # Also a time limit's signal in the middle of a reply: what is left of it must not be read as the next.
            self._discard(connection)
            raise
        self._idle.append(connection)
        return reply

    def run(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        """The reply of a script."""
        count = b'%d' % len(keys)
        try:
            return self.call(pack(b'EVALSHA', script.digest, count, *keys, *args))
        except self._script_missing:
            return self.call(pack(b'EVAL', script.text, count, *keys, *args))

    def _discard(self, connection: Any) -> None:
        pool = self.pool
        connection.disconnect()
        pool.release(connection)

    def forget(self) -> None:
        """Drop all connections without a word: after a fork they are the parent's."""
        self._idle = deque()
        self._pool = None

    def close(self) -> None:
        """Close all connections."""
        idle, self._idle = self._idle, deque()
        pool, self._pool = self._pool, None
        for connection in idle:
            connection.disconnect()
        if pool is not None:
            pool.disconnect()
