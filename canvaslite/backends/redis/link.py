"""Short conversations with the Redis server: a packed command out, a reply in.

redis-py makes and pools the connections (TLS, sentinel, passwords, …); speaking on their sockets ourselves costs a
tenth of what its command methods do, and that would be most of what storing a result costs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from hashlib import sha1
from typing import Any

from canvaslite.backends.redis.driver import error_of, redis
from canvaslite.backends.redis.replies import ErrorReply, Push, ReplyReader

__all__ = ('Link', 'Script', 'pack')


_SIZES = tuple(b'$%d' % size for size in range(1024))


def pack(*args: bytes) -> bytes:
    """A command as the server reads it."""
    parts = [b'*%d' % len(args)]
    for arg in args:
        size = len(arg)
        parts.append(_SIZES[size] if size < 1024 else b'$%d' % size)
        parts.append(arg)
    parts.append(b'')
    return b'\r\n'.join(parts)


class Script:
    """A Lua script, called by its digest."""

    __slots__ = ('digest', 'text')

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.digest = sha1(self.text).hexdigest().encode()


class _Conversation:
    """One connection, connected: commands out and replies in, straight on its socket."""

    __slots__ = ('_checked', '_reader', '_receive', '_send', 'connection')

    def __init__(self, connection: Any, checked: bool) -> None:
        connection.connect()
        self.connection = connection
        self._checked = checked
        self._send = connection._sock.sendall
        self._receive = connection._sock.recv
        self._reader = ReplyReader(arrays_are_pushed=False)

    def exchange(self, command: bytes) -> Any:
        """The reply to a command. Raises `OSError` when the connection breaks or is too slow."""
        if self._checked:
            self.connection.check_health()
        self._send(command)
        while True:
            data = self._receive(65536)
            if not data:
                raise ConnectionResetError('the Redis server closed the connection')
            for reply in self._reader.feed(data):
                if reply.__class__ is not Push:
                    return reply


class Link:
    """The connections of one process to one server. Any thread may call; each call has a connection to itself.

    `make_pool` makes redis-py's connection pool when it is first needed; `check_health` has connections that were
    idle for ``health_check_interval`` seconds tried before use.
    """

    def __init__(self, make_pool: Callable[[], Any], check_health: bool = False) -> None:
        self._make_pool = make_pool
        self._check_health = check_health
        self._pool: Any = None
        #: Conversations that nobody leads. Their connections stay checked out of the pool, whose own bookkeeping is
        #: slow.
        self._idle: deque[_Conversation] = deque()

    @property
    def pool(self) -> Any:
        """redis-py's connection pool."""
        if self._pool is None:
            self._pool = self._make_pool()
        return self._pool

    def call(self, command: bytes) -> Any:
        """The reply to a packed command. Raises redis-py's errors, and `OSError`."""
        try:
            conversation = self._idle.pop()
        except IndexError:
            conversation = self._begin()
        try:
            reply = conversation.exchange(command)
        except BaseException:
            # Also a time limit's signal in the middle of a reply: what is left of it must not be read as the next.
            self._discard(conversation.connection)
            raise
        if reply.__class__ is ErrorReply:
            error = error_of(reply)
            if isinstance(error, redis.exceptions.ReadOnlyError):
                self._discard(conversation.connection)  # a former master: there is a new one to connect to
            else:
                self._idle.append(conversation)
            raise error
        self._idle.append(conversation)
        return reply

    def run(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes, ...]) -> Any:
        """The reply of a script."""
        count = b'%d' % len(keys)
        try:
            return self.call(pack(b'EVALSHA', script.digest, count, *keys, *args))
        except redis.exceptions.NoScriptError:
            return self.call(pack(b'EVAL', script.text, count, *keys, *args))

    def _begin(self) -> _Conversation:
        connection = self.pool.get_connection()
        try:
            return _Conversation(connection, self._check_health)
        except BaseException:
            self._discard(connection)
            raise

    def _discard(self, connection: Any) -> None:
        connection.disconnect()
        self.pool.release(connection)

    def forget(self) -> None:
        """Drop all connections without a word: after a fork they are the parent's."""
        self._idle = deque()
        self._pool = None

    def close(self) -> None:
        """Close all connections."""
        idle, self._idle = self._idle, deque()
        pool, self._pool = self._pool, None
        for conversation in idle:
            conversation.connection.disconnect()
        if pool is not None:
            pool.disconnect()
