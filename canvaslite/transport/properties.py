"""The property list of a message: flag word and values, as they follow the body's size in a content header."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from amqp.exceptions import FrameSyntaxError

from canvaslite.transport.table import CUT_SHORT, decode_table, encode_table

_pack_flags = struct.Struct('>H').pack
_unpack_flags = struct.Struct('>H').unpack_from
_pack_u64 = struct.Struct('>Q').pack
_unpack_u64 = struct.Struct('>Q').unpack_from

#: Name, flag and form of every property, in the order in which AMQP writes them.
_TEXT, _TABLE, _OCTET, _MOMENT = range(4)
_OTHER_FORMS = {'headers': _TABLE, 'delivery_mode': _OCTET, 'priority': _OCTET, 'timestamp': _MOMENT}
_NAMES = ('content_type', 'content_encoding', 'headers', 'delivery_mode', 'priority', 'correlation_id', 'reply_to',
          'expiration', 'message_id', 'timestamp', 'type', 'user_id', 'app_id', 'cluster_id')
_PROPERTIES = tuple((name, 0x8000 >> place, _OTHER_FORMS.get(name, _TEXT)) for place, name in enumerate(_NAMES))


def encode_properties(headers: bytes | Mapping[str, Any] | None = None, **properties: Any) -> bytes:
    """The property list of a message; properties have kombu's names, and one that is ``None`` is left out.

    `headers` is a mapping or a table that `table.encode_table` has written. Raises `FrameSyntaxError` for what AMQP
    cannot say and `TypeError` for a property it does not have.
    """
    if unknown := properties.keys() - _NAMES:
        raise TypeError(f'AMQP has no such message property: {", ".join(sorted(unknown))}')
    properties['headers'] = headers
    flags, parts = 0, []
    for name, flag, form in _PROPERTIES:
        value = properties.get(name)
        if value is not None:
            flags |= flag
            parts.append(_encode(name, form, value))
    return _pack_flags(flags) + b''.join(parts)


class PropertyTemplate:
    """A property list prepared but for headers and correlation id, in which messages of one kind differ."""

    __slots__ = ('_after', '_before', '_between')

    def __init__(self, **properties: Any) -> None:
        """Prepare; the properties are those of `encode_properties`, without headers and correlation id."""
        # A list with marks in the two places is cut there.
        headers, mark = b'\0headers\0', '\0correlation id\0'
        whole = encode_properties(headers, correlation_id=mark, **properties)
        self._before, rest = whole.split(headers, 1)
        self._between, self._after = rest.split(b'%c%b' % (len(mark), mark.encode()), 1)

    def fill(self, headers: bytes, correlation_id: bytes) -> bytes:
        """The list with this table (as `table.encode_table` writes it) and this id (in UTF-8, at most 255 bytes)."""
        length = len(correlation_id)
        return b'%b%b%b%c%b%b' % (self._before, headers, self._between, length, correlation_id, self._after)


def _encode(name: str, form: int, value: Any) -> bytes:
    if form == _TEXT:
        text = value.encode('utf-8', 'surrogatepass') if isinstance(value, str) else value or b''
        if len(text) > 255:
            raise FrameSyntaxError(f'The message property {name} may have 255 bytes, this one has {len(text)}')
        return b'%c%b' % (len(text), text)
    if form == _TABLE:
        return value if isinstance(value, bytes) else encode_table(value)
    if form == _MOMENT:
        return _pack_u64(value)
    if not 0 <= value <= 255:
        raise FrameSyntaxError(f'The message property {name} is a number from 0 to 255, not {value!r}')
    return b'%c' % value


def decode_properties(raw: bytes) -> dict[str, Any]:
    """The properties in a raw list that are there, by kombu's names. Raises `FrameSyntaxError` for a malformed one."""
    try:
        return _read_all(raw)
    except CUT_SHORT as error:
        raise FrameSyntaxError(f'A property list cannot be read: {error}') from None


def _read_all(raw: bytes) -> dict[str, Any]:
    (flags,) = _unpack_flags(raw, 0)
    offset = 2
    properties: dict[str, Any] = {}
    for name, flag, form in _PROPERTIES:
        if not flags & flag:
            continue
        if form == _TEXT:
            start = offset + 1
            offset = start + raw[offset]
            properties[name] = raw[start:offset].decode('utf-8', 'surrogatepass')
        elif form == _TABLE:
            properties[name], offset = decode_table(raw, offset)
        elif form == _OCTET:
            properties[name] = raw[offset]
            offset += 1
        else:
            (properties[name],) = _unpack_u64(raw, offset)
            offset += 8
    if offset > len(raw):
        raise FrameSyntaxError('A property list ends too early')
    return properties
