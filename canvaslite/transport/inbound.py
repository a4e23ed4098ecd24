"""Frames from RabbitMQ: cut out of what the socket gave, and handed to whom they concern.

Two ways lead from the buffer to a callback. Deliveries for raw consumers whose frames all lie in the buffer, one
behind the other, are taken in one step (`InboundFrames.dispatch_deliveries`); that is nearly everything a busy worker
reads. Any other frame goes one at a time (`InboundFrames.dispatch_next`) to py-amqp's own handlers.
The position is moved on before a callback is called: a callback may raise, or read from the connection itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from amqp import spec
from amqp.basic_message import Message
from amqp.exceptions import UnexpectedFrame

from canvaslite.transport.frames import BODY, FRAME_END, HEADER, HEARTBEAT, METHOD

_unpack_head = struct.Struct('>BHI').unpack_from
_unpack_method = struct.Struct('>BHII').unpack_from
_unpack_content = struct.Struct('>BHIIQ').unpack_from
_unpack_signature = struct.Struct('>HH').unpack_from
_unpack_u64 = struct.Struct('>Q').unpack_from
_unpack_confirm = struct.Struct('>QB').unpack_from

#: Class and method number of basic.deliver as one number.
_DELIVER = 60 << 16 | 60
_CONTENT_METHODS = frozenset((spec.Basic.Return, spec.Basic.Deliver, spec.Basic.GetOk))
_KINDS = frozenset((METHOD, HEADER, BODY, HEARTBEAT))
#: Nothing that speaks AMQP sends a larger frame before the frame size is negotiated.
_FRAME_FLOOR = 131072
#: How many different deliveries (consumer, exchange, routing key, redelivered) stay known by their bytes.
_ROUTES_KEPT = 1024


class RawDelivery:
    """One message as the broker sent it: `properties` is the raw list, `channel` where it is to be acknowledged."""

    __slots__ = ('body', 'channel', 'consumer_tag', 'delivery_tag', 'exchange', 'properties', 'redelivered',
                 'routing_key')

    def __init__(self, channel: Any, delivery_tag: int, route: _Route, properties: bytes, body: bytes) -> None:
        self.channel = channel
        self.delivery_tag = delivery_tag
        self.consumer_tag, self.redelivered, self.exchange, self.routing_key = route
        self.properties = properties
        self.body = body

    def __repr__(self) -> str:
        return f'<RawDelivery {self.delivery_tag} of {self.consumer_tag!r}, {len(self.body)} bytes>'


class RawConsumer:
    """Marks a consumer in a channel's callbacks as one that takes `RawDelivery`."""

    def __init__(self, callback: Callable[[RawDelivery], Any]) -> None:
        self.callback = callback


class _Content:
    """A message whose frames are still arriving."""

    def __init__(self, method: bytes) -> None:
        self.method = method
        self.header = b''
        #: The payloads of the body's frames.
        self.body: list[bytes] = []
        #: Bytes of the body that are still to come; -1 before the header is there.
        self.missing = -1


#: What the fixed bytes of a basic.deliver say: consumer tag, redelivered, exchange, routing key.
_Route = tuple[str, bool, str, str]


def _read_route(payload: bytes) -> _Route:
    consumer_tag, offset = _read_short_text(payload, 4)
    redelivered = bool(payload[offset + 8] & 1)
    exchange, offset = _read_short_text(payload, offset + 9)
    return consumer_tag, redelivered, exchange, _read_short_text(payload, offset)[0]


def _read_short_text(payload: bytes, offset: int) -> tuple[str, int]:
    end = offset + 1 + payload[offset]
    raw = payload[offset + 1:end]
    try:
        return raw.decode('utf-8', 'surrogatepass'), end
    except UnicodeDecodeError:  # RabbitMQ lets any bytes through, and one odd routing key must not end a worker
        return raw.decode('utf-8', 'surrogateescape'), end


class InboundFrames:
    """The bytes received on one connection that are not dispatched yet (py-amqp's ``frame_handler``)."""

    def __init__(self, connection: Any, dispatch: Callable[[int, tuple[int, int], bytes, Message | None], Any]) -> None:
        self._connection = connection
        self._dispatch = dispatch
        self._buffer = b''
        self._position = 0
        self._arriving: dict[int, _Content] = {}
        self._routes: dict[bytes, _Route] = {}

    def feed(self, data: bytes) -> None:
        """Add what the socket gave."""
        rest = self._buffer[self._position:]
        self._buffer = rest + data if rest else data
        self._position = 0

    @property
    def holds_frame(self) -> bool:
        """Whether a whole frame lies in the buffer."""
        buffer, start = self._buffer, self._position
        if len(buffer) - start < 8:
            return False
        return len(buffer) > start + 7 + _unpack_head(buffer, start)[2]

    def dispatch_all(self) -> None:
        """Dispatch every whole frame in the buffer."""
        self.dispatch_deliveries()
        while self.dispatch_next():
            self.dispatch_deliveries()

    def dispatch_next(self) -> bool:
        """Dispatch frames up to the first that completes a method; false when the buffer ends before one does."""
        while True:
            buffer, start = self._buffer, self._position
            if len(buffer) - start < 7:
                return False
            kind, channel_id, size = _unpack_head(buffer, start)
            end = start + 7 + size
            if kind not in _KINDS or size > max(self._connection.frame_max, _FRAME_FLOOR):
                raise self._out_of_step(f'a frame of type {kind} with {size} bytes')
            if len(buffer) <= end:
                return False
            if buffer[end] != FRAME_END:
                raise self._out_of_step(f'a frame that ends with {buffer[end]:#04x}')
            self._position = end + 1
            if self._handle(kind, channel_id, buffer[start + 7:end]):
                return True

    def _out_of_step(self, what: str) -> UnexpectedFrame:
        """The error for bytes that are no frames: nothing behind them can be trusted."""
        self._connection.break_off()
        return UnexpectedFrame(f'The broker sent {what}; the connection is closed. Is this an AMQP port?')

    # --- one frame at a time -----------------------------------------------------

    def _handle(self, kind: int, channel_id: int, payload: bytes) -> bool:
        self._connection.bytes_recv += 1
        if kind == HEARTBEAT:
            return False
        content = self._arriving.get(channel_id)
        if kind == METHOD and content is None:
            signature = _unpack_signature(payload, 0)
            if signature not in _CONTENT_METHODS:
                if signature != spec.Basic.Ack or not self._confirm(channel_id, payload):
                    self._dispatch(channel_id, signature, payload, None)
                return True
            self._arriving[channel_id] = _Content(payload)
            return False
        if kind == HEADER and content is not None and content.missing < 0:
            content.header = payload
            (content.missing,) = _unpack_u64(payload, 4)
        elif kind == BODY and content is not None and content.missing >= len(payload):
            content.body.append(payload)
            content.missing -= len(payload)
        else:
            raise self._out_of_step(f'an unexpected frame of type {kind} on channel {channel_id}')
        if content.missing:
            return False
        del self._arriving[channel_id]
        self._complete(channel_id, content)
        return True

    def _confirm(self, channel_id: int, payload: bytes) -> bool:
        """Settle what the broker confirms; false when another handler wants to know of it."""
        channel = (self._connection.channels or {}).get(channel_id)
        if channel is None or channel.confirms is None or channel.events.get('basic_ack') or channel.is_closing:
            return False
        tag, multiple = _unpack_confirm(payload, 4)
        channel.confirms.settle(tag, multiple & 1, True)
        return True

    def _complete(self, channel_id: int, content: _Content) -> None:
        method, body = content.method, b''.join(content.body)
        signature = _unpack_signature(method, 0)
        if signature == spec.Basic.Deliver:
            route = _read_route(method)
            channel = self._raw_channel(channel_id, route[0])
            if channel is not None:
                if not (channel.is_closing or self._connection.is_closing):  # else the broker gives it to another
                    (tag,) = _unpack_u64(method, 5 + method[4])
                    delivery = RawDelivery(channel, tag, route, content.header[12:], body)
                    channel.callbacks[route[0]].callback(delivery)
                return
        elif signature == spec.Basic.Return and (self._connection.channels or {}).get(channel_id) is not None:
            self._connection.channels[channel_id].returned_properties = content.header[12:]
        message = Message(frame_method=signature, frame_args=method)
        message.inbound_header(content.header)
        if body:
            message.inbound_body(body)
        self._dispatch(channel_id, signature, method, message)

    # --- many deliveries at once ---------------------------------------------------

    def dispatch_deliveries(self) -> None:
        """Dispatch deliveries for raw consumers for as long as the buffer holds nothing else."""
        while not self._arriving:
            try:
                delivery = self._take_delivery()
            except (struct.error, IndexError):  # the buffer ends inside the delivery
                return
            if delivery is None:
                return
            delivery.channel.callbacks[delivery.consumer_tag].callback(delivery)

    def _take_delivery(self) -> RawDelivery | None:
        """The delivery at the position, when all its frames are there, in order, and it is for a raw consumer."""
        buffer, start = self._buffer, self._position
        kind, channel_id, size, method = _unpack_method(buffer, start)
        if kind != METHOD or method != _DELIVER:
            return None
        header_at = start + 8 + size
        header_kind, header_channel, header_size, _class_and_weight, body_size = _unpack_content(buffer, header_at)
        header_end = header_at + 7 + header_size
        end = header_end
        body = b''
        if body_size:
            body_kind, body_channel, frame_size = _unpack_head(buffer, header_end + 1)
            end = header_end + 8 + frame_size
            body = buffer[header_end + 8:end]
            if body_kind != BODY or body_channel != channel_id or frame_size != body_size:
                return None
        if header_kind != HEADER or header_channel != channel_id:
            return None
        if not buffer[header_at - 1] == buffer[header_end] == buffer[end] == FRAME_END:
            return None
        tag_at = start + 12 + buffer[start + 11]
        key = buffer[start + 11:tag_at] + buffer[tag_at + 8:header_at]
        route = self._routes.get(key) or self._learn_route(key, buffer[start + 7:header_at])
        channel = self._raw_channel(channel_id, route[0])
        if channel is None or channel.is_closing or self._connection.is_closing:
            return None
        (delivery_tag,) = _unpack_u64(buffer, tag_at)
        self._position = end + 1
        self._connection.bytes_recv += 3
        return RawDelivery(channel, delivery_tag, route, buffer[header_at + 19:header_end], body)

    def _learn_route(self, key: bytes, payload: bytes) -> _Route:
        if len(self._routes) >= _ROUTES_KEPT:
            self._routes.clear()
        route = self._routes[key] = _read_route(payload)
        return route

    def _raw_channel(self, channel_id: int, consumer_tag: str) -> Any:
        """The channel, if `consumer_tag` is a raw consumer there."""
        channel = (self._connection.channels or {}).get(channel_id)
        raw = channel is not None and type(channel.callbacks.get(consumer_tag)) is RawConsumer
        return channel if raw else None
