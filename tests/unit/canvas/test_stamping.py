"""Stamps reach every task of a canvas, and what is linked to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from canvaslite import StampingVisitor, chain, chord, group
from canvaslite.canvas.stamping import merge_stamps

S = Callable[..., Any]


class Recording(StampingVisitor):
    """Stamps each part with the name of what visited it."""

    def __init__(self) -> None:
        self.visited: list[str] = []

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        self.visited.append(f'task {sig.kwargs["name"]}')
        return {'seen': 'task'}

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
        self.visited.append('chain')
        return {'in_chain': True}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:
        self.visited.append('chain ends')

    def on_chord_body(self, sig: Any, **header: Any) -> dict[str, Any]:
        return {'is_body': True}

    def on_callback(self, callback: Any, **header: Any) -> dict[str, Any]:
        return {'is_callback': True}


def test_a_stamp_is_an_option_that_is_listed(s: S) -> None:
    assert s('a').stamp(customer=7).options == {'customer': 7, 'stamped_headers': ['customer']}


def test_every_canvas_returns_itself_and_stamps_all_tasks(s: S) -> None:
    for canvas in (chain(s('a'), s('b')), group(s('a'), s('b')), group(s(n) for n in 'ab')):
        assert canvas.stamp(customer=7) is canvas
        assert [task.options['customer'] for task in canvas.tasks] == [7, 7]
    joined = chord([s('a'), s('b')], s('c')).stamp(customer=7)
    assert [task.options['customer'] for task in (*joined.tasks, joined.body)] == [7, 7, 7]


def test_a_visitor_says_what_each_part_gets(s: S) -> None:
    visitor = Recording()
    first = s('a')
    first.link(s('linked'))
    canvas = chain(s('start'), chord([first], s('body')))

    canvas.stamp(visitor)

    assert visitor.visited == ['chain', 'task start', 'task linked', 'task a', 'task body', 'chain ends']
    header, body = canvas.tasks[1].tasks.tasks[0], canvas.tasks[1].body
    assert header.options['in_chain'] and 'is_body' not in header.options
    assert body.options['is_body']
    assert header.options['link'][0]['options']['is_callback']


@pytest.mark.parametrize('append, expected', [(False, 'one'), (True, ['two', 'one'])])
def test_a_stamp_given_twice_stays_or_is_collected(s: S, append: bool, expected: Any) -> None:
    sig = s('a').stamp(customer='one').stamp(append_stamps=append, customer='two')

    assert sig.options['customer'] == (expected if append else 'two')


def test_merging_joins_lists_and_descends_into_dicts() -> None:
    stamps = {'list': [1], 'dict': {'a': 1}, 'one': 1, 'none': None}

    merge_stamps(stamps, {'list': [2], 'dict': {'b': 2}, 'one': 2, 'none': 3, 'new': 4})

    assert stamps == {'list': [1, 2], 'dict': {'a': 1, 'b': 2}, 'one': [1, 2], 'none': [3], 'new': 4}


def test_stamps_travel_in_the_headers(s: S, queue: Any) -> None:
    chain(s('a'), s('b')).stamp(customer=7).apply_async()

    message, = queue.take()

    assert message.headers['stamped_headers'] == ['customer']
    assert message.headers['stamps'] == {'customer': 7}
