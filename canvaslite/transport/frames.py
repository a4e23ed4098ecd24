"""Frames as bytes: what a message looks like on the wire to RabbitMQ.

Every frame is type, channel, size, payload and the end octet. A message is a method frame (basic.publish or
basic.deliver), a header frame (body size and property list) and as many body frames as `frame_max` makes necessary.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

from amqp.exceptions import FrameSyntaxError

from canvaslite.transport.properties import encode_properties

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
#: Bytes of a frame that are not payload.
FRAME_OVERHEAD = 8

_END = b'\xce'
_pack_head = struct.Struct('>BHI').pack
_pack_content = struct.Struct('>BHIHHQ').pack
_pack_next_body = struct.Struct('>BBHI').pack
_pack_ack = struct.Struct('>BHIHHQBB').pack

_BASIC, _ACK, _REJECT = 60, 80, 90


@lru_cache(maxsize=1024)
def publish_frame(channel_id: int, exchange: str, routing_key: str, mandatory: bool, immediate: bool = False) -> bytes:
    """The method frame of basic.publish. Raises `FrameSyntaxError` for a name over 255 bytes."""
    flags = (1 if mandatory else 0) | (2 if immediate else 0)
    names = encode_short_text(exchange) + encode_short_text(routing_key)
    return encode_frame(METHOD, channel_id, b'\x00\x3c\x00\x28\x00\x00%b%c' % (names, flags))


def encode_short_text(text: str) -> bytes:
    """A name as AMQP writes it: one length byte and UTF-8. Raises `FrameSyntaxError` over 255 bytes."""
    raw = text.encode('utf-8', 'surrogatepass')
    if len(raw) > 255:
        raise FrameSyntaxError(f'A name may have 255 bytes, this one has {len(raw)}: {text[:40]!r}…')
    return b'%c%b' % (len(raw), raw)


def encode_frame(kind: int, channel_id: int, payload: bytes) -> bytes:
    """One frame."""
    return b'%b%b\xce' % (_pack_head(kind, channel_id, len(payload)), payload)


def content_frames(channel_id: int, method_frame: bytes, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """A method that carries a message, its header and its body, cut into frames of at most `frame_max` bytes."""
    size = len(body)
    header = _pack_content(HEADER, channel_id, 12 + len(properties), _BASIC, 0, size)
    step = frame_max - FRAME_OVERHEAD
    if 0 < size <= step:
        body_head = _pack_next_body(FRAME_END, BODY, channel_id, size)
        return b''.join((method_frame, header, properties, body_head, body, _END))
    pieces: list[bytes | memoryview] = [method_frame, header, properties, _END]
    whole = memoryview(body)
    for start in range(0, size, step):
        piece = whole[start:start + step]
        pieces += _pack_head(BODY, channel_id, len(piece)), piece, _END
    return b''.join(pieces)


def message_bytes(message: Any) -> tuple[bytes, bytes]:
    """Property list and body of an ``amqp.Message``."""
    body, properties = message.body, message.properties
    if isinstance(body, str):
        body = body.encode(properties.setdefault('content_encoding', 'utf-8'))
    known = {name: properties.get(name) for name, _form in message.PROPERTIES}
    headers = known.pop('application_headers')
    return encode_properties(headers, **known), body if type(body) is bytes else bytes(memoryview(body))


def encode_ack(channel_id: int, delivery_tag: int, multiple: bool) -> bytes:
    """basic.ack."""
    return _pack_ack(METHOD, channel_id, 13, _BASIC, _ACK, delivery_tag, multiple, FRAME_END)


def encode_reject(channel_id: int, delivery_tag: int, requeue: bool) -> bytes:
    """basic.reject."""
    return _pack_ack(METHOD, channel_id, 13, _BASIC, _REJECT, delivery_tag, requeue, FRAME_END)
