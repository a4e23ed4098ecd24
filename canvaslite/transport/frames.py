"""Frames as bytes: what a message looks like on the wire to RabbitMQ.

Every frame is type, channel, size, payload and the end octet. A message is a method frame (basic.publish or
basic.deliver), a header frame (body size and property list) and as many body frames as `frame_max` makes necessary.
"""

from __future__ import annotations

import struct

from amqp.exceptions import FrameSyntaxError

__all__ = ('BODY', 'FRAME_END', 'HEADER', 'HEARTBEAT', 'METHOD', 'PreparedPublish', 'content_frames', 'encode_ack',
           'encode_frame', 'encode_reject', 'encode_short_text')

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
#: Bytes of a frame that are not payload.
FRAME_OVERHEAD = 8

_END = b'\xce'
_pack_head = struct.Struct('>BHI').pack
_pack_method = struct.Struct('>BHIHH').pack
_pack_content = struct.Struct('>BHIHHQ').pack
_pack_next_body = struct.Struct('>BBHI').pack
_pack_ack = struct.Struct('>BHIHHQBB').pack

_BASIC, _PUBLISH, _ACK, _REJECT = 60, 40, 80, 90


class PreparedPublish:
    """The method frame of basic.publish to one exchange and routing key, built once per channel number."""

    __slots__ = ('_arguments', '_channel_id', '_frame', 'exchange', 'routing_key')

    def __init__(self, exchange: str, routing_key: str, mandatory: bool = False, immediate: bool = False) -> None:
        """Raises `FrameSyntaxError` for a name over 255 bytes."""
        self.exchange = exchange
        self.routing_key = routing_key
        flags = (1 if mandatory else 0) | (2 if immediate else 0)
        self._arguments = b'\x00\x00%b%b%c' % (encode_short_text(exchange), encode_short_text(routing_key), flags)
        self._channel_id = 0
        self._frame = b''

    def frame(self, channel_id: int) -> bytes:
        """The whole frame for this channel."""
        if channel_id != self._channel_id:
            size = 4 + len(self._arguments)
            self._frame = _pack_method(METHOD, channel_id, size, _BASIC, _PUBLISH) + self._arguments + _END
            self._channel_id = channel_id
        return self._frame


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
    if 0 < size <= frame_max - FRAME_OVERHEAD:
        body_head = _pack_next_body(FRAME_END, BODY, channel_id, size)
        return b''.join((method_frame, header, properties, body_head, body, _END))
    pieces: list[bytes | memoryview] = [method_frame, header, properties, _END]
    step = frame_max - FRAME_OVERHEAD
    whole = memoryview(body)
    for start in range(0, size, step):
        piece = whole[start:start + step]
        pieces += _pack_head(BODY, channel_id, len(piece)), piece, _END
    return b''.join(pieces)


def encode_ack(channel_id: int, delivery_tag: int, multiple: bool) -> bytes:
    """basic.ack."""
    return _pack_ack(METHOD, channel_id, 13, _BASIC, _ACK, delivery_tag, multiple, FRAME_END)


def encode_reject(channel_id: int, delivery_tag: int, requeue: bool) -> bytes:
    """basic.reject."""
    return _pack_ack(METHOD, channel_id, 13, _BASIC, _REJECT, delivery_tag, requeue, FRAME_END)
