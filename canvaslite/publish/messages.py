"""One message on its way out: what it says, where it goes, and the two forms in which it may leave.

Signatures leave as plain dicts whatever the serializer is, so that a reader needs neither our classes nor Celery's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from json import encoder as json_encoder
from typing import Any, NamedTuple

from kombu import Queue
from kombu.common import Broadcast
from kombu.compression import compress
from kombu.entity import Exchange, maybe_delivery_mode
from kombu.exceptions import EncodeError, SerializerNotInstalled
from kombu.serialization import registry
from kombu.utils import json as kombu_json

from canvaslite import exceptions, wire
from canvaslite.transport.properties import encode_properties
from canvaslite.transport.signed import sign_message
from canvaslite.utils import deepjson
from canvaslite.utils.undecoded import Undecoded

__all__ = ('BodyEncoder', 'Destination', 'Outgoing', 'RawMessage', 'body_encoder', 'resolve_target')

#: Properties that AMQP knows besides those set for every message; any other a caller names is not sent over AMQP.
_FURTHER = ('message_id', 'timestamp', 'type', 'user_id', 'app_id', 'cluster_id')


class Destination:
    """Where messages go as bytes, what must be declared before, and how they are handed over. Compared by identity.

    `retry_policy` is that of ``task_publish_retry_policy``, None for no retry. `timeout` is the most seconds for one
    write, `confirm_timeout` for the wait between two confirms.
    """

    __slots__ = ('confirm_timeout', 'declare', 'declared_once', 'exchange', 'expected', 'mandatory', 'retry_policy',
                 'routing_key', 'streams', 'timeout')

    def __init__(self, outgoing: Outgoing, lasting: bool = False, of_canvas: bool = False) -> None:
        exchange = outgoing.exchange
        self.exchange: str = exchange.name if isinstance(exchange, Exchange) else exchange
        self.routing_key = outgoing.routing_key
        self.declare = tuple(outgoing.declare)
        said = outgoing.properties.get('mandatory')
        self.mandatory = bool(said)
        queues = [entity for entity in self.declare if isinstance(entity, Queue) and self._leads_to(entity)]
        #: Whether a queue is meant to get it: the sender declares it, or others wait for this task's outcome.
        self.expected = said is None and bool(of_canvas or queues or not self.exchange)
        self.retry_policy = outgoing.retry_policy if outgoing.retry else None
        self.timeout, self.confirm_timeout = outgoing.timeout, outgoing.confirm_timeout
        #: Whether it is sure to take a message, so that a sender need not wait to hear it.
        self.streams = self.timeout is None and self.confirm_timeout is None and bool(queues) and not any(
            queue.no_declare or 'x-overflow' in (queue.queue_arguments or ()) for queue in queues)
        #: Whether a channel may remember that it declared for this destination: not when an entity may vanish
        #: meanwhile (auto-delete, expiring), and not when the object is made for one message only.
        self.declared_once = lasting and all(entity.can_cache_declaration for entity in self.declare)

    def _leads_to(self, queue: Queue) -> bool:
        if not self.exchange:
            return bool(queue.name == self.routing_key)
        return bool(queue.exchange.name == self.exchange and queue.routing_key == self.routing_key)


class RawMessage(NamedTuple):
    """A message as bytes, and where it goes."""

    destination: Destination
    properties: bytes
    body: bytes


class Outgoing(NamedTuple):
    """A message with all that was decided about it.

    `headers`, `properties` and `declare` may be changed by whoever listens to ``before_task_publish``.
    """

    #: Name of the task.
    name: str
    body: Any
    headers: dict[str, Any]
    #: What the caller gave of priority, mandatory, expiration (seconds) and AMQP's own properties.
    properties: dict[str, Any]
    #: The exchange as the caller gave it (a name or an `Exchange`), or the queue's.
    exchange: Any
    routing_key: str
    #: 1 transient, 2 persistent.
    delivery_mode: int
    declare: list[Any]
    serializer: str
    compression: str | None
    retry: bool
    retry_policy: Mapping[str, Any]
    timeout: float | None = None
    confirm_timeout: float | None = None

    def publish_through(self, producer: Any) -> Any:
        """Send it with a `kombu.Producer`; returns what the producer does."""
        properties = dict(self.properties)
        if properties.get('priority') is None:
            properties.pop('priority', None)
        body = self.body if self.serializer == 'json' else plain_copy(self.body)
        if self.serializer == wire.AUTH:
            encoder = body_encoder(self.serializer)
            body = self._signed(encoder.encode_payload(body))
            properties.update(content_type=encoder.content_type, content_encoding=encoder.content_encoding)
        return producer.publish(
            body, exchange=self.exchange, routing_key=self.routing_key, serializer=self.serializer,
            compression=self.compression, retry=self.retry,
            retry_policy=dict(self.retry_policy), delivery_mode=self.delivery_mode, declare=self.declare,
            headers=self.headers, timeout=self.timeout, confirm_timeout=self.confirm_timeout, **properties)

    def encode(self) -> RawMessage:
        """The same message as bytes for a channel of our AMQP transport. Raises `EncodeError`."""
        encoder = body_encoder(self.serializer)
        body = encoder.encode_payload(self.body)
        if self.serializer == wire.AUTH:
            body = self._signed(body)
        if self.compression:
            body, self.headers['compression'] = compress(body, self.compression)
        given = self.properties
        reply_to, expiration = given.get('reply_to'), given.get('expiration')
        properties = encode_properties(
            self.headers, content_type=encoder.content_type, content_encoding=encoder.content_encoding,
            delivery_mode=self.delivery_mode, priority=given.get('priority') or 0,
            correlation_id=given.get('correlation_id'),
            reply_to=reply_to.name if isinstance(reply_to, Queue) else reply_to,
            expiration=None if expiration is None else str(int(expiration * 1000)),
            **{name: given[name] for name in _FURTHER if given.get(name) is not None})
        return RawMessage(Destination(self, of_canvas=self.is_of_canvas), properties, body)

    def _signed(self, body: bytes) -> bytes:
        """The body as it is; the headers get its signature, and theirs."""
        sign_message(self.headers, self.properties, body)
        return body

    @property
    def is_of_canvas(self) -> bool:
        """Whether other tasks wait for the outcome of this one."""
        embed = self.body[2] if isinstance(self.body, tuple) and len(self.body) == 3 else self.body
        return bool(self.headers.get('group') or (isinstance(embed, Mapping) and (
            embed.get('chain') or embed.get('chord') or embed.get('callbacks'))))


def resolve_target(amqp: Any, queue: Any = None, exchange: Any = None, routing_key: str | None = None,
                   exchange_type: str | None = None, delivery_mode: Any = None,
                   declare: Iterable[Any] | None = None) -> tuple[Any, str, int, list[Any]]:
    """Exchange, routing key, delivery mode and what to declare for a message with these options, by Celery's rules.

    A queue on a direct exchange is addressed by its name over the default exchange, unless the caller names
    both exchange and routing key. Raises KeyError for a queue's name that is not known and may not be made.
    """
    conf = amqp.app.conf
    if queue is None and exchange is None:
        queue = amqp.default_queue
    if isinstance(queue, str):
        queue_name: str | None = queue
        queue = amqp.queues[queue]
    else:
        queue_name = None if queue is None else queue.name
    own_exchange = None if queue is None else queue.exchange
    kind = exchange_type or getattr(own_exchange, 'type', 'direct')
    if (not exchange or not routing_key) and kind == 'direct':
        exchange, routing_key = '', queue_name
    elif exchange is None:
        exchange = getattr(own_exchange, 'name', None) or amqp.default_exchange
        routing_key = routing_key or queue.routing_key or conf.task_default_routing_key
    if declare is None:
        declare = [queue] if isinstance(queue, Queue) and not isinstance(queue, Broadcast) else []
    mode = delivery_mode or getattr(own_exchange, 'delivery_mode', None) or conf.task_default_delivery_mode
    return exchange, routing_key or '', maybe_delivery_mode(mode), list(declare)


# --- bodies: [args, kwargs, canvas] through one of kombu's serializers ------------------------------

_NO_CANVAS: dict[str, Any] = {'callbacks': None, 'errbacks': None, 'chain': None, 'chord': None}
_JSON_END = b', {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


class BodyEncoder:
    """Encodes bodies with one serializer as kombu's registry has it."""

    __slots__ = ('_json_chunks', 'codec', 'content_encoding', 'content_type', 'serializer')

    def __init__(self, serializer: str, codec: Any) -> None:
        self.serializer = serializer
        #: The registry's entry this was made for: another one there means that the user registered anew.
        self.codec = codec
        self.content_type: str = codec.content_type
        self.content_encoding: str = codec.content_encoding
        #: Kombu's JSON, byte for byte, with its encoder built once instead of for each message; None for other forms.
        self._json_chunks = _make_chunk_encoder() if codec.encoder is kombu_json.dumps else None

    @property
    def current(self) -> bool:
        """Whether the registry still has the serializer this was made for."""
        return registry._encoders.get(self.serializer) is self.codec

    def encode(self, args: Any, kwargs: Any, embed: Mapping[str, Any] | None) -> bytes:
        """The body. `embed` None stands for no canvas. Raises `EncodeError`."""
        if embed is None and self._json_chunks is not None:
            return self.encode_payload((args, kwargs))[:-1] + _JSON_END
        embed = _NO_CANVAS if embed is None else embed
        carried = [name for name, value in embed.items() if isinstance(value, Undecoded)]
        if not carried:
            return self.encode_payload((args, kwargs, embed))
        if self._json_chunks is None:
            return self.encode_payload((args, kwargs, {**embed, **{name: embed[name].decode() for name in carried}}))
        entries = [b'"%s": %s' % (name.encode(), value.encode(self.encode_payload) if name in carried
                                  else self.encode_payload(value)) for name, value in embed.items()]
        return self.encode_payload((args, kwargs))[:-1] + b', {' + b', '.join(entries) + b'}]'

    def encode_payload(self, payload: Any) -> bytes:
        """Any payload as bytes. Raises `EncodeError`."""
        try:
            if self._json_chunks is not None:
                try:
                    return ''.join(self._json_chunks(payload, 0)).encode()
                except RecursionError:
                    return deepjson.dumps(payload).encode()
            data = self.codec.encoder(plain_copy(payload))
        except Exception as exc:
            if isinstance(exc, exceptions.SoftTimeLimitExceeded):  # the task's, which may catch it
                raise
            raise EncodeError(exc) from exc
        return data.encode() if isinstance(data, str) else data


def _make_chunk_encoder() -> Callable[[Any, int], Any]:
    encoder = kombu_json.JSONEncoder()
    make: Any = getattr(json_encoder, 'c_make_encoder', None)
    if make is None:  # an interpreter without the C accelerator
        return lambda value, level: encoder.encode(value)
    # No markers: they would be shared by threads; an endless structure ends as a too deep one.
    return make(None, encoder.default, json_encoder.encode_basestring_ascii, None, encoder.key_separator,
                encoder.item_separator, False, False, True)


_encoders: dict[str, BodyEncoder] = {}


def body_encoder(serializer: str) -> BodyEncoder:
    """The encoder for a serializer's name. Raises `SerializerNotInstalled` when kombu has none of that name."""
    encoder = _encoders.get(serializer)
    if encoder is None or not encoder.current:
        codec = registry._encoders.get(serializer)
        if codec is None:
            raise SerializerNotInstalled(f'No encoder installed for {serializer}')
        encoder = _encoders[serializer] = BodyEncoder(serializer, codec)
    return encoder


def plain_copy(value: Any) -> Any:
    """`value` with each signature in it (a dict subclass that says ``subtask_type``) as a plain dict.

    Lists, tuples and dicts on the way are copied when something in them changes; other objects are left alone.
    """
    kind = type(value)
    if kind is list or kind is tuple:
        copies = [plain_copy(member) for member in value]
        if all(copy is member for copy, member in zip(copies, value, strict=True)):
            return value
        return copies if kind is list else tuple(copies)
    if kind is dict or (isinstance(value, dict) and 'subtask_type' in value):
        plain = {key: plain_copy(member) for key, member in value.items()}
        if kind is dict and all(plain[key] is member for key, member in value.items()):
            return value
        return plain
    return value
