"""The connection on which results are announced: non-blocking writes and reads, and a way to wake who waits."""

from __future__ import annotations

import os
import select
import ssl
from contextlib import suppress
from typing import Any

from canvaslite.backends.redis.replies import ReplyReader

__all__ = ('Stream',)

_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream:
    """A connection taken from redis-py's `pool`. One thread at a time may use it; any may `wake` that one."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.connection = pool.get_connection()
        try:
            # A pooled connection may have been closed by the server meanwhile; connecting does nothing if it is open.
            self.connection.connect()
            self.socket: Any = self.connection._sock
            self.socket.setblocking(False)
            self.speaks_resp3 = str(getattr(self.connection, 'protocol', 2)) == '3'
        except BaseException:
            self.connection.disconnect()
            pool.release(self.connection)
            raise
        self._replies = ReplyReader(arrays_are_pushed=not self.speaks_resp3)
        self._wake_in, self._wake_out = os.pipe()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)
        self._poll = select.poll()
        self._poll.register(self.socket, select.POLLIN)
        self._poll.register(self._wake_in, select.POLLIN)

    def send(self, data: bytes) -> None:
        """Write all of `data`."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.socket.send(view):]
            except _NOT_NOW:
                writable = select.poll()
                writable.register(self.socket, select.POLLOUT)
                writable.poll(1000)

    def receive(self, timeout: float) -> list[Any]:
        """Replies that have come within `timeout` seconds; none when woken. Raises `OSError` if it is broken."""
        if not (hasattr(self.socket, 'pending') and self.socket.pending()):
            ready = {descriptor for descriptor, _ in self._poll.poll(timeout * 1000)}
            if self._wake_in in ready:
                os.read(self._wake_in, 4096)
            if ready <= {self._wake_in}:
                return []
        try:
            data = self.socket.recv(262144)
        except _NOT_NOW:
            return []
        if not data:
            raise ConnectionResetError('the Redis server closed the connection')
        return self._replies.feed(data)

    def wake(self) -> None:
        """Make the thread that is in `receive` return."""
        with suppress(BlockingIOError):  # full of wake-ups already
            os.write(self._wake_out, b'.')

    def drop(self) -> None:
        """Close our end without a word to the server."""
        os.close(self._wake_in)
        os.close(self._wake_out)
        self.socket.close()

    def close(self) -> None:
        """Hang up, and give the connection back to the pool."""
        os.close(self._wake_in)
        os.close(self._wake_out)
        self.connection.disconnect()
        self._pool.release(self.connection)
