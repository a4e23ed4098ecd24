"""A way between client and broker on which a test can cut, hold and chop the bytes."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Forwards connections to the broker of `url`; `self.url` leads through it.

    `piece`: most bytes handed to the client at once. `tls`: the client's side speaks TLS with this context.
    """

    def __init__(self, url: str, piece: int = 65536, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        self._broker = (parts.hostname, parts.port)
        self._piece = piece
        self._tls = tls
        self._listener = socket.create_server(('127.0.0.1', 0))
        port = self._listener.getsockname()[1]
        scheme = 'amqps' if tls else 'amqp'
        self.url = urlunsplit((scheme, f'guest:guest@127.0.0.1:{port}', parts.path, '', ''))
        self._sockets: list[socket.socket] = []
        self._may_forward = threading.Event()
        self._may_forward.set()
        self._cut_after: int | None = None
        #: Seconds by which whatever passes is late, in either direction.
        self.delay = 0.0
        self._stranded: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, size: int) -> None:
        """End every connection when `size` more bytes have come from the client."""
        self._cut_after = size

    def hold(self) -> None:
        """Take nothing from anybody until `let_go`."""
        self._may_forward.clear()

    def let_go(self) -> None:
        self._may_forward.set()

    def cut(self) -> None:
        """End every connection, without a word."""
        ends, self._sockets = self._sockets, []
        _reset(ends)

    def strand(self, last_words: bytes = b'') -> None:
        """From now on nothing gets through on the connections that there are, in either direction, and nobody is told:
        they are half open. The client still gets `last_words`."""
        ends, self._sockets = self._sockets, []
        self._stranded.update(ends)
        for client in ends[::2]:
            if last_words:
                client.sendall(last_words)

    def end_stranded(self) -> None:
        """Reset the connections that are half open."""
        stranded, self._stranded = self._stranded, set()
        _reset(stranded)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._tls:
                    try:
                        client = self._tls.wrap_socket(client, server_side=True)
                    except OSError:  # a client that does not want the certificate; the next one may
                        continue
                try:
                    broker = socket.create_connection(self._broker)
                except OSError:  # it is away; who came is told so
                    client.close()
                    continue
                self._sockets += [client, broker]
                threading.Thread(target=self._forward_up, args=(client, broker), daemon=True).start()
                threading.Thread(target=self._forward_down, args=(broker, client), daemon=True).start()

    def _forward_up(self, client: socket.socket, broker: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while self._may_forward.wait() and (data := client.recv(4096)):
                self._may_forward.wait()
                if client in self._stranded:
                    continue
                time.sleep(self.delay)
                if self._cut_after is not None:
                    data = data[:self._cut_after]
                    self._cut_after -= len(data)
                broker.sendall(data)
                if self._cut_after == 0:
                    self._cut_after = None
                    self.cut()
        _end(broker)

    def _forward_down(self, broker: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while self._may_forward.wait() and (data := broker.recv(self._piece)):
                self._may_forward.wait()
                time.sleep(self.delay)
                if client not in self._stranded:
                    client.sendall(data)
        _end(client)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:
        self._listener.close()
        self.let_go()
        self.end_stranded()
        self.cut()


def _reset(ends: Iterable[socket.socket]) -> None:
    for sock in ends:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            sock.shutdown(socket.SHUT_RDWR)


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
