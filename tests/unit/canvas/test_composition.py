"""What ``|``, `chain`, `group` and `chord` make of each other: shapes, and the values that come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from canvaslite import Celery, chain, chord, group
from canvaslite.canvas import _chain

S = Callable[..., Any]


def test_a_chain_in_a_chain_stands_for_its_steps(s: S) -> None:
    assert len(chain(s('a'), chain(s('b'), s('c')), s('d')).tasks) == 4
    assert len((s('a') | (s('b') | s('c'))).tasks) == 3


def test_a_group_followed_by_a_task_is_a_chord(s: S) -> None:
    for canvas in (group(s('a'), s('b')) | s('c'), chain(group(s('a'), s('b')), s('c'))):
        assert isinstance(canvas, chord)
        assert canvas.body == s('c')


def test_groups_and_tasks_in_turn_stay_a_flat_list_of_steps(s: S) -> None:
    steps = [step for _ in range(100) for step in (group(s('a'), s('b')), s('c'))]

    canvas = chain(s('first'), *steps)

    assert len(canvas.tasks) == 101
    assert all(step.body.KIND == 'task' for step in canvas.tasks[1:])


def test_what_is_no_signature_cannot_be_chained(s: S) -> None:
    with pytest.raises(TypeError):
        s('a') | 10
    with pytest.raises(TypeError):
        chain(s('a'), object())


def test_links_and_options_of_a_chain_go_with_it_into_another(app: Celery, s: S) -> None:
    inner = chain(s('a'), s('b')).set(queue='fast')
    inner.link(s('done'))
    inner.link_error(s('failed'))

    first, last, other = (inner | s('c')).tasks

    assert first.options['queue'] == 'fast'
    assert last.options['link'] == [s('done')]
    assert first.options['link_error'] == last.options['link_error'] == [s('failed')]
    assert not other.options
    assert not any(step.options for step in inner.tasks)


def test_the_last_step_stays_the_callers(s: S) -> None:
    last = s('b')

    assert chain(s('a'), last).tasks[-1] is last


def test_a_generator_is_not_touched_before_its_members_are_needed(app: Celery, s: S) -> None:
    taken = []

    def members() -> Any:
        for name in 'abcd':
            taken.append(name)
            yield s(name)

    canvas = chord(members(), s('body'))

    assert canvas.app is app
    assert taken == ['a', 'b']


def test_what_a_canvas_cannot_be_made_of_is_said(s: S) -> None:
    with pytest.raises(TypeError, match='a chord needs a body'):
        chord([s('a')]).apply_async()
    with pytest.raises(TypeError, match='made of signatures, not of int: 1'):
        group([1]).apply_async()


def test_a_chord_without_a_header_is_refused(s: S) -> None:
    with pytest.raises(TypeError):
        chord(None, s('body'))


# --- values ------------------------------------------------------------------------------------------------------

A, B, C = ['a'], ['b'], ['c']


@pytest.mark.parametrize('canvas, expected', [
    (lambda s: chain(s('a'), s('b'), s('c')), ['c', ['b', A]]),
    (lambda s: s('a') | s('b', 1), ['b', A, 1]),
    (lambda s: group(s('a'), s('b')), [A, B]),
    (lambda s: group(s('a'), group(s('b'), s('c')), s('a')), [A, B, C, A]),
    (lambda s: group(s(name) for name in 'abc'), [A, B, C]),
    (lambda s: group(chain(s('a'), s('b')), s('c')), [['b', A], C]),
    (lambda s: s('a') | group(s('b'), s('c')), [['b', A], ['c', A]]),
    (lambda s: group(chain(s('a'), group(s('b'), s('c')))), [['b', A], ['c', A]]),
    (lambda s: chord(group(chain(s('a'), group(s('b'), s('c')))), s('d')), ['d', [[['b', A], ['c', A]]]]),
    (lambda s: chord([s('a'), s('b')], s('c')), ['c', [A, B]]),
    (lambda s: chord([s('a'), group(s('b'), s('c')), s('a')], s('d')), ['d', [A, B, C, A]]),
    (lambda s: chord([chain(s('a'), s('b')), s('c')], s('d')), ['d', [['b', A], C]]),
    (lambda s: chord((chain(s(n), group(s('b'), s('c'))) for n in 'ac'), s('d')),
     ['d', [[['b', A], ['c', A]], [['b', C], ['c', C]]]]),
    (lambda s: chord([chord([s('a')], s('b')), s('c')], s('d')), ['d', [['b', [A]], C]]),
    (lambda s: chord([chord([s('a')], group(s('b'), chord([s('c')], s('d')))), s('c')], s('e')),
     ['e', [[['b', [A]], ['d', [['c', [A]]]]], C]]),
    (lambda s: chord([s('a')], chord([s('b'), s('c')], s('d'))), ['d', [['b', [A]], ['c', [A]]]]),
    (lambda s: chord([s('a')], chain(s('b'), group(s('c'), s('d')), s('e'))),
     ['e', [['c', ['b', [A]]], ['d', ['b', [A]]]]]),
    (lambda s: chord([s('a')], group(s('b'), s('c'))), [['b', [A]], ['c', [A]]]),
    (lambda s: chord([], s('a')), ['a', []]),
    (lambda s: chain(s('a'), chord([s('b'), s('c')], s('d')), s('e')), ['e', ['d', [['b', A], ['c', A]]]]),
    (lambda s: chord([s('a')], group(s('b'), s('c'))) | chord([s('d'), s('e')], s('f')),
     ['f', [['d', [['b', [A]], ['c', [A]]]], ['e', [['b', [A]], ['c', [A]]]]]]),
    (lambda s: group(s('a'), s('b')) | group(s('c'), s('d')), [['c', [A, B]], ['d', [A, B]]]),
    (lambda s: group(s('a'), s('b')) | group(s('c'), s('d')) | group(s('e'), s('f')) | s('g'),
     ['g', [['e', [['c', [A, B]], ['d', [A, B]]]], ['f', [['c', [A, B]], ['d', [A, B]]]]]]),
    (lambda s: group([s('a')]) | s('b'), ['b', [A]]),
    (lambda s: group([group([s('a')]) | s('b')]) | s('c'), ['c', [['b', [A]]]]),
    (lambda s: chain(group([s('a')]), s('b')), ['b', A]),
    (lambda s: s('a') | group([s('b')]) | s('c'), ['c', ['b', A]]),
    (lambda s: chain(s('a'), group(), s('b')), ['b', A]),
    (lambda s: chain(s('a'), s('b', immutable=True), s('c')), ['c', B]),
    (lambda s: s('a') | chain(s('b'), s('c')).set(immutable=True), ['c', B]),
    (lambda s: s('a') | group(s('b'), s('c')).set(immutable=True), [B, C]),
    (lambda s: s('a') | chord([s('b')], s('c')).set(immutable=True), ['c', [B]]),
])
@pytest.mark.parametrize('eager', [False, True], ids=['sent', 'eager'])
def test_a_canvas_has_the_value_it_means(value_of: Callable[..., Any], s: S, canvas: Any, expected: Any, eager: bool
                                         ) -> None:
    sig = canvas(s)

    assert (sig.apply().get() if eager else value_of(sig)) == expected


@pytest.mark.parametrize('canvas, expected', [
    (lambda s: chain(s('a', 1), s('b')), ['b', ['a', 0, 1]]),
    (lambda s: group(s('a'), chain(s('b'), s('c'))), [['a', 0], ['c', ['b', 0]]]),
    (lambda s: chord([s('a'), chain(s('b'), s('c'))], s('d')), ['d', [['a', 0], ['c', ['b', 0]]]]),
    (lambda s: _chain(group(s('a'), s('b')), s('c')), ['c', [['a', 0], ['b', 0]]]),
    (lambda s: _chain(group(), s('a')), ['a', 0]),
])
def test_partial_arguments_reach_the_first_tasks(value_of: Callable[..., Any], s: S, canvas: Any, expected: Any
                                                 ) -> None:
    assert value_of(canvas(s), 0) == expected


def test_none_is_a_value_like_any_other(app: Celery, value_of: Callable[..., Any], s: S) -> None:
    nothing = app.tasks['nothing']

    assert value_of(nothing.s() | s('a')) == ['a', None]
    assert value_of(chord([nothing.s(), nothing.s()], s('a'))) == ['a', [None, None]]


def test_a_canvas_may_be_sent_again_and_is_not_changed_by_it(value_of: Callable[..., Any], s: S) -> None:
    canvas = chain(s('a'), group(s('b'), chord([s('c')], s('d'))), s('e'))
    before = repr(dict(canvas))

    first, second = value_of(canvas), value_of(canvas)

    assert first == second
    assert repr(dict(canvas)) == before


def test_chunks_and_maps_call_the_task_for_each_item(app: Celery, value_of: Callable[..., Any]) -> None:
    add = app.tasks['add']
    items = [(1, 1), (2, 2), (3, 3)]

    assert value_of(add.starmap(iter(items))) == [2, 4, 6]
    assert value_of(add.chunks(items, 2)) == [[2, 4], [6]]
    assert value_of(add.chunks(items, 2) | app.tasks['call'].s(name='all')) == ['all', [[2, 4], [6]]]
    assert value_of(chord([add.chunks(items, 2), add.s(4, 4)], app.tasks['call'].s(name='all'))) == [
        'all', [[2, 4], [6], 8]]
