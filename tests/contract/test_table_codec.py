"""Our codec of tables and property lists against py-amqp's, on every type."""

from __future__ import annotations

import enum
import struct
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from amqp.basic_message import Message
from amqp.exceptions import FrameSyntaxError
from amqp.serialization import decode_properties_basic, dumps, loads
from hypothesis import given
from hypothesis import strategies as st

from canvaslite.transport.properties import PropertyTemplate, decode_properties, encode_properties
from canvaslite.transport.table import decode_table, encode_entry, encode_table, join_entries, peek

# All of Unicode, lone surrogates included: both codecs let them pass.
texts = st.text(st.characters(exclude_categories=()), max_size=40)
names = st.text(st.characters(exclude_categories=()), max_size=30)
decimals = st.builds(lambda unscaled, scale: Decimal(unscaled).scaleb(-scale),
                     st.integers(-2**31 + 1, 2**31 - 1), st.integers(0, 20))
moments = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)) | st.datetimes(
    datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(timezone.utc))
scalars = (texts | st.binary(max_size=40) | st.booleans() | st.none() | st.floats(allow_nan=False)
           | st.integers(-2**63, 2**63 - 1) | st.sampled_from([-2**31, -2**31 + 1, 2**31 - 1, 2**31])
           | decimals | moments)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(names, inner, max_size=4), max_leaves=20)
tables = st.dictionaries(names, values, max_size=12)

short_texts = st.text(max_size=60)
octets = st.integers(0, 255)
property_lists = st.fixed_dictionaries({}, optional={
    'content_type': short_texts, 'content_encoding': short_texts, 'headers': tables, 'delivery_mode': octets,
    'priority': octets, 'correlation_id': short_texts, 'reply_to': short_texts, 'expiration': short_texts,
    'message_id': short_texts, 'timestamp': st.integers(0, 2**64 - 1), 'type': short_texts, 'user_id': short_texts,
    'app_id': short_texts, 'cluster_id': short_texts,
})


def amqp_names(properties: dict[str, Any]) -> dict[str, Any]:
    return {('application_headers' if name == 'headers' else name): value for name, value in properties.items()}


@given(tables)
def test_a_table_has_the_bytes_that_py_amqp_writes(table: dict[str, Any]) -> None:
    assert encode_table(table) == dumps('F', [table])


@given(tables)
def test_entries_prepared_one_by_one_join_to_the_same_table(table: dict[str, Any]) -> None:
    assert join_entries([encode_entry(name, value) for name, value in table.items()]) == dumps('F', [table])


@given(tables, st.binary(max_size=5))
def test_a_table_reads_as_py_amqp_reads_it(table: dict[str, Any], before: bytes) -> None:
    raw = before + dumps('F', [table]) + b'behind'

    (theirs,), end = loads('F', raw, len(before))

    assert decode_table(raw, len(before)) == (theirs, end)


@pytest.mark.parametrize(('letter', 'width'), [
    ('b', 1), ('B', 1), ('s', 2), ('U', 2), ('u', 2), ('I', 4), ('i', 4), ('l', 8), ('L', 8), ('f', 4), ('d', 8),
    ('t', 1)])
@given(st.data())
def test_numbers_of_every_letter_read_as_py_amqp_reads_them(letter: str, width: int, data: st.DataObject) -> None:
    entry = b'\x01n' + letter.encode() + data.draw(st.binary(min_size=width, max_size=width))
    raw = struct.pack('>I', len(entry)) + entry

    (theirs,), end = loads('F', raw, 0)
    ours, our_end = decode_table(raw, 0)

    assert repr(ours) == repr(theirs)  # by repr: a float may be a NaN
    assert our_end == end


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_byte_arrays_and_names_that_are_no_text_read_as_py_amqp_reads_them(name: bytes, value: bytes) -> None:
    entry = struct.pack('B', len(name)) + name + b'x' + struct.pack('>I', len(value)) + value
    raw = struct.pack('>I', len(entry)) + entry

    assert decode_table(raw, 0)[0] == loads('F', raw, 0)[0][0]


def test_a_value_of_a_subclass_is_written_as_its_base() -> None:
    class Colour(str, enum.Enum):
        RED = 'red'

    class Level(enum.IntEnum):
        HIGH = 3

    table = {'colour': Colour.RED, 'level': Level.HIGH}

    assert encode_table(table) == dumps('F', [table])


@pytest.mark.parametrize('value', [
    object(), {1, 2}, 1j, [object()], {'inner': object()}, Decimal('NaN'), Decimal('1E+3')])
def test_a_value_without_a_form_is_refused_by_name(value: Any) -> None:
    with pytest.raises(FrameSyntaxError, match='AMQP has no form'):
        encode_table({'odd': value})


def test_a_name_that_is_too_long_is_refused() -> None:
    with pytest.raises(FrameSyntaxError, match='255 bytes'):
        encode_table({'n' * 256: 1})


@given(property_lists)
def test_a_property_list_has_the_bytes_that_py_amqp_writes(properties: dict[str, Any]) -> None:
    assert encode_properties(**properties) == Message(**amqp_names(properties))._serialize_properties()


@given(property_lists)
def test_a_property_list_reads_as_py_amqp_reads_it(properties: dict[str, Any]) -> None:
    raw = encode_properties(**properties)

    theirs, _ = decode_properties_basic(raw, 0)

    assert amqp_names(decode_properties(raw)) == theirs


@given(property_lists, tables, st.text(max_size=50))
def test_a_filled_template_is_the_same_property_list(
    properties: dict[str, Any], headers: dict[str, Any], id: str,
) -> None:
    properties = {**properties, 'headers': headers, 'correlation_id': id}
    fixed = {name: value for name, value in properties.items() if name not in ('headers', 'correlation_id')}

    filled = PropertyTemplate(**fixed).fill(encode_table(headers), id.encode())

    assert filled == encode_properties(**properties)


@given(property_lists, st.data())
def test_peek_finds_what_the_whole_list_says(properties: dict[str, Any], data: st.DataObject) -> None:
    raw = encode_properties(**properties)
    headers = decode_properties(raw).get('headers', {})
    wanted = data.draw(st.frozensets(st.sampled_from(sorted(headers) or ['none']) | short_texts, max_size=5))

    assert peek(raw, wanted) == {name: value for name, value in headers.items() if name in wanted}


@given(st.binary(max_size=60))
def test_bytes_that_are_no_table_are_refused_with_one_error(raw: bytes) -> None:
    for read in (lambda: decode_table(raw, 0), lambda: decode_properties(raw), lambda: peek(raw, frozenset({'id'}))):
        try:
            read()
        except FrameSyntaxError:
            continue


@given(property_lists, st.data())
def test_a_property_list_cut_short_is_refused_with_one_error(properties: dict[str, Any], data: st.DataObject) -> None:
    raw = encode_properties(**properties)
    cut = raw[:data.draw(st.integers(0, len(raw) - 1))]

    with pytest.raises(FrameSyntaxError):
        decode_properties(cut)


def test_a_table_nested_without_end_is_refused() -> None:
    depth = 20_000
    raw = b''
    for _ in range(depth):
        raw = b'\x01nF' + struct.pack('>I', len(raw)) + raw
    table = struct.pack('>I', len(raw)) + raw

    with pytest.raises(FrameSyntaxError, match='deep'):
        decode_table(table, 0)
    assert peek(b'\x20\x00' + table, frozenset({'id'})) == {}


def test_a_property_that_amqp_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match='colour'):
        encode_properties(colour='red')
