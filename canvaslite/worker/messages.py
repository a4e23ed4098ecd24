"""Received messages of both kinds, raw ones of RabbitMQ and kombu's, as the worker sees them."""

from __future__ import annotations

import pickle
from typing import Any

from amqp.exceptions import FrameSyntaxError

from canvaslite.context import Context
from canvaslite.execution.message import MessageReader, read_head
from canvaslite.protocol.job import AMQP_PROPERTIES, KOMBU_PROPERTIES, Job, Verdict
from canvaslite.transport.table import peek

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

    __slots__ = ()

    @property
    def redelivered(self) -> bool:
        return bool(self.message.delivery_info.get('redelivered'))

    def job(self, verdict: Verdict | None) -> Job:
        message = self.message
        info = message.delivery_info
        head = pickle.dumps({'headers': message.headers, 'properties': message.properties,
                             'content_type': message.content_type, 'content_encoding': message.content_encoding}, 5)
        body = message.body
        return Job(KOMBU_PROPERTIES, head, body.encode() if isinstance(body, str) else bytes(body or b''),
                   info.get('exchange') or '', info.get('routing_key') or '', self.redelivered, verdict)

    def peek(self, names: frozenset[str]) -> dict[str, Any]:
        headers = self.message.headers
        return {name: headers[name] for name in names if name in headers}
