"""JSON that the standard library gives up on, and the same as the standard library's where it does not."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.utils import json as kombu_json

from canvaslite.utils import deepjson

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def nest(depth: int) -> Any:
    value: Any = []
    for _ in range(depth // 2):
        value = {'in': [value, 1], 'beside': None}
    return value


@given(VALUES)
def test_it_reads_and_writes_what_the_standard_library_does(value: Any) -> None:
    assert deepjson.dumps(value) == json.dumps(value)
    assert deepjson.loads(json.dumps(value, indent=1)) == value


@given(VALUES, st.data())
def test_it_refuses_what_the_standard_library_refuses(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value)
    place = data.draw(st.integers(0, len(text) - 1))
    text = text[:place] + data.draw(st.sampled_from(['', *',]}{[:"1x'])) + text[place + 1:]
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            deepjson.loads(text)
    else:
        assert repr(deepjson.loads(text)) == repr(expected)


def test_values_may_be_nested_thousands_deep() -> None:
    text = deepjson.dumps(nest(10_000))
    assert text.count('[') == 5001 == text.count(']')
    assert deepjson.dumps(deepjson.loads(text)) == text


def test_types_of_kombu_come_back_from_any_depth() -> None:
    value: Any = UUID(int=1)
    for _ in range(1500):
        value = [value]
    found = deepjson.loads(deepjson.dumps(value))
    while isinstance(found, list):
        found = found[0]
    assert found == UUID(int=1)
    assert kombu_json.loads(deepjson.dumps(UUID(int=1))) == UUID(int=1)


def test_a_value_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match=r'levels|Circular'):
        deepjson.dumps(endless)


@pytest.mark.parametrize('value', [{(1, 2): 3}, object()], ids=['a key that is no text', 'no value of JSON'])
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        deepjson.dumps(value)
