"""`Burst`: many messages over one channel, given as ``producer=`` to whatever publishes."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from canvaslite.publish.channels import CHUNK, ChannelPool, PublishChannel
from canvaslite.publish.messages import RawMessage

__all__ = ('Burst', 'Held')

#: Bytes of frames, method and channel numbers beside a message's properties and body.
_FRAMING = 80


class Held(threading.local):
    """What each thread holds: bursts that have a channel; producers where the transport is not ours. Innermost last."""

    def __init__(self) -> None:
        self.bursts: list[Burst] = []
        self.producers: list[Any] = []


class Burst:
    """Gathers messages and writes them together; leaving the ``with`` block sends what is left.

    With publisher confirms the block ends when all messages are confirmed; without, it waits for the broker only where
    there was more than one write. ``after_task_publish`` is sent when a message is gathered, not when it is written.
    An exception in the block drops the messages that were not written yet: whoever published them gets that exception.

    A burst may be passed on as ``producer=`` to anything called inside the block, so that a whole canvas uses one
    channel. It borrows its channel with the first write and keeps it to the end; it never waits for a second one, so
    threads with a pool of one channel cannot block each other. A burst belongs to one thread.
    """

    def __init__(self, pool: ChannelPool, held: Held) -> None:
        self._pool = pool
        self._held = held
        self._gathered: list[RawMessage] = []
        self._size = 0
        self.lent: PublishChannel | None = None
        self._open = False

    def add(self, message: RawMessage) -> None:
        """Take one message; it is written with the next 64 kB or at the end. Raises RuntimeError outside the block."""
        if not self._open:
            raise RuntimeError('A burst takes messages only inside its with block.')
        self._gathered.append(message)
        self._size += len(message.properties) + len(message.body) + _FRAMING
        if self._size >= CHUNK:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        if self._gathered:
            messages, self._gathered, self._size = self._gathered, [], 0
            if self.lent is None:
                self.lent = self._borrow()
            self.lent.send(messages)

    def finish(self) -> None:
        """Write what was gathered; with publisher confirms, return when all is confirmed."""
        self.flush()
        if self.lent is not None:
            self.lent.finish()

    def _borrow(self) -> PublishChannel:
        lent = self._pool.take()
        if lent is None and self._held.bursts:
            # This thread holds a channel already and must not wait for another: it might wait for itself.
            held = self._held.bursts[-1].lent
            assert held is not None
            return held
        lent = lent or self._pool.acquire()
        self._held.bursts.append(self)
        return lent

    def __enter__(self) -> Burst:
        self._open = True
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None,
                 traceback: TracebackType | None) -> None:
        try:
            if exc is None:
                self.finish()
        except BaseException:
            self._give_back(clean=False)
            raise
        self._give_back(clean=exc is None)

    def _give_back(self, clean: bool) -> None:
        self._open = False
        self._gathered, self._size = [], 0
        lent, self.lent = self.lent, None
        if lent is not None and self in self._held.bursts:  # otherwise it was lent to another, who goes on with it
            self._held.bursts.remove(self)
            if clean:
                lent.rest()
            else:
                lent.discard()
            self._pool.release(lent)
