"""`Delays`: messages whose ETA is far are kept by RabbitMQ, in delay queues, and not by this worker.

Held here, such a message takes memory and a place among the prefetched ones (on a quorum queue for good: there the
count cannot be raised), and RabbitMQ closes the channel on which one stays unacknowledged for half an hour. So it is
published anew, to come back to its queue in the second before its ETA, and acknowledged when the broker has confirmed
that. This happens in a thread with a connection of its own: waiting for confirms, or for a broker that takes no
messages for want of memory, must not stop the worker's loop.

The message gets a header that says when it went and where it came from. A worker of Celery ignores that; ours then
finds out whether the task was revoked meanwhile. Where the connection breaks before a confirm, or this worker is killed
between confirm and acknowledgement, there is a second such message: it is marked, and dropped if the first has run.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from amqp.exceptions import FrameSyntaxError

from canvaslite import wire
from canvaslite.context import X_DEATH_HEADERS
from canvaslite.transport.connection import close_inherited
from canvaslite.transport.delays import LEVELS, bind_to_own_levels, can_name, declare_own_levels, delay_key
from canvaslite.transport.properties import decode_properties, encode_properties
from canvaslite.utils.log import worker_logger as logger
from canvaslite.utils.redact import one_line
from canvaslite.worker.request import Request

#: Tries to publish what the broker may or may not have, and seconds between them.
ATTEMPTS, PAUSE = 5, 1.0
#: Messages, or a few more, that are published before their confirms are waited for.
LARGEST_BATCH = 500
#: Seconds after which the connection is closed that nobody needs.
IDLE = 60.0
#: Seconds for which far ETAs are held here after the broker has refused to keep one.
HELD_AFTER_ERROR = 60.0
_ENTRANCE = wire.OWN_DELAY_PREFIX + wire.DELAY_LEVEL.format(LEVELS - 1)


class Parcel(NamedTuple):
    """A message on its way to the delay queues."""

    request: Request
    queue: str
    headers: dict[str, Any]
    properties: dict[str, Any]
    body: bytes

    def frames(self, channel: Any, again: bool) -> bytes:
        """The frames that publish it now; `again` if it may have been published before."""
        delivery, eta = self.request.received.message, self.request.eta
        assert eta is not None
        headers = {**self.headers, wire.DELAYED_HEADER: [
            time.time(), delivery.exchange, delivery.routing_key, bool(again or delivery.redelivered)]}
        return channel.frames(  # type: ignore[no-any-return]
            _ENTRANCE, delay_key(max(eta.timestamp() - time.time(), 0), self.queue),
            encode_properties(headers, **self.properties), self.body, True)


class Delays:
    """`ring` has the worker's loop take another turn; `hold_time`: no ETA that is nearer is handed to the broker."""

    def __init__(self, app: Any, ring: Callable[[], None]) -> None:
        self.app = app
        self.ring = ring
        self.hold_time: float | None = app.conf.worker_eta_hold_time
        #: What came in during this turn of the loop.
        self.gathered: list[Parcel] = []
        self._batches: queue.SimpleQueue[list[Parcel] | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[tuple[list[Parcel], Exception | None]] = queue.SimpleQueue()
        #: Messages of which is not known yet what became of them.
        self.under_way = 0
        self._thread: threading.Thread | None = None
        #: The worker's connection. What came over it goes back to the same broker, whatever others the URLs name.
        self.source: Any = None
        self._origin: Any = None
        self._connection: Any = None
        self._bound: set[str] = set()
        self._not_before = 0.0

    def takes(self, request: Request, queue: Any) -> bool:
        """Have the broker keep the message, which came from `queue`; False when it cannot."""
        if time.monotonic() < self._not_before or not outlives_worker(queue):
            return False
        delivery = request.received.message
        try:
            properties = decode_properties(delivery.properties)
        except FrameSyntaxError:
            return False
        headers = properties.pop('headers', {})
        self.gathered.append(Parcel(request, queue.name, {
            name: value for name, value in headers.items() if name not in X_DEATH_HEADERS}, properties, delivery.body))
        return True

    def send(self) -> None:
        """Give the thread what was gathered."""
        batch, self.gathered = self.gathered, []
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name='canvaslite-delays', daemon=True)
            self._thread.start()
        self.under_way += len(batch)
        self._batches.put(batch)

    def take_answer(self, timeout: float = 0.0) -> tuple[list[Parcel], Exception | None]:
        """A batch whose end is known, and the error if the broker did not take it. Raises `queue.Empty`."""
        answer = self.answers.get(timeout > 0, timeout or None)
        self.under_way -= len(answer[0])
        if answer[1] is not None:
            self._not_before = time.monotonic() + HELD_AFTER_ERROR
            logger.warning('Tasks with a far ETA are held by this worker, because the broker cannot keep them: %s. '
                           'With worker_eta_hold_time = None they always are.', one_line(answer[1]))
        return answer

    def close(self) -> None:
        """End the thread when it has done what it has to do."""
        if self._thread is not None:
            self._batches.put(None)
            self._thread = None

    def release_inherited(self) -> None:
        """In a child: let go of the parent's connection."""
        if self._connection is not None:
            close_inherited(self._connection)

    # -- in the thread

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            error: Exception | None = None
            try:
                self._publish_patiently(batch)
            except Exception as exc:
                error = exc
            self.answers.put((batch, error))
            self.ring()
        self._drop_connection()

    def _next_batch(self) -> list[Parcel] | None:
        """All that came in meanwhile: the broker writes it to its disk together. None is the end."""
        try:
            batch = self._batches.get(timeout=IDLE)
        except queue.Empty:
            self._drop_connection()
            batch = self._batches.get()
        while batch is not None and len(batch) < LARGEST_BATCH and not self._batches.empty():
            following = self._batches.get()
            if following is None:
                self._batches.put(None)
                break
            batch += following
        return batch

    def _publish_patiently(self, batch: list[Parcel]) -> None:
        """Publish, and try again where the broker may or may not have the messages: held here, they would run twice."""
        attempt, doubtful = 1, False
        while True:
            try:
                channel = self._open(batch)
                again, doubtful = doubtful, True
                channel.write_frames(b''.join([parcel.frames(channel, again) for parcel in batch]), len(batch))
                channel.wait_for_confirms(self.app.conf.broker_confirm_timeout)
                return
            except Exception as exc:
                self._drop_connection()
                if attempt == ATTEMPTS or not doubtful:
                    raise
                logger.warning('Handing tasks with a far ETA to the broker failed (%s): trying again.', one_line(exc))
                time.sleep(PAUSE * (attempt - 1))
                attempt += 1

    def _open(self, batch: list[Parcel]) -> Any:
        """The channel, with all declared that these messages need."""
        if self._origin is not self.source:
            self._drop_connection()
        if self._connection is None:
            self._origin = origin = self.source
            self._connection = origin.clone(alternates=[], heartbeat=0, transport_options={
                **origin.transport_options, 'confirm_publish': True})
            declare_own_levels(self._connection.default_channel,
                               self.app.conf.broker_native_delayed_delivery_queue_type)
        channel = self._connection.default_channel
        for name in {parcel.queue for parcel in batch} - self._bound:
            bind_to_own_levels(channel, name)
            self._bound.add(name)
        return channel

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        self._bound.clear()
        if connection is not None:
            try:
                connection.close()
            except Exception as exc:
                logger.debug('While closing the connection to the delay queues: %r', exc)


def outlives_worker(queue: Any) -> bool:
    """Whether the queue is sure to be there when the message comes back, and can be named."""
    return bool(queue is not None and queue.durable and not (queue.exclusive or queue.auto_delete or queue.no_ack)
                and queue.expires is None and 'x-expires' not in (queue.queue_arguments or ())
                and can_name(queue.name))
