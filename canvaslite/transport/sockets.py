"""The socket under a connection: large reads, and a clean end when reading or writing is interrupted.

py-amqp's transports read exactly as many bytes as the next piece of a frame needs. These read what there is;
`inbound.InboundFrames` keeps what is not used yet.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import socket
from typing import Any

import amqp.transport

#: Bytes asked for with one read.
RECEIVE_SIZE = 65536

#: Seconds to wait for the peer's end of a TLS session. AMQP has been closed before; nothing can get lost.
_GOODBYE_TIMEOUT = 1.0
_NOTHING_YET = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ENOENT})
_DONT_WAIT: int | None = getattr(socket, 'MSG_DONTWAIT', None)


class _BufferedSocket:
    """What both kinds share; mixed into py-amqp's transport of that kind."""

    # attributes of py-amqp's transport
    sock: Any
    connected: bool
    having_timeout: Any

    def receive(self, timeout: float | None) -> bytes:
        """At least one byte, waited for up to `timeout` seconds (``None``: as long as it takes). Raises `TimeoutError`
        when nothing came, another `OSError` when the connection is lost."""
        try:
            data: bytes = self._receive(timeout)
        except BlockingIOError:
            raise TimeoutError('no data from the broker yet') from None
        except OSError as error:
            if error.errno in _NOTHING_YET or (isinstance(error, TimeoutError) and error.errno is None):
                raise TimeoutError('no data from the broker yet') from None
            self.break_off()
            if isinstance(error, TimeoutError):  # the network's own time-out: no news but the end of the connection
                raise ConnectionResetError(error.errno, 'the broker cannot be reached any more') from None
            raise
        if not data:
            self.break_off()
            raise ConnectionResetError(errno.ECONNRESET, 'the broker closed the connection')
        return data

    def _receive(self, timeout: float | None) -> bytes:
        with self.having_timeout(timeout):
            return self.sock.recv(RECEIVE_SIZE)

    def pending(self) -> bool:
        """Whether bytes wait where no poll of the file descriptor can see them."""
        return False

    def break_off(self) -> None:
        """End the connection without a word to the broker. Its descriptor stays open: an event loop may still watch it.
        """
        self.connected = False
        if self.sock is not None:
            with contextlib.suppress(OSError):  # the peer may have ended it already
                self.sock.shutdown(socket.SHUT_RDWR)


class BufferedTCP(_BufferedSocket, amqp.transport.TCPTransport):
    """A plain connection."""

    _no_wait = False

    def _setup_transport(self) -> None:
        super()._setup_transport()
        # The sockets of gevent and eventlet only look like the built-in one, and would wait in spite of the flag.
        self._no_wait = _DONT_WAIT is not None and isinstance(self.sock, _socket.socket)

    def _receive(self, timeout: float | None) -> bytes:
        if timeout == 0 and self._no_wait:
            return self.sock.recv(RECEIVE_SIZE, _DONT_WAIT)
        if timeout is None:
            return self.sock.recv(RECEIVE_SIZE)
        return super()._receive(timeout)


class BufferedTLS(_BufferedSocket, amqp.transport.SSLTransport):
    """A connection over TLS."""

    def _write(self, data: bytes | memoryview) -> None:
        # A view, because what TLS did not take in one go is sliced off the front again and again.
        amqp.transport.SSLTransport._write(self, memoryview(data))

    def _shutdown_transport(self) -> None:
        if self.connected:  # otherwise there is nobody to say goodbye to
            self.sock.settimeout(_GOODBYE_TIMEOUT)
            super()._shutdown_transport()

    def pending(self) -> bool:
        return self.sock is not None and self.sock.pending() > 0
