"""`Doorbell`: makes the loop take another turn at once, from its own thread or from another."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any


class Doorbell:
    """A socket pair on which the loop waits. `answer` is called in the loop's thread, once for any number of rings."""

    __slots__ = ('_answer', '_reader', '_rung', '_writer')

    def __init__(self, answer: Callable[[], None]) -> None:
        self._answer = answer
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._rung = False

    def register(self, hub: Any) -> None:
        hub.add_reader(self._reader, self._on_readable)

    def ring(self) -> None:
        """Have the loop take another turn. Safe in any thread and in signal handlers."""
        if not self._rung:
            self._rung = True
            with contextlib.suppress(OSError):  # full means rung; closed means nobody waits
                self._writer.send(b'\0')

    def _on_readable(self) -> None:
        with contextlib.suppress(OSError):
            self._reader.recv(4096)
        # Only now: a ring between the two would be read away, and every later one taken for still pending.
        self._rung = False
        self._answer()

    def unregister(self, hub: Any) -> None:
        hub.remove(self._reader)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
