"""Ids, results and messages: what is fixed before a canvas runs, and how large it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from canvaslite import Celery, chain, chord, group
from canvaslite.canvas import _chain
from canvaslite.canvas.chords import count_parts
from canvaslite.result import GroupResult

S = Callable[..., Any]


def lineage(result: Any) -> list[str]:
    found = []
    while result is not None:
        found.append('group' if isinstance(result, GroupResult) else 'task')
        result = result.parent
    return found


def test_each_result_of_a_chain_knows_the_one_before(s: S) -> None:
    canvas = s('a') | group(s('b'), s('c')) | s('d') | s('e')

    assert lineage(canvas.freeze()) == ['task', 'task', 'group', 'task']


def test_a_chain_that_is_frozen_runs_under_the_ids_it_was_given(app: Celery, s: S, queue: Any) -> None:
    canvas = _chain(s('a'), group(s('b'), s('c')), s('d'), app=app)
    frozen = canvas.freeze()

    sent = canvas.apply_async()
    queue.run()

    assert sent.id == frozen.id
    assert [result.id for result in sent.parent.results] == [result.id for result in frozen.parent.results]
    assert all(result.get(timeout=5) for result in frozen.parent.results)


def test_task_id_of_a_chain_or_chord_is_that_of_its_result(app: Celery, s: S, queue: Any) -> None:
    assert chain(s('a'), s('b')).apply_async(task_id='one').id == 'one'
    assert chord([s('a')], s('b')).apply_async(task_id='two').id == 'two'


def test_task_id_of_a_chain_run_in_place_is_that_of_its_last_step(s: S) -> None:
    result = chain(s('a'), s('b')).apply(task_id='one')

    assert result.id == 'one'
    assert result.parent.id != 'one'


@pytest.mark.parametrize('header, parts', [
    (lambda s: [s('a'), s('b')], 2),
    (lambda s: [chain(s('a'), s('b')), group(s('c'), s('d'))], 3),
    (lambda s: [chain(s('a'), group(s('b'), s('c')), group())], 2),
    (lambda s: [chord([s('a'), s('b')], s('c'))], 1),
    (lambda s: [chord([s('a')], group(s('b'), s('c')))], 2),
    (lambda s: [dict(s('a'))], 1),
])
def test_a_chord_counts_the_tasks_that_end_its_header(s: S, header: Any, parts: int) -> None:
    canvas = chord([], s('body'))
    canvas.tasks = header(s)

    assert canvas.__length_hint__() == sum(map(count_parts, canvas.tasks)) == parts


def test_header_tasks_carry_the_body_their_group_and_their_place(s: S, queue: Any) -> None:
    result = chord([s('a'), chain(s('b'), s('c'))], s('body')).apply_async()

    first, second = queue.take()
    embed = [json.loads(message.body)[2] for message in (first, second)]

    assert first.headers['group'] == second.headers['group'] or second.headers['group'] is None
    assert embed[0]['chord']['options']['task_id'] == result.id
    assert embed[0]['chord']['chord_size'] == 2
    assert (first.headers['group_index'], embed[1]['chain'][0]['options']['group_index']) == (0, 1)
    assert embed[1]['chain'][0]['options']['chord']['options']['task_id'] == result.id


def test_what_follows_travels_as_plain_dicts_the_next_step_last(s: S, queue: Any) -> None:
    chain(s('a'), s('b'), s('c')).apply_async()

    (_, _, embed), = queue.bodies()

    assert [step['kwargs']['name'] for step in embed['chain']] == ['c', 'b']
    assert all(set(step) == {'task', 'args', 'kwargs', 'options', 'subtask_type', 'immutable'}
               for step in embed['chain'])


@pytest.mark.parametrize('frozen', [False, True])
def test_messages_grow_with_the_number_of_steps_only(s: S, queue: Any, frozen: bool) -> None:
    sizes = []
    for count in (4, 8):
        steps = [step for _ in range(count) for step in (group(s('a'), s('b')), s('c'))]
        canvas = chord([s('x'), s('y')], chain(s('first'), *steps))
        if frozen:
            canvas.freeze()
        canvas.apply_async()
        sizes.append(max(len(message.body) for message in queue.take()))

    assert sizes[1] < 2.5 * sizes[0]


def test_a_group_of_lines_is_sent_in_the_order_of_its_members(s: S, queue: Any) -> None:
    group(s('a'), chain(s('b'), s('x')), s('c'), chord([s('d')], s('y')), s('e')).apply_async()

    assert [body[1]['name'] for body in queue.bodies()] == ['a', 'b', 'c', 'd', 'e']


def test_members_of_a_nested_group_have_places_of_their_own(s: S) -> None:
    canvas = group(s('a'), group(s('b'), s('c')), s('d'))
    canvas.freeze()

    assert [member.options['group_index'] for member in canvas.tasks] == [0, 1, 2, 3]


def test_freezing_a_group_does_not_change_what_the_caller_holds(s: S) -> None:
    member = s('a')

    group(member, member).freeze()

    assert member.options == {}


def test_a_group_does_not_take_links(s: S) -> None:
    with pytest.raises(TypeError):
        group(s('a')).apply_async(link=s('b'))
    with pytest.raises(TypeError):
        group(s('a')).apply_async(link_error=s('b'))


def test_a_failing_step_stops_the_chain_and_its_errback_runs_once(app: Celery, queue: Any) -> None:
    called = []

    @app.task(name='note')
    def note(request: Any, exc: Any, traceback: Any) -> None:
        called.append(repr(exc))

    result = chain(app.tasks['add'].s(1, 1), app.tasks['fail'].s(), app.tasks['add'].s(1)).on_error(note.s()
                                                                                                  ).apply_async()
    queue.run()

    with pytest.raises(ValueError, match='fails'):
        result.get(timeout=5)
    assert called == ["ValueError('fails')"]


@pytest.mark.parametrize('frozen_before', [False, True])
def test_messages_grow_with_the_canvas_also_where_it_was_frozen_before(app: Celery, s: S, queue: Any,
                                                                       frozen_before: bool) -> None:
    sizes = []
    for groups in (3, 6):
        canvas = chain(group(s('a', n) for n in range(3)) for _ in range(groups))
        if frozen_before:
            canvas.freeze()
        canvas.apply_async()
        sizes.append(max(len(json.dumps(body)) for body in queue.bodies()))
    assert sizes[1] < 3 * sizes[0]


@pytest.mark.parametrize('protocol', [1, 2])
def test_a_body_stays_whole_for_those_who_only_see_links(app: Celery, s: S, protocol: int) -> None:
    app.conf.task_protocol = protocol
    sent = []
    app.amqp.send_task_message = lambda producer, name, message, **options: sent.append(message.body)
    inner = chord([s('a'), s('b')], chain(s('c'), s('d')), app=app)
    result = chord([s('e')], _chain(s('f'), inner, app=app, use_link=True if protocol == 2 else None),
                   app=app).apply_async()
    body = (sent[0] if protocol == 1 else sent[0][2])['chord']
    assert body.tasks[1].body.id == result.id


def test_a_store_with_its_own_set_chord_size_is_told_each_size(app: Celery, s: S) -> None:
    told = []
    app.backend.set_chord_size = lambda group_id, size: told.append((group_id, size))
    result = chord([s('a'), chain(s('b'), s('c')), group(s('d'), s('e'))], s('body')).apply_async()
    assert told == [(result.parent.id, 4)]


def test_a_frozen_chain_keeps_its_partial_arguments(app: Celery, s: S) -> None:
    canvas = chain([group([group(s(1), s(2)) | s(3)]).clone(('inner',)), s(4)]).clone(('outer',))

    canvas.freeze()

    steps, _ = canvas.prepare_steps(canvas.args, None, canvas.tasks, app=app)
    assert steps[-1].args == ('outer', 'inner')


def test_a_link_to_a_chord_runs_after_the_last_step_of_its_body(app: Celery, s: S) -> None:
    linked = chord([s(1), s(2)], chain(s(3), s(4)))
    linked.set(link=[s('link')], link_error=[s('errback')])

    steps, _ = chain([s(0), linked]).prepare_steps((), None, [s(0), linked], app=app)

    last, joined = steps[0], steps[1]
    assert last.options['link'] == [s('link')]
    assert last.options['link_error'] == [s('errback')]
    assert joined.KIND == 'chord' and 'link' not in joined.options
