"""`Outgoing`: one message with all that was decided about it, and the two ways it may leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kombu import Queue
from kombu.compression import compress

from canvaslite.publish.bodies import body_encoder, plain_copy
from canvaslite.publish.destination import Destination, Target
from canvaslite.publish.sending import RawMessage
from canvaslite.transport.properties import encode_properties

__all__ = ('Outgoing',)

#: Properties that AMQP knows besides those set for every message; any other a caller names is not sent over AMQP.
_FURTHER = ('message_id', 'timestamp', 'type', 'user_id', 'app_id', 'cluster_id')


class Outgoing:
    """A message on its way out.

    `headers`, `properties` and `target.declare` may be changed by whoever listens to ``before_task_publish``.
    `properties` holds what the caller gave of priority, mandatory, expiration (seconds) and AMQP's own properties.
    """

    __slots__ = ('body', 'compression', 'confirm_timeout', 'headers', 'name', 'properties', 'retry', 'retry_policy',
                 'serializer', 'target', 'timeout')

    def __init__(self, name: str, body: Any, headers: dict[str, Any], properties: dict[str, Any], target: Target,
                 serializer: str, compression: str | None, retry: bool, retry_policy: Mapping[str, Any],
                 timeout: float | None = None, confirm_timeout: float | None = None) -> None:
        self.name = name
        self.body = body
        self.headers = headers
        self.properties = properties
        self.target = target
        self.serializer = serializer
        self.compression = compression
        self.retry = retry
        self.retry_policy = retry_policy
        self.timeout = timeout
        self.confirm_timeout = confirm_timeout

    def publish_through(self, producer: Any) -> Any:
        """Send it with a `kombu.Producer`; returns what the producer does."""
        properties = dict(self.properties)
        if properties.get('priority') is None:
            properties.pop('priority', None)
        return producer.publish(
            self.body if self.serializer == 'json' else plain_copy(self.body),
            exchange=self.target.exchange, routing_key=self.target.routing_key, serializer=self.serializer,
            compression=self.compression, retry=self.retry, retry_policy=dict(self.retry_policy),
            delivery_mode=self.target.delivery_mode, declare=self.target.declare, headers=self.headers,
            timeout=self.timeout, confirm_timeout=self.confirm_timeout, **properties)

    def encode(self) -> RawMessage:
        """The same message as bytes for a channel of our AMQP transport. Raises `EncodeError`."""
        encoder = body_encoder(self.serializer)
        body = encoder.encode_payload(self.body)
        headers = self.headers
        if self.compression:
            body, content_type = compress(body, self.compression)
            headers['compression'] = content_type
        given = self.properties
        reply_to, expiration = given.get('reply_to'), given.get('expiration')
        properties = encode_properties(
            headers, content_type=encoder.content_type, content_encoding=encoder.content_encoding,
            delivery_mode=self.target.delivery_mode, priority=given.get('priority') or 0,
            correlation_id=given.get('correlation_id'),
            reply_to=reply_to.name if isinstance(reply_to, Queue) else reply_to,
            expiration=None if expiration is None else str(int(expiration * 1000)),
            **{name: given[name] for name in _FURTHER if given.get(name) is not None})
        destination = Destination(self.target.exchange_name, self.target.routing_key, self.target.declare,
                                  bool(given.get('mandatory')))
        return RawMessage(destination, properties, body)
