"""AMQP field tables: the bytes of message headers, written and read.

The types are those of `amqp.serialization`, byte for byte and value for value (a property test compares the two on
every type). What headers usually hold is written and read here, much faster; all else is left to py-amqp.
A table that breaks the format raises `amqp.exceptions.FrameSyntaxError`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from amqp.exceptions import FrameSyntaxError
from amqp.serialization import _read_item, _write_item

_pack_length = struct.Struct('>I').pack
_unpack_length = struct.Struct('>I').unpack_from
_unpack_int32 = struct.Struct('>i').unpack_from
_unpack_flags = struct.Struct('>H').unpack_from
_pack_long_string = struct.Struct('>cI').pack
_pack_int32 = struct.Struct('>ci').pack
_pack_int64 = struct.Struct('>cq').pack

#: What reading raises when the bytes end too early, or do not make a value (a time out of range).
CUT_SHORT = (struct.error, IndexError, ValueError, OverflowError, OSError)

#: Flag word of a property list: content type, content encoding, headers.
_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS = 0x8000, 0x4000, 0x2000
#: Letters of types.
_TEXT, _VOID, _INT32, _BOOL, _TABLE, _ARRAY = b'SVItFA'
#: Types whose value begins with its length.
_COUNTED = frozenset(b'SxAF')


def encode_table(mapping: Mapping[str, Any]) -> bytes:
    """`mapping` as a field table with its length. Raises `FrameSyntaxError` for values and names that AMQP cannot say.
    """
    try:
        return join_entries([encode_entry(name, value) for name, value in mapping.items()])
    except RecursionError:
        raise FrameSyntaxError('A field table is nested too deeply') from None


def encode_entry(name: str | bytes, value: Any) -> bytes:
    """One name and its value, as they stand inside a table. Entries prepared once may be joined many times."""
    try:
        return _encode_name(name) + _WRITERS.get(type(value), _write_as_py_amqp)(value)
    except (ValueError, TypeError, struct.error):
        raise FrameSyntaxError(f'AMQP has no form for header {name!r}: {value!r} is of {type(value)}') from None


@lru_cache(maxsize=1024)
def _encode_name(name: str | bytes) -> bytes:
    key = name.encode('utf-8', 'surrogatepass') if isinstance(name, str) else name
    if len(key) > 255:
        raise FrameSyntaxError(f'The name of a header may have 255 bytes, this one has {len(key)}: {name!r}')
    return b'%c%b' % (len(key), key)


def join_entries(entries: Iterable[bytes]) -> bytes:
    """A field table of entries made by `encode_entry`, its four-byte length in front."""
    joined = b''.join(entries)
    return _pack_length(len(joined)) + joined


def _write_text(value: str) -> bytes:
    text = value.encode('utf-8', 'surrogatepass')
    return _pack_long_string(b'S', len(text)) + text


def _write_int(value: int) -> bytes:
    return _pack_int32(b'I', value) if -2147483647 <= value <= 2147483647 else _pack_int64(b'L', value)


def _write_list(value: list[Any] | tuple[Any, ...]) -> bytes:
    return b'A' + join_entries([_WRITERS.get(type(member), _write_as_py_amqp)(member) for member in value])


def _write_as_py_amqp(value: Any) -> bytes:
    """What is rare: floats, times, decimals, bytes, subclasses. Raises ValueError where AMQP has no form."""
    parts: list[bytes] = []
    _write_item(value, parts.append, None)
    return b''.join(parts)


_WRITERS: dict[type, Callable[[Any], bytes]] = {
    str: _write_text, bool: lambda value: b't\x01' if value else b't\x00', int: _write_int, list: _write_list,
    tuple: _write_list, dict: lambda value: b'F' + encode_table(value), type(None): lambda value: b'V',
}


def decode_table(buffer: bytes, offset: int) -> tuple[dict[str, Any], int]:
    """The field table at `offset` (where its length stands), and the offset behind it."""
    try:
        return _read_table(buffer, offset)
    except CUT_SHORT as error:
        raise FrameSyntaxError(f'A field table ends too early: {error}') from None
    except RecursionError:
        raise FrameSyntaxError('A field table is nested too deeply') from None


def _read_table(buffer: bytes, offset: int) -> tuple[dict[str, Any], int]:
    limit = offset + 4 + _unpack_length(buffer, offset)[0]
    offset += 4
    table: dict[str, Any] = {}
    while offset < limit:
        start = offset + 1
        offset = start + buffer[offset]
        key = _text_or_bytes(buffer[start:offset])
        letter = buffer[offset]
        if letter == _TEXT:
            start = offset + 5
            offset = start + _unpack_length(buffer, offset + 1)[0]
            table[key] = _text_or_bytes(buffer[start:offset])
        elif letter == _VOID:
            table[key] = None
            offset += 1
        else:
            table[key], offset = _read_value(buffer, offset)
    if offset != limit or limit > len(buffer):
        raise FrameSyntaxError('A field table does not end where it says')
    return table, offset


def _text_or_bytes(raw: bytes) -> Any:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        with suppress(UnicodeDecodeError):  # lone surrogates pass; what is no text at all stays bytes
            return raw.decode('utf-8', 'surrogatepass')
        return raw


def _read_value(buffer: bytes, offset: int) -> tuple[Any, int]:
    """The value at `offset`, where the letter of its type stands, and the offset behind it."""
    letter = buffer[offset]
    if letter == _TEXT:
        end = offset + 5 + _unpack_length(buffer, offset + 1)[0]
        return _text_or_bytes(buffer[offset + 5:end]), end
    if letter == _VOID:
        return None, offset + 1
    if letter == _ARRAY:
        return _read_array(buffer, offset + 1)
    if letter == _INT32:
        return _unpack_int32(buffer, offset + 1)[0], offset + 5
    if letter == _BOOL:
        return buffer[offset + 1] != 0, offset + 2
    if letter == _TABLE:
        return _read_table(buffer, offset + 1)
    return _read_item(buffer, offset)  # type: ignore[no-any-return]


def _read_array(buffer: bytes, offset: int) -> tuple[list[Any], int]:
    limit = offset + 4 + _unpack_length(buffer, offset)[0]
    offset += 4
    members: list[Any] = []
    while offset < limit:
        if buffer[offset] == _VOID:  # the time limits that most tasks do not have
            members.append(None)
            offset += 1
        else:
            member, offset = _read_value(buffer, offset)
            members.append(member)
    return members, offset


def peek(properties: bytes, wanted: frozenset[str]) -> dict[str, Any]:
    """The `wanted` headers of a raw property list, decoded; others are stepped over, and nothing is read behind the
    last. Raises `FrameSyntaxError` when the list cannot be read that far."""
    try:
        return _read_wanted(properties, _by_wire_name(wanted))
    except CUT_SHORT as error:
        raise FrameSyntaxError(f'A property list ends too early: {error}') from None
    except RecursionError:
        raise FrameSyntaxError('A header is nested too deeply') from None


@lru_cache(maxsize=64)
def _by_wire_name(wanted: frozenset[str]) -> dict[bytes, str]:
    return {name.encode('utf-8', 'surrogatepass'): name for name in wanted}


def _read_wanted(buffer: bytes, names: dict[bytes, str]) -> dict[str, Any]:
    offset, limit = _find_headers(buffer)
    found: dict[str, Any] = {}
    missing = len(names)
    while missing and offset < limit:
        start = offset + 1
        offset = start + buffer[offset]
        name = names.get(buffer[start:offset])
        if name is not None:
            found[name], offset = _read_value(buffer, offset)
            missing -= 1
        elif buffer[offset] == _VOID:
            offset += 1
        elif buffer[offset] in _COUNTED:
            offset += 5 + _unpack_length(buffer, offset + 1)[0]
        else:
            _, offset = _read_value(buffer, offset)
    if offset > len(buffer):
        raise FrameSyntaxError('A property list ends too early')
    return found


def _find_headers(buffer: bytes) -> tuple[int, int]:
    """Where the entries of the header table begin and end in a raw property list."""
    (flags,) = _unpack_flags(buffer, 0)
    if not flags & _HEADERS:
        return 0, 0
    offset = 2
    for text_before in (_CONTENT_TYPE, _CONTENT_ENCODING):
        if flags & text_before:
            offset += 1 + buffer[offset]
    return offset + 4, offset + 4 + _unpack_length(buffer, offset)[0]
