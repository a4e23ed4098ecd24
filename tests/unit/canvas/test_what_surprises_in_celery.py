"""What users of Celery stumble over in canvases, where no worker is needed to see it."""

from __future__ import annotations

import cProfile
import gc
import json
import pickle
import pstats
import sys
from collections.abc import Callable
from typing import Any

import pytest

from canvaslite import Celery, Signature, chain, chord, group, signature
from canvaslite.canvas import chunks
from canvaslite.exceptions import InvalidTaskError
from canvaslite.result import result_from_tuple

S = Callable[..., Any]


def calls_made(function: Callable[[], Any]) -> int:
    """How many functions `function` calls, which says what it costs on any machine."""
    profile = cProfile.Profile()
    gc.collect()
    gc.disable()  # what other tests left behind is not of the cost
    try:
        profile.runcall(function)
    finally:
        gc.enable()
    return pstats.Stats(profile).total_calls  # type: ignore[attr-defined, no-any-return]


# -- the caller's signatures stay as they are (row 47) -----------------------------------------------------------------

@pytest.mark.filterwarnings('ignore:with task_allow_error_cb_on_chord_header')
@pytest.mark.parametrize('change', [
    lambda sig, other: sig.link(other), lambda sig, other: sig.link_error(other),
    lambda sig, other: sig.set_immutable(True), lambda sig, other: sig.stamp(tag='x'),
], ids=['link', 'link_error', 'set_immutable', 'stamp'])
@pytest.mark.parametrize('header', [False, True], ids=['off', 'on'])
def test_what_is_done_to_a_canvas_is_not_done_to_the_templates_it_is_made_of(
    app: Celery, s: S, change: Callable[..., Any], header: bool
) -> None:
    app.conf.task_allow_error_cb_on_chord_header = header
    first, second = s('first'), chain(s('a'), s('b'))
    before = json.dumps([first, second])
    members, unchanged = group(first, second), ''
    for canvas in (
        members, chain(first, second), chord(members, first), chord([first], second), group(members),
        chord([second], chord([first], second)), first | members | second,
    ):
        canvas._app = app
        change(canvas, s('other'))
        assert json.dumps([first, second]) == before
        unchanged = unchanged or json.dumps(members)
        assert json.dumps(members) == unchanged, 'a group made of the members of another has its own'


def test_a_template_used_twice_has_each_link_once(s: S, queue: Any) -> None:
    body = s('body')
    for name in ('one', 'two'):
        joined = chord([s('member')], body)
        joined.link(s(name))
        assert [link.kwargs['name'] for link in joined.body.options['link']] == [name]


def test_stamping_a_task_leaves_the_signature_linked_to_it_alone(s: S) -> None:
    callback, task = s('callback'), s('task')
    task.link(callback)
    task.stamp(tag='x')
    assert task.options['link'][0].options['tag'] == 'x'
    assert 'tag' not in callback.options


def test_a_canvas_changed_often_copies_its_members_once(s: S) -> None:
    members = group([s('a')] * 50)
    first = calls_made(lambda: members.set_immutable(True))
    assert calls_made(lambda: members.set_immutable(True)) < first / 3


# -- stamps (row 40) ---------------------------------------------------------------------------------------------------

def test_stamping_returns_what_was_stamped_and_stamps_bodies_too(app: Celery, s: S) -> None:
    task = app.tasks['add']
    for sig in (s('a'), chain(s('a'), s('b')), group(s('a')), chord([s('a')], s('b')), task.map([1]),
                task.starmap([(1, 2)]), chunks(task.s(), [(1, 2)], 1)):
        assert sig.stamp(tag='x') is sig
    joined = chord([s('a')], chain(s('b'), s('c'))).stamp(tag='x')
    parts = [*joined.tasks, *joined.body.tasks]
    assert [part.options['tag'] for part in parts] == ['x'] * 3


# -- signatures that travel (row 48) -----------------------------------------------------------------------------------

def test_a_dict_of_an_unknown_class_is_a_readable_error(app: Celery) -> None:
    described = {**Signature('some.task', app=app), 'subtask_type': 'custom'}
    for read in (signature, lambda d: chain(d, d), lambda d: chord([d], d), lambda d: group([d]).freeze()):
        with pytest.raises(InvalidTaskError, match=r"unknown subtask_type 'custom' in signature of 'some[.]task'"):
            read(described)


def test_a_parameter_annotated_as_a_signature_gets_one_and_others_what_was_sent(app: Celery, value_of: Any) -> None:
    @app.task
    def kinds(a: Any, sig: Signature, maybe: Signature | None = None, *rest: Any, **named: Any) -> Any:
        return [type(value).__name__ for value in (a, sig, maybe, *rest, *named.values())]

    one = app.tasks['add'].s(1, 2)
    assert value_of(kinds.si(one, one)) == ['dict', 'Signature', 'NoneType']
    assert value_of(kinds.si(1, chain(one, one), group(one), one, other=one)) == [
        'int', '_chain', 'group', 'dict', 'dict']
    assert value_of(kinds.s(sig=one, maybe=None), 'x') == ['str', 'Signature', 'NoneType']


# -- cost (rows 26, 28) ------------------------------------------------------------------------------------------------

def test_a_loop_that_appends_to_a_chain_costs_the_same_for_each_step(s: S) -> None:
    def cost(steps: int) -> int:
        def loop() -> None:
            line = s('0')
            for i in range(steps):
                line = line | s(str(i))
        return min(calls_made(loop) for _ in range(3))  # whatever else happens meanwhile is not of the cost

    assert cost(800) < 2.8 * cost(400)


def test_nested_chords_cost_the_same_for_each_of_their_tasks(app: Celery, s: S, queue: Any) -> None:
    def nested(depth: int) -> Any:
        return chord([nested(depth - 1) for _ in range(3)] if depth else [s('leaf')], s('body'))

    def cost_of_one(depth: int) -> float:
        tasks = sum(2 * 3 ** level for level in range(depth + 1))
        return calls_made(nested(depth).apply_async) / tasks

    cost_of_one(1)
    assert cost_of_one(5) < 1.5 * cost_of_one(3)


# -- results of long chains (row 27) -----------------------------------------------------------------------------------

@pytest.fixture
def last_of_many(app: Celery) -> Any:
    result = app.AsyncResult('0')
    for number in range(1, 10_001):
        result = app.AsyncResult(str(number), parent=result)
    return result


def test_the_result_of_a_long_chain_is_written_and_read_without_recursion(app: Celery, last_of_many: Any) -> None:
    expected = [str(number) for number in range(10_000, -1, -1)]
    assert last_of_many.as_list() == expected
    assert result_from_tuple(last_of_many.as_tuple(), app).as_list() == expected
    assert result_from_tuple(json.loads(json.dumps(last_of_many.as_tuple())), app).as_list() == expected
    restored = pickle.loads(pickle.dumps(last_of_many))
    assert restored.as_list() == expected
    assert restored.parent.backend.__class__ is app.backend.__class__


def test_a_group_of_results_of_long_chains_is_saved_and_pickled(app: Celery, last_of_many: Any) -> None:
    members = app.GroupResult('group', [last_of_many, last_of_many], parent=last_of_many)
    members.save()
    assert app.GroupResult.restore('group').results == [last_of_many] * 2
    app.backend.encode(members.as_tuple())
    restored = pickle.loads(pickle.dumps(members))
    assert (restored.id, len(restored.parent.as_list())) == ('group', 10_001)


def test_the_result_of_a_long_chain_is_forgotten_from_end_to_begin(app: Celery, last_of_many: Any) -> None:
    for task_id in ('0', '5000', '10000'):
        app.backend.store_result(task_id, 1, 'SUCCESS')
    last_of_many.forget()
    assert [app.AsyncResult(task_id).state for task_id in ('0', '5000', '10000')] == ['PENDING'] * 3


def test_the_stored_form_of_a_short_chain_is_celerys(app: Celery) -> None:
    result = app.AsyncResult('2', parent=app.AsyncResult('1'))
    assert result.as_tuple() == (('2', (('1', None), None)), None)
    assert sys.getrecursionlimit() < 10_000


# -- strict canvases ---------------------------------------------------------------------------------------------------

def test_a_canvas_made_before_the_app_is_configured_means_what_the_configuration_says() -> None:
    values = []
    for strict in (False, True):
        app = Celery('late', broker='memory://', backend='cache+memory://', set_as_current=False)
        app.task(name='same')(lambda x: x)
        same = signature('same', app=app)
        one, two = (signature('same', (number,), immutable=True, app=app) for number in (1, 2))
        canvases = [chain(group([one], app=app), same), one | group([same], app=app) | same,
                    chord([one, two], same) | group([same], app=app)]
        assert not app.configured
        app.config_from_object({'canvas_strict': strict, 'task_always_eager': True})
        values.append([canvas.apply_async().get() for canvas in canvases])
        app.close()
    assert values == [[1, 1, [1, 2]], [[1], [1], [[1, 2]]]]


@pytest.mark.parametrize('strict', [False, True])
def test_links_and_options_of_a_member_are_its_own_in_any_canvas(
    app: Celery, s: S, queue: Any, strict: bool
) -> None:
    app.conf.canvas_strict = strict
    calls = []
    app.task(name='linked', shared=False)(lambda value, *, name: calls.append((name, value[0])))
    app.task(name='failed', shared=False)(lambda request, exc, traceback, *, name: calls.append((name, 'failed')))

    def member(name: str) -> Any:
        sig = s(name, immutable=True)
        sig.link(signature('linked', kwargs={'name': name}, app=app))
        return sig

    failing = signature('fail', app=app, immutable=True)
    failing.link_error(signature('failed', kwargs={'name': 'e'}, app=app))
    for canvas, names in (
        (group(member('a'), member('b'), failing), 'abe'), (chain(member('a'), member('b'), failing), 'abe'),
        (chord([member('a'), failing], s('body')), 'ae'), (s('x') | group(member('a'), failing), 'ae'),
    ):
        calls.clear()
        canvas.apply_async(priority=1)
        queue.run()
        assert sorted(calls) == [(name, 'failed' if name == 'e' else name) for name in names]


def test_composing_canvases_does_not_read_the_configuration() -> None:
    def read(*args: Any) -> Any:
        raise AssertionError('read too early')

    app = Celery('unread', broker='memory://', backend='cache+memory://', set_as_current=False)
    app.on_configure.connect(read)
    one, same = signature('one', app=app), signature('same', app=app)
    members = group(one, same, app=app)
    members.link(same)
    members.link_error(same)
    chain(group([one], app=app), same) | (one | members | same).set(priority=3) | group([same]) | members
    chord(members, same) | same
    assert not app.configured
    app.close()
