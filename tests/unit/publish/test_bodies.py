"""Bodies of messages."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import serialization
from kombu.exceptions import EncodeError, SerializerNotInstalled
from kombu.utils import json as kombu_json

from canvaslite.canvas import signature
from canvaslite.publish.messages import body_encoder

NO_CANVAS = {'callbacks': None, 'errbacks': None, 'chain': None, 'chord': None}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.uuids() | st.decimals()
    | st.datetimes() | st.dates(),
    lambda inner: (st.lists(inner) | st.tuples(inner)
                   | st.dictionaries(st.text() | st.integers() | st.booleans(), inner)))


@pytest.fixture
def shouting_json() -> Iterator[None]:
    """A user's own serializer under the name json."""
    serialization.register('json', lambda value: kombu_json.dumps(value).upper(), kombu_json.loads, 'application/json')
    yield
    serialization.register('json', kombu_json.dumps, kombu_json.loads, 'application/json')


@given(st.lists(VALUES, max_size=3), st.dictionaries(st.text(), VALUES, max_size=3),
       st.none() | st.just({**NO_CANVAS, 'chain': [{'task': 't'}]}))
def test_json_is_kombus_byte_for_byte(args: Any, kwargs: Any, embed: Any) -> None:
    expected = kombu_json.dumps((args, kwargs, NO_CANVAS if embed is None else embed)).encode()
    assert body_encoder('json').encode(args, kwargs, embed) == expected


def test_kombus_types_come_back() -> None:
    values = [UUID(int=1), datetime(2026, 1, 1, tzinfo=timezone.utc), Decimal('1.5'), b'bytes', b'\xff']
    assert kombu_json.loads(body_encoder('json').encode(values, {}, None))[0] == values


def test_what_a_user_registers_under_a_name_is_used(shouting_json: None) -> None:
    assert body_encoder('json').encode(('a',), {}, None).startswith(b'[["A"], {}, {"CALLBACKS"')


def test_the_registry_as_it_was_is_used_again() -> None:
    assert body_encoder('json').encode(('a',), {}, None).startswith(b'[["a"], {}, {"callbacks"')


@pytest.mark.parametrize('serializer', ['json', 'pickle'])
def test_a_signature_leaves_as_a_plain_dict(serializer: str) -> None:
    deep = {'one': [signature('t', args=(signature('u'),))], 'two': (signature('v'),)}
    encoder = body_encoder(serializer)
    raw = encoder.encode((deep,), {'key': signature('w')}, {**NO_CANVAS, 'chord': signature('b')})
    assert b'canvaslite' not in raw
    args, kwargs, embed = serialization.loads(raw, encoder.content_type, encoder.content_encoding, force=True)
    found = args[0]['one'][0]
    for value in (found, found['args'][0], args[0]['two'][0], kwargs['key'], embed['chord']):
        assert type(value) is dict and value['subtask_type'] is None


def test_other_objects_are_pickled_as_they_are() -> None:
    class_path = pickle.loads(body_encoder('pickle').encode((Decimal, NO_CANVAS), {}, None))[0]
    assert class_path == (Decimal, NO_CANVAS)


@pytest.mark.parametrize('serializer', ['json', 'pickle'])
def test_what_cannot_be_encoded_is_an_error(serializer: str) -> None:
    with pytest.raises(EncodeError):
        body_encoder(serializer).encode((lambda: None,), {}, None)


def test_a_serializer_that_kombu_does_not_have_is_an_error() -> None:
    with pytest.raises(SerializerNotInstalled, match='nonsense'):
        body_encoder('nonsense')
