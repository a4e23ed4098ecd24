"""Frames to RabbitMQ: one system call for a method with its message (py-amqp's ``frame_writer``)."""

from __future__ import annotations

import struct
from typing import Any

from canvaslite.transport.frames import content_frames, encode_frame
from canvaslite.transport.properties import encode_properties

__all__ = ('OutboundFrames', 'message_bytes')

_pack_signature = struct.Struct('>HH').pack


class OutboundFrames:
    """Writes py-amqp's methods; what waits in the connection's buffer goes first, so that the order is kept."""

    __slots__ = ('_connection',)

    def __init__(self, connection: Any, transport: Any) -> None:
        self._connection = connection

    def __call__(self, kind: int, channel_id: int, signature: tuple[int, int] | None, arguments: bytes | str | None,
                 message: Any) -> None:
        """Write one frame, or a method with its `message` (an ``amqp.Message``)."""
        if signature is None:
            self._connection.send_frames(encode_frame(kind, channel_id, b''))
            return
        payload = arguments.encode() if isinstance(arguments, str) else arguments or b''
        frame = encode_frame(kind, channel_id, _pack_signature(*signature) + payload)
        if message is not None:
            frame = content_frames(channel_id, frame, *message_bytes(message), self._connection.frame_max)
        self._connection.send_frames(frame)


def message_bytes(message: Any) -> tuple[bytes, bytes]:
    """Property list and body of an ``amqp.Message``."""
    body = message.body
    properties = message.properties
    if isinstance(body, str):
        body = body.encode(properties.setdefault('content_encoding', 'utf-8'))
    known = {name: properties.get(name) for name, _form in message.PROPERTIES}
    headers = known.pop('application_headers')
    return encode_properties(headers, **known), body if type(body) is bytes else bytes(memoryview(body))
