"""`Returns`: messages that come back after a lost connection although this worker has dealt with them.

RabbitMQ delivers again whatever was not acknowledged when a connection ended: what waits here (it is dropped here,
and taken again like any other), but also what runs here, and what has ended but whose acknowledgement was on its way.
Such a message is known by its bytes when it comes back to this worker. If its task ended, or is one that is
acknowledged when it starts, the message is acknowledged; if the task still runs, it gets the new receipt.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from canvaslite.worker.messages import Received
from canvaslite.worker.request import Request

__all__ = ('Returns',)

logger = logging.getLogger('canvaslite.worker')

#: Seconds for which a return is expected. Brokers deliver again at once; this only bounds the memory.
PATIENCE = 1800.0


class Returns:
    """What may come back."""

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
