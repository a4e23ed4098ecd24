"""What a part of a canvas says stays true wherever the part stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from canvaslite import Celery, chain, chord, group, signature
from canvaslite.canvas import chunks

S = Callable[..., Any]
Value = Callable[..., Any]


def test_a_group_gives_its_members_its_arguments_also_inside_another(value_of: Value, s: S) -> None:
    inner = group(s('a'), s('b')).clone(('given',))

    assert value_of(group(inner, s('c'))) == [['a', 'given'], ['b', 'given'], ['c']]
    assert value_of(chord([inner, s('c')], s('body'))) == ['body', [['a', 'given'], ['b', 'given'], ['c']]]
    assert value_of(inner | s('body')) == ['body', [['a', 'given'], ['b', 'given']]]
    assert value_of(chain(s('first'), group(s('a')).clone(('given',)))) == ['a', ['first'], 'given']


def test_an_immutable_group_gives_its_members_the_arguments_that_it_had(value_of: Value, s: S) -> None:
    canvas = chain(s('first'), group(s('a'), s('b')).clone(('given',)).set(immutable=True))

    assert value_of(canvas) == [['a', 'given'], ['b', 'given']]


def test_chunks_are_their_group_also_when_they_were_written_and_read(app: Celery, value_of: Value) -> None:
    parts = app.tasks['add'].chunks([(1, 1), (2, 2), (3, 3)], 2)
    read = signature(dict(parts), app=app)

    assert isinstance(read, chunks)
    assert value_of(read | app.tasks['call'].s(name='all')) == ['all', [[2, 4], [6]]]


@pytest.mark.parametrize('canvas', [
    lambda app, s: chain(s('first'), group(s('a'), s('b'), s('c'))),
    lambda app, s: chain(chain(s('first'), group(s('a'), s('b'))), group(s('c'), s('d'))),
    lambda app, s: chord([s('a')], group(s('b'), s('c'))),
    lambda app, s: app.tasks['add'].chunks([(1, 1), (2, 2), (3, 3)], 2),
    lambda app, s: chord([s('a')], app.tasks['add'].chunks([(1, 1), (2, 2), (3, 3)], 2)),
])
def test_what_is_linked_to_a_canvas_that_ends_in_a_group_runs_once(
        app: Celery, value_of: Value, s: S, canvas: Any) -> None:
    ran = []

    @app.task(name='linked', shared=False)
    def linked(*args: Any) -> None:
        ran.append(args)

    sig = canvas(app, s)
    sig.link(linked.s())
    value_of(sig)

    assert ran == [()]


def test_errbacks_of_chunks_are_told_of_each_job_that_fails(app: Celery, queue: Any) -> None:
    told = []

    @app.task(name='told', shared=False)
    def tell(task_id: str) -> None:
        told.append(task_id)

    result = app.tasks['fail'].chunks([(1,), (2,), (3,)], 2).on_error(tell.s()).apply_async()
    queue.run()

    assert sorted(told) == sorted(member.id for member in result)


@pytest.mark.parametrize('build', [
    lambda s, fail: group(group(s('a'), chain(s('b'), group(s('c'), fail('first')))), fail('second')),
    lambda s, fail: group(chord([s('a')], group(s('b'), s('c'), fail('first'))), s('d'), fail('second')),
])
def test_a_chord_names_the_first_of_its_failed_members_also_of_those_in_groups(
        app: Celery, queue: Any, s: S, build: Any) -> None:
    @app.task(name='fail_as', shared=False)
    def fail_as(*args: Any, name: str) -> None:
        raise ValueError(name)

    result = chord(build(s, lambda name: fail_as.s(name=name)), s('body')).apply_async()
    queue.run()

    assert 'first' in str(result.get(propagate=False, timeout=5))


@pytest.mark.parametrize('build', [
    lambda s, fail: chain(fail, chord([s('a'), chain(s('b'), s('c'))], s('d'))),
    lambda s, fail: chain(fail, group(s('a'), s('b')), s('c')),
    lambda s, fail: chord([fail], chord([s('a'), s('b')], s('c'))),
    lambda s, fail: s('a') | (group(s('b'), fail) | chain(group(s('c'), s('d')), s('e'), s('f'),
                                                           chord([s('g')], s('h')), s('i'))),
])
def test_after_a_failure_every_result_that_the_caller_holds_has_ended(
        app: Celery, queue: Any, s: S, build: Any) -> None:
    result = build(s, app.tasks['fail'].s()).apply_async()
    queue.run()

    held, waiting = [], [result]
    while waiting:
        node = waiting.pop()
        waiting.extend([*filter(None, [node.parent]), *(node.results or ())])
        held.extend([] if node.results else [node])
    assert [node.id for node in held if not node.ready()] == []


def test_the_same_value_comes_of_canvases_that_run_here(app: Celery, s: S) -> None:
    app.conf.task_always_eager = True
    chained = chain(s('a'), s('b')).set(immutable=True)

    assert chord([s('first')], chained).apply_async().get() == ['b', ['a']]
    assert (group(s('a'), s('b')) | s('c')).clone(('given',)).apply_async().get() == [
        'c', [['a', 'given'], ['b', 'given']]]


def test_a_chain_that_is_the_only_member_of_a_group_keeps_its_links(app: Celery, value_of: Value, s: S) -> None:
    ran = []

    @app.task(name='linked', shared=False)
    def linked(*args: Any) -> None:
        ran.append(args)

    last = group([chain([group([]), s('a'), s('b')])])
    last.link(linked.s())
    value_of(chord([s('c')], s('body') | last))
    assert ran == [()]
