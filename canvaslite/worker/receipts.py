"""Receipts: telling the broker what became of its messages, gathered once per turn of the loop.

RabbitMQ numbers the deliveries of a channel. As long as tasks end roughly in order, one acknowledgement with
``multiple`` stands for many; what has ended out of order is acknowledged by itself, at once. With the connection the
numbers lose their meaning: the receipts are closed, and whatever still refers to them does nothing.

RabbitMQ then delivers again what was not acknowledged: what waits here (it is dropped here, and taken again like any
other), but also what runs here, and what has ended but whose acknowledgement was on its way. Such a message is known by
its bytes when it comes back. If its task ended, or is one that is acknowledged when it starts, the message is
acknowledged; if the task still runs, it gets the new receipt.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from canvaslite.utils.log import worker_logger as logger
from canvaslite.worker.messages import Received
from canvaslite.worker.request import Request

#: How many of the last acknowledged messages are remembered, to know them when the connection broke before the
#: broker had heard of it.
REMEMBERED = 4096
#: Seconds for which a return is expected. Brokers deliver again at once; this only bounds the memory.
PATIENCE = 1800.0


class RawReceipts:
    """Receipts of a channel of ours: delivery numbers, all of which came through `expect`."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._unsettled: dict[int, None] = {}
        self._acknowledged: list[int] = []
        self.closed = False
        #: Keys of the messages acknowledged last.
        self.remembered: deque[int] = deque(maxlen=REMEMBERED)

    def expect(self, delivery: Any) -> None:
        """A delivery came in."""
        self._unsettled[delivery.delivery_tag] = None

    def acknowledge(self, delivery: Any) -> None:
        if not self.closed:
            tag = delivery.delivery_tag
            self._unsettled.pop(tag, None)
            self._acknowledged.append(tag)
            self.remembered.append(hash(delivery.properties))

    def reject(self, delivery: Any, requeue: bool) -> None:
        if not self.closed:
            self._unsettled.pop(delivery.delivery_tag, None)
            self._channel.reject_raw(delivery.delivery_tag, requeue)

    def flush(self) -> None:
        """Write what was gathered. Raises the transport's errors when the connection is lost."""
        if self.closed:
            return
        acknowledged = self._acknowledged
        if acknowledged:
            self._acknowledged = []
            self._write(acknowledged)
        connection = self._channel.connection
        if connection is not None:
            connection.flush()

    def _write(self, acknowledged: list[int]) -> None:
        ack = self._channel.ack_raw
        oldest = next(iter(self._unsettled), None)
        last = max(acknowledged) if oldest is None else max((tag for tag in acknowledged if tag < oldest), default=0)
        if last:
            # The broker must still know the number itself, so it is one of those that are told now.
            ack(last, True)
        for tag in acknowledged:
            if tag > last:
                ack(tag)

    def close(self) -> None:
        self.closed = True


class MessageReceipts:
    """Receipts of kombu messages, which know their own channel. A lost one is found out where messages are read."""

    closed, remembered = False, ()

    def acknowledge(self, message: Any) -> None:
        self._tell('ack', message)

    def reject(self, message: Any, requeue: bool) -> None:
        self._tell('reject', message, requeue=requeue)

    def _tell(self, method: str, message: Any, **options: Any) -> None:
        if self.closed:
            return
        try:
            getattr(message, method)(**options)
        except Exception as exc:
            logger.critical("Couldn't %s %r, reason: %s", method, message.delivery_tag, exc)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True


class NoReceipts(MessageReceipts):
    """Receipts of a queue whose messages need none (``no_ack``)."""

    def expect(self, delivery: Any) -> None:
        """Nothing to expect."""

    def _tell(self, method: str, message: Any, **options: Any) -> None:
        """Nothing to tell."""


class Returns:
    """Messages that may come back after a lost connection although this worker has dealt with them."""

    def __init__(self) -> None:
        self._done: set[int] = set()
        self._running: dict[int, Request] = {}
        self._until = 0.0

    def expect(self, running: Iterable[Request], done: Iterable[int]) -> None:
        """The connection is lost while these requests run, and these messages (by key) were acknowledged last."""
        if time.monotonic() > self._until:
            self._done.clear()
            self._running.clear()
        self._done.update(done)
        self._until = time.monotonic() + PATIENCE
        for request in running:
            if request.early:
                self._done.add(request.received.key())
            else:
                self._running[request.received.key()] = request

    def settle(self, request: Request, requeued: bool) -> None:
        """A request of a lost connection has ended."""
        key = request.received.key()
        self._running.pop(key, None)
        if not requeued:
            self._done.add(key)

    def welcome(self, received: Received) -> bool:
        """Deal with a message that was delivered before; False when it is to be taken like any other."""
        if not (self._done or self._running) or time.monotonic() > self._until:
            return False
        key = received.key()
        if key in self._done:
            logger.info('A message came back that was dealt with before the connection was lost: acknowledged.')
            received.acknowledge()
            return True
        request = self._running.pop(key, None)
        if request is None:
            return False
        logger.info('The message of the running task %s[%s] came back.', request.name, request.id)
        request.received = received
        request.acknowledged = False
        return True
