"""Received messages of both kinds, raw ones of RabbitMQ and kombu's, as the worker sees them."""

from __future__ import annotations

import pickle
from typing import Any

from amqp.exceptions import FrameSyntaxError

from canvaslite.context import Context
from canvaslite.exceptions import InvalidTaskError
from canvaslite.execution.message import MessageReader, read_head
from canvaslite.protocol.job import AMQP_PROPERTIES, KOMBU_PROPERTIES, Job, Verdict
from canvaslite.transport.table import peek

#: Largest headers and properties together, in bytes: as RabbitMQ's, which must fit into one frame.
LARGEST_HEAD = 131072
_SHOWN = frozenset({'shadow', 'argsrepr', 'kwargsrepr'})


class Received:
    """A message and its receipt; `message` is what the transport gave: here a `transport.inbound.RawDelivery`."""

    __slots__ = ('message', 'reader', 'receipts')

    def __init__(self, message: Any, receipts: Any, reader: MessageReader) -> None:
        self.message = message
        self.receipts = receipts
        self.reader = reader

    @property
    def redelivered(self) -> bool:
        """Whether it was delivered before, to whomever."""
        return self.message.redelivered  # type: ignore[no-any-return]

    def job(self, verdict: Verdict | None) -> Job:
        """The message as a job."""
        delivery = self.message
        return Job(AMQP_PROPERTIES, delivery.properties, delivery.body, delivery.exchange, delivery.routing_key,
                   delivery.redelivered, verdict)

    def peek(self, names: frozenset[str]) -> dict[str, Any]:
        """Those of these headers that it has. Raises `FrameSyntaxError` when they cannot be read."""
        return peek(self.message.properties, names)

    def acknowledge(self) -> None:
        """Tell the broker that the message is done with."""
        self.receipts.acknowledge(self.message)

    def reject(self, requeue: bool) -> None:
        """Give the message back to the broker, to be delivered again with `requeue`."""
        self.receipts.reject(self.message, requeue)

    def key(self) -> int:
        """A number by which the same message is known when it is delivered again."""
        return hash(self.job(None).head)

    def shown(self) -> dict[str, str]:
        """Those of argsrepr, kwargsrepr and shadow (a name in place of the task's) that it has."""
        try:
            return {name: value for name, value in self.peek(_SHOWN).items() if isinstance(value, str)}
        except FrameSyntaxError:  # only as far as the decisive headers was it read before
            return {}

    def read(self) -> Context:
        """The run it asks for. Raises what `execution.message.MessageReader.read` raises."""
        job = self.job(None)
        return self.reader.read(job, read_head(job))

    @property
    def is_lost(self) -> bool:
        """The connection is gone: the broker delivers it again."""
        return self.receipts.closed  # type: ignore[no-any-return]


class KombuMessage(Received):
    """Of any other transport: `message` is a `kombu.Message`. Its body stays bytes."""

    __slots__ = ('_encoded',)

    def __init__(self, message: Any, receipts: Any, reader: MessageReader) -> None:
        super().__init__(message, receipts, reader)
        self._encoded: tuple[bytes, bytes] | None = None

    def check(self) -> None:
        """See to it that a process can be given the message. Raises `InvalidTaskError` when it cannot."""
        if self.message.errors:
            raise self.message.errors[0][1]
        if len(self._encode()[0]) > LARGEST_HEAD:
            raise InvalidTaskError(f'its headers have more than {LARGEST_HEAD} bytes')

    def _encode(self) -> tuple[bytes, bytes]:
        """Headers and body as bytes."""
        if self._encoded is None:
            message, body = self.message, self.message.body or b''
            if not isinstance(body, (str, bytes, bytearray, memoryview)):
                raise InvalidTaskError(f'its body is a {type(body).__name__}, not text')
            try:
                head = pickle.dumps({'headers': message.headers, 'properties': message.properties,
                                     'content_type': message.content_type,
                                     'content_encoding': message.content_encoding}, 5)
            except RecursionError:
                raise InvalidTaskError('its headers are nested too deeply') from None
            self._encoded = head, body.encode() if isinstance(body, str) else bytes(body)
        return self._encoded

    @property
    def redelivered(self) -> bool:
        return bool(self.message.delivery_info.get('redelivered'))

    def job(self, verdict: Verdict | None) -> Job:
        info = self.message.delivery_info
        return Job(KOMBU_PROPERTIES, *self._encode(), info.get('exchange') or '', info.get('routing_key') or '',
                   self.redelivered, verdict)

    def peek(self, names: frozenset[str]) -> dict[str, Any]:
        headers = self.message.headers
        return {name: headers[name] for name in names if name in headers}
