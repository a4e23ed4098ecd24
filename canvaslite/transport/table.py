"""AMQP field tables: the bytes of message headers, written and read.

The types are those of `amqp.serialization`, byte for byte and value for value (a property test compares the
two on every type); only the way there is shorter: values are dispatched on their exact type, and reading
slices the buffer once per value. A table that breaks the format raises `amqp.exceptions.FrameSyntaxError`.
"""

from __future__ import annotations

import struct
from calendar import timegm
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from functools import lru_cache
from typing import Any

from amqp.exceptions import FrameSyntaxError

__all__ = ('decode_table', 'decode_value', 'encode_entry', 'encode_table', 'encode_value', 'join_entries', 'peek')

_U16 = struct.Struct('>H')
_U32 = struct.Struct('>I')
_pack_length = _U32.pack
_unpack_length = _U32.unpack_from
_pack_long_string = struct.Struct('>cI').pack
_pack_int32 = struct.Struct('>ci').pack
_pack_int64 = struct.Struct('>cq').pack
_pack_double = struct.Struct('>cd').pack
_pack_decimal = struct.Struct('>cBi').pack
_pack_timestamp = struct.Struct('>cQ').pack

#: What the struct module and indexing raise when the bytes end too early.
_CUT_SHORT = (struct.error, IndexError)

#: Flag word of a property list: content type, content encoding, headers.
_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS = 0x8000, 0x4000, 0x2000


# --- writing -------------------------------------------------------------------


def encode_table(mapping: Mapping[str, Any]) -> bytes:
    """`mapping` as a field table, its four-byte length in front.

    Raises `FrameSyntaxError` for a value of a type that AMQP has no form for, and for a name over 255 bytes.
    """
    try:
        return join_entries([encode_entry(name, value) for name, value in mapping.items()])
    except RecursionError:
        raise FrameSyntaxError('A field table is nested too deeply') from None


def encode_entry(name: str | bytes, value: Any) -> bytes:
    """One name and its value, as they stand inside a table. Entries prepared once may be joined many times."""
    try:
        writer = _WRITERS.get(type(value)) or _writer_of_subclass(value)
        return _encode_name(name) + writer(value)
    except _NoForm:
        raise FrameSyntaxError(f'AMQP has no form for header {name!r}: {value!r} is of {type(value)}') from None


@lru_cache(maxsize=1024)
def _encode_name(name: str | bytes) -> bytes:
    key = _utf8(name) if isinstance(name, str) else name
    if len(key) > 255:
        raise FrameSyntaxError(f'The name of a header may have 255 bytes, this one has {len(key)}: {name!r}')
    return b'%c%b' % (len(key), key)


def join_entries(entries: Iterable[bytes]) -> bytes:
    """A field table of entries made by `encode_entry`, its four-byte length in front."""
    joined = b''.join(entries)
    return _pack_length(len(joined)) + joined


def encode_value(value: Any) -> bytes:
    """`value` as it stands in a table or an array: the letter of its type and its bytes."""
    writer = _WRITERS.get(type(value)) or _writer_of_subclass(value)
    return writer(value)


class _NoForm(ValueError):
    """AMQP has no form for a value; whoever knows the value's name says so."""


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates: rare, so the fast call is tried first
        return text.encode('utf-8', 'surrogatepass')


def _write_text(value: str) -> bytes:
    try:
        text = value.encode()
    except UnicodeEncodeError:
        text = _utf8(value)
    return _pack_long_string(b'S', len(text)) + text


def _write_bytes(value: bytes) -> bytes:
    return _pack_long_string(b'S', len(value)) + value


def _write_bool(value: bool) -> bytes:
    return b't\x01' if value else b't\x00'


def _write_int(value: int) -> bytes:
    if -2147483647 <= value <= 2147483647:
        return _pack_int32(b'I', value)
    return _pack_int64(b'L', value)


def _write_float(value: float) -> bytes:
    return _pack_double(b'd', value)


def _write_decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or exponent > 0:
        raise _NoForm
    unscaled = int(''.join(map(str, digits)))
    return _pack_decimal(b'D', -exponent, -unscaled if sign else unscaled)


def _write_datetime(value: datetime) -> bytes:
    return _pack_timestamp(b'T', timegm(value.utctimetuple()))


def _write_dict(value: dict[str, Any]) -> bytes:
    return b'F' + encode_table(value)


def _write_list(value: list[Any] | tuple[Any, ...]) -> bytes:
    try:
        return b'A' + join_entries([encode_value(member) for member in value])
    except _NoForm:
        raise FrameSyntaxError(f'AMQP has no form for a member of the list {value!r}') from None


def _write_none(value: None) -> bytes:
    return b'V'


_WRITERS: dict[type, Callable[[Any], bytes]] = {
    str: _write_text, bytes: _write_bytes, bool: _write_bool, float: _write_float, int: _write_int,
    Decimal: _write_decimal, datetime: _write_datetime, dict: _write_dict, list: _write_list, tuple: _write_list,
    type(None): _write_none,
}


def _writer_of_subclass(value: Any) -> Callable[[Any], bytes]:
    for base, writer in _WRITERS.items():
        if isinstance(value, base):
            return writer
    raise _NoForm


# --- reading -------------------------------------------------------------------


def decode_table(buffer: bytes, offset: int) -> tuple[dict[str, Any], int]:
    """The field table at `offset` (where its length stands), and the offset behind it."""
    try:
        return _read_table(buffer, offset)
    except _CUT_SHORT as error:
        raise FrameSyntaxError(f'A field table ends too early: {error}') from None
    except RecursionError:
        raise FrameSyntaxError('A field table is nested too deeply') from None


def decode_value(buffer: bytes, offset: int) -> tuple[Any, int]:
    """The value at `offset` (where the letter of its type stands), and the offset behind it."""
    try:
        reader = _READERS[buffer[offset]]
    except KeyError:
        raise _unknown_type(buffer[offset]) from None
    return reader(buffer, offset + 1)


def _unknown_type(letter: int) -> FrameSyntaxError:
    return FrameSyntaxError(f'Unknown type in a field table: {chr(letter)!r}')


def _read_table(buffer: bytes, offset: int) -> tuple[dict[str, Any], int]:
    (length,) = _unpack_length(buffer, offset)
    offset += 4
    limit = offset + length
    table: dict[str, Any] = {}
    while offset < limit:
        start = offset + 1
        offset = start + buffer[offset]
        key: Any = buffer[start:offset]
        try:
            key = key.decode()
        except UnicodeDecodeError:
            key = _text_or_bytes(key)
        letter = buffer[offset]
        if letter == 83:  # 'S', nearly every header
            start = offset + 5
            offset = start + _unpack_length(buffer, offset + 1)[0]
            value: Any = buffer[start:offset]
            try:
                table[key] = value.decode()
            except UnicodeDecodeError:
                table[key] = _text_or_bytes(value)
        elif letter == 86:  # 'V'
            table[key] = None
            offset += 1
        elif letter in _READERS:
            table[key], offset = _READERS[letter](buffer, offset + 1)
        else:
            raise _unknown_type(letter)
    if offset != limit or limit > len(buffer):
        raise FrameSyntaxError('A field table does not end where it says')
    return table, offset


def _text_or_bytes(raw: bytes) -> str | bytes:
    try:
        return raw.decode('utf-8', 'surrogatepass')
    except UnicodeDecodeError:
        return raw


def _read_text(buffer: bytes, offset: int) -> tuple[str | bytes, int]:
    end = offset + 4 + _unpack_length(buffer, offset)[0]
    raw = buffer[offset + 4:end]
    try:
        return raw.decode(), end
    except UnicodeDecodeError:
        return _text_or_bytes(raw), end


def _read_bytes(buffer: bytes, offset: int) -> tuple[bytes, int]:
    end = offset + 4 + _unpack_length(buffer, offset)[0]
    return buffer[offset + 4:end], end


def _read_array(buffer: bytes, offset: int) -> tuple[list[Any], int]:
    limit = offset + 4 + _unpack_length(buffer, offset)[0]
    offset += 4
    members: list[Any] = []
    while offset < limit:
        if buffer[offset] == 86:  # 'V': the time limits that most tasks do not have
            members.append(None)
            offset += 1
            continue
        member, offset = decode_value(buffer, offset)
        members.append(member)
    return members, offset


def _read_decimal(buffer: bytes, offset: int) -> tuple[Decimal, int]:
    scale, unscaled = struct.unpack_from('>Bi', buffer, offset)
    return Decimal(unscaled) / Decimal(10 ** scale), offset + 5


def _read_timestamp(buffer: bytes, offset: int) -> tuple[datetime, int]:
    (seconds,) = struct.unpack_from('>Q', buffer, offset)
    try:
        moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    except (ValueError, OverflowError, OSError):
        raise FrameSyntaxError(f'A timestamp is out of range: {seconds}') from None
    return moment.replace(tzinfo=None), offset + 8


def _read_none(buffer: bytes, offset: int) -> tuple[None, int]:
    return None, offset


def _read_bool(buffer: bytes, offset: int) -> tuple[bool, int]:
    return buffer[offset] != 0, offset + 1


class _NumberReader:
    """Reads one number of a fixed width."""

    __slots__ = ('_unpack', '_width')

    def __init__(self, format: str) -> None:
        layout = struct.Struct(format)
        self._unpack = layout.unpack_from
        self._width = layout.size

    def __call__(self, buffer: bytes, offset: int) -> tuple[Any, int]:
        return self._unpack(buffer, offset)[0], offset + self._width


_Reader = Callable[[bytes, int], tuple[Any, int]]
# 's' and 'U' are 16-bit integers, 'l' and 'L' signed 64-bit ones: RabbitMQ's reading of the letters, which is not the
# specification's.
_READERS_BY_LETTER: dict[str, _Reader] = {
    'S': _read_text, 'x': _read_bytes, 'A': _read_array, 'F': _read_table, 'D': _read_decimal, 'T': _read_timestamp,
    'V': _read_none, 't': _read_bool,
    'b': _NumberReader('>b'), 'B': _NumberReader('>B'), 's': _NumberReader('>h'), 'U': _NumberReader('>h'),
    'u': _NumberReader('>H'), 'I': _NumberReader('>i'), 'i': _NumberReader('>I'), 'l': _NumberReader('>q'),
    'L': _NumberReader('>q'), 'f': _NumberReader('>f'), 'd': _NumberReader('>d'),
}
_READERS: dict[int, _Reader] = {ord(letter): reader for letter, reader in _READERS_BY_LETTER.items()}


# --- reading only what is wanted -------------------------------------------------

#: Bytes of a value of fixed width, by its letter; the others begin with their length.
_WIDTHS = {ord(letter): width for letter, width in {
    'V': 0, 't': 1, 'b': 1, 'B': 1, 's': 2, 'U': 2, 'u': 2, 'I': 4, 'i': 4, 'f': 4, 'D': 5, 'l': 8, 'L': 8, 'd': 8,
    'T': 8,
}.items()}
_COUNTED = frozenset(b'SxAF')


@lru_cache(maxsize=64)
def _by_wire_name(wanted: frozenset[str]) -> dict[bytes, str]:
    return {_utf8(name): name for name in wanted}


def peek(properties: bytes, wanted: frozenset[str]) -> dict[str, Any]:
    """Those of the `wanted` headers that the raw property list has, decoded; all others are stepped over.

    Stops at the last one found, so headers that are written first are cheap to read.
    Raises `FrameSyntaxError` when the list cannot be read that far.
    """
    try:
        return _read_wanted(properties, _by_wire_name(wanted))
    except _CUT_SHORT as error:
        raise FrameSyntaxError(f'A property list ends too early: {error}') from None
    except RecursionError:
        raise FrameSyntaxError('A header is nested too deeply') from None


def _read_wanted(buffer: bytes, names: dict[bytes, str]) -> dict[str, Any]:
    offset, limit = _header_table(buffer)
    found: dict[str, Any] = {}
    missing = len(names)
    while missing and offset < limit:
        start = offset + 1
        offset = start + buffer[offset]
        name = names.get(buffer[start:offset])
        if name is not None:
            found[name], offset = decode_value(buffer, offset)
            missing -= 1
        elif buffer[offset] == 86:  # 'V'
            offset += 1
        else:
            offset = _skip_value(buffer, offset)
    if offset > len(buffer):
        raise FrameSyntaxError('A property list ends too early')
    return found


def _skip_value(buffer: bytes, offset: int) -> int:
    letter = buffer[offset]
    if letter in _COUNTED:
        return offset + 5 + _unpack_length(buffer, offset + 1)[0]
    if letter in _WIDTHS:
        return offset + 1 + _WIDTHS[letter]
    raise _unknown_type(letter)


def _header_table(buffer: bytes) -> tuple[int, int]:
    """Where the entries of the header table begin and end in a raw property list."""
    (flags,) = _U16.unpack_from(buffer, 0)
    if not flags & _HEADERS:
        return 0, 0
    offset = 2
    if flags & _CONTENT_TYPE:
        offset += 1 + buffer[offset]
    if flags & _CONTENT_ENCODING:
        offset += 1 + buffer[offset]
    (length,) = _unpack_length(buffer, offset)
    return offset + 4, offset + 4 + length
