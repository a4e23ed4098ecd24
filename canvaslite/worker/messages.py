"""Received messages of both kinds, raw ones of RabbitMQ and kombu's, as the worker sees them."""

from __future__ import annotations

import pickle
from typing import Any, Protocol

from amqp.exceptions import FrameSyntaxError

from canvaslite.context import Context
from canvaslite.execution.message import MessageReader, read_head
from canvaslite.protocol.job import AMQP_PROPERTIES, KOMBU_PROPERTIES, Job, Verdict
from canvaslite.transport.table import peek
from canvaslite.worker.receipts import MessageReceipts, RawReceipts

__all__ = ('KombuMessage', 'RawMessage', 'Received')

_SHADOW = frozenset({'shadow'})


class Received(Protocol):
    """A message and its receipt."""

    message: Any

    @property
    def redelivered(self) -> bool:
        """Whether it was delivered before, to whomever."""

    def job(self, verdict: Verdict | None) -> Job:
        """The message as a job."""

    def peek(self, names: frozenset[str]) -> dict[str, Any]:
        """Those of these headers that it has. Raises when the headers cannot be read."""

    def shadow(self) -> str | None:
        """The name to be shown in place of the task's."""

    def read(self) -> Context:
        """The run it asks for. Raises what `execution.message.MessageReader.read` raises."""

    def key(self) -> int:
        """A number by which the same message is known when it is delivered again."""

    def acknowledge(self) -> None: ...
    def reject(self, requeue: bool) -> None: ...

    @property
    def is_lost(self) -> bool:
        """The connection is gone: the broker delivers it again."""


class RawMessage:
    """A `transport.inbound.RawDelivery`."""

    __slots__ = ('message', 'reader', 'receipts')

    def __init__(self, delivery: Any, receipts: RawReceipts, reader: MessageReader) -> None:
        self.message = delivery
        self.receipts = receipts
        self.reader = reader

    @property
    def redelivered(self) -> bool:
        return self.message.redelivered  # type: ignore[no-any-return]

    def job(self, verdict: Verdict | None) -> Job:
        delivery = self.message
        return Job(AMQP_PROPERTIES, delivery.properties, delivery.body, delivery.exchange, delivery.routing_key,
                   delivery.redelivered, verdict)

    def peek(self, names: frozenset[str]) -> dict[str, Any]:
        return peek(self.message.properties, names)

    def shadow(self) -> str | None:
        try:
            shadow = peek(self.message.properties, _SHADOW).get('shadow')
        except FrameSyntaxError:  # only as far as the decisive headers was it read before
            return None
        return shadow if isinstance(shadow, str) else None

    def read(self) -> Context:
        job = self.job(None)
        return self.reader.read(job, read_head(job))

    def key(self) -> int:
        return hash(self.message.properties)

    def acknowledge(self) -> None:
        delivery = self.message
        self.receipts.acknowledge(delivery.delivery_tag, hash(delivery.properties))

    def reject(self, requeue: bool) -> None:
        self.receipts.reject(self.message.delivery_tag, requeue)

    @property
    def is_lost(self) -> bool:
        return self.receipts.closed


class KombuMessage:
    """A `kombu.Message` of any transport. Its body stays bytes."""

    __slots__ = ('_head', 'message', 'reader', 'receipts')

    def __init__(self, message: Any, receipts: MessageReceipts, reader: MessageReader) -> None:
        self.message = message
        self.receipts = receipts
        self.reader = reader
        self._head: bytes | None = None

    @property
    def redelivered(self) -> bool:
        return bool(self.message.delivery_info.get('redelivered'))

    def job(self, verdict: Verdict | None) -> Job:
        message = self.message
        info = message.delivery_info
        if self._head is None:
            self._head = pickle.dumps({'headers': message.headers, 'properties': message.properties,
                                       'content_type': message.content_type,
                                       'content_encoding': message.content_encoding}, 5)
        body = message.body
        return Job(KOMBU_PROPERTIES, self._head, body.encode() if isinstance(body, str) else bytes(body or b''),
                   info.get('exchange') or '', info.get('routing_key') or '', self.redelivered, verdict)

    def peek(self, names: frozenset[str]) -> dict[str, Any]:
        headers = self.message.headers
        return {name: headers[name] for name in names if name in headers}

    def shadow(self) -> str | None:
        shadow = self.message.headers.get('shadow')
        return shadow if isinstance(shadow, str) else None

    def read(self) -> Context:
        job = self.job(None)
        return self.reader.read(job, read_head(job))

    def key(self) -> int:
        return hash(self.job(None).head)

    def acknowledge(self) -> None:
        self.receipts.acknowledge(self.message, 0)

    def reject(self, requeue: bool) -> None:
        self.receipts.reject(self.message, requeue)

    @property
    def is_lost(self) -> bool:
        return self.receipts.closed
