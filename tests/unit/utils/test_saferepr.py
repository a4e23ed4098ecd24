"""Arguments as text."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canvaslite.utils.saferepr import represent_args, represent_kwargs, saferepr

SCALARS = (st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40)
           | st.binary(max_size=20))
KEYS = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
VALUES = st.recursive(SCALARS, lambda inner: (
    st.lists(inner, max_size=4) | st.tuples(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=3)
    | st.sets(KEYS, max_size=3) | st.frozensets(KEYS, max_size=3)), max_leaves=12)


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError('no repr')


@pytest.mark.parametrize(('value', 'text'), [
    ((), '()'), ((1,), '(1,)'), ((1, 'a'), "(1, 'a')"), ([None, True, 1.5], '[None, True, 1.5]'),
    ({'a': {'b': [1]}}, "{'a': {'b': [1]}}"), (set(), 'set()'), ({1}, '{1}'), (frozenset({1}), 'frozenset({1})'),
    ("it's", "'it\\'s'"), ('a\nb', "'a\nb'"), (b'raw', "b'raw'"), (b'\xff', "b'ff'"),
    (Decimal('1.5'), "Decimal('1.5')"), ([[[[1]]]], '[[[[...]]]]'),
])
def test_values_are_shown_as_celery_shows_them(value: Any, text: str) -> None:
    assert saferepr(value, 1024) == text


def test_a_long_value_is_cut_and_its_brackets_are_closed() -> None:
    text = saferepr({'a': [list(range(100)), 'x' * 1000]}, 60)
    assert len(text) < 80
    assert text.startswith("{'a': [[0, 1, 2") and text.endswith(', ...]]}')


def test_a_value_inside_itself_ends() -> None:
    value: list[Any] = [1]
    value.append(value)
    assert 'Recursion' in saferepr(value, 1024, maxlevels=0)


def test_an_object_without_a_repr_does_not_raise() -> None:
    assert 'Unrepresentable' in saferepr((Broken(),), 1024)


@given(st.lists(VALUES, max_size=4).map(tuple), st.dictionaries(st.text(max_size=8), VALUES, max_size=3),
       st.integers(5, 200))
def test_the_short_way_for_plain_arguments_shows_the_same(args: Any, kwargs: Any, maxlen: int) -> None:
    assert represent_args(args, maxlen) == saferepr(args, maxlen)
    assert represent_kwargs(kwargs, maxlen) == saferepr(kwargs, maxlen)
