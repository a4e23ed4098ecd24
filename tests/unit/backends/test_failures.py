from __future__ import annotations

import uuid

import pytest

from canvaslite import chain, chord, group, states
from canvaslite.context import Context
from canvaslite.exceptions import ChordError


@pytest.fixture
def called():
    """What the errbacks were called with."""
    return []


@pytest.fixture
def tasks(app, called):
    app.conf.task_always_eager = True  # errbacks that are sent run here and now
    app.conf.task_store_eager_result = True

    @app.task(name='tasks.step')
    def step(x=None):
        return x

    @app.task(name='tasks.new_style')
    def new_style(request, exc, traceback):
        called.append(('new', request.id, exc, traceback))

    @app.task(name='tasks.old_style')
    def old_style(task_id):
        called.append(('old', task_id))

    @app.task(name='tasks.bound', bind=True)
    def bound(self, task_id):
        called.append(('bound', task_id))

    @app.task(name='tasks.broken')
    def broken(request, exc, traceback):
        raise RuntimeError('an errback that fails')

    return app.tasks


def frozen(sig):
    sig.freeze()
    return sig


def fail(app, exc=None, **attributes):
    request = Context(id=uuid.uuid4().hex, delivery_info={}, **attributes)
    app.backend.mark_as_failure(request.id, exc or ValueError('boom'), 'the traceback', request=request)
    return request.id


def state_of(app, sig):
    return app.AsyncResult(sig.options['task_id']).state


def test_an_errback_that_takes_three_arguments_gets_request_error_and_traceback(app, tasks, called):
    error = ValueError('boom')
    task_id = fail(app, error, errbacks=[tasks['tasks.new_style'].s()])
    assert called == [('new', task_id, error, 'the traceback')]


def test_an_errback_that_takes_one_argument_gets_the_id(app, tasks, called):
    task_id = fail(app, errbacks=[tasks['tasks.old_style'].s(), dict(tasks['tasks.bound'].s())])
    assert called == [('old', task_id), ('bound', task_id)]


def test_an_errback_that_has_its_arguments_already_gets_no_more(app, tasks, called):
    fail(app, errbacks=[tasks['tasks.old_style'].si('given')])
    assert called == [('old', 'given')]


def test_an_errback_that_fails_does_not_keep_the_others_from_running(app, tasks, called):
    task_id = fail(app, errbacks=[tasks['tasks.broken'].s(), tasks['tasks.new_style'].s()])
    assert [call[1] for call in called] == [task_id]


def test_the_rest_of_a_chain_fails_with_the_error(app, tasks):
    step = tasks['tasks.step']
    rest = [frozen(step.s()), frozen(step.s())]
    fail(app, chain=[dict(sig) for sig in rest])
    for sig in rest:
        result = app.AsyncResult(sig.options['task_id'])
        assert isinstance(result.result, ValueError) and result.state == states.FAILURE


def test_a_canvas_in_the_rest_of_a_chain_fails_with_all_its_tasks(app, tasks):
    step = tasks['tasks.step']
    members, body, tail = [step.s(), step.s()], step.s(), step.s()
    rest = [group(members, app=app), chord([step.s()], body, app=app), chain(step.s(), tail, app=app)]
    for sig in rest:
        sig.freeze()
    fail(app, chain=[dict(sig) for sig in rest])
    for sig in [*rest[0].tasks, rest[1].body, *rest[2].tasks]:
        assert state_of(app, sig) == states.FAILURE


def test_a_chain_of_any_length_fails(app, tasks):
    step = tasks['tasks.step']
    rest = [frozen(step.s()) for _ in range(3000)]
    fail(app, chain=[dict(sig) for sig in rest])
    assert state_of(app, rest[0]) == state_of(app, rest[-1]) == states.FAILURE


def test_a_failed_chord_fails_its_body_and_calls_the_errbacks_once(app, tasks, called):
    body = frozen(tasks['tasks.step'].s().on_error(tasks['tasks.new_style'].s()))
    app.backend.chord_error_from_stack(dict(body), ChordError('Dependency x raised y'))
    result = app.AsyncResult(body.options['task_id'])
    assert isinstance(result.result, ChordError) and str(result.result) == 'Dependency x raised y'
    assert [(kind, task_id) for kind, task_id, *_ in called] == [('new', result.id)]


def test_a_body_that_is_a_group_fails_with_each_member(app, tasks, called):
    step = tasks['tasks.step']
    body = group([step.s().on_error(tasks['tasks.old_style'].s()), step.s()], app=app)
    body.freeze()
    app.backend.chord_error_from_stack(dict(body), ChordError('x'))
    assert [state_of(app, member) for member in body.tasks] == [states.FAILURE] * 2
    assert called == [('old', body.tasks[0].options['task_id'])]


def test_a_body_that_is_a_chain_fails_to_its_end(app, tasks, called):
    step = tasks['tasks.step']
    body = chain(step.s(), step.s(), step.s(), app=app)
    body.link_error(tasks['tasks.old_style'].s())
    body.freeze()
    app.backend.chord_error_from_stack(dict(body), ChordError('x'))
    assert [state_of(app, member) for member in body.tasks] == [states.FAILURE] * 3
    assert len(called) == 1


def test_what_comes_after_a_failed_chord_fails_too(app, tasks):
    step = tasks['tasks.step']
    after = frozen(step.s())
    body = frozen(step.s())
    body.options['chain'] = [dict(after)]
    app.backend.chord_error_from_stack(dict(body), ChordError('x'))
    assert state_of(app, after) == states.FAILURE


def test_a_body_without_an_id_fails_too(app, tasks, called):
    body = tasks['tasks.step'].s().on_error(tasks['tasks.new_style'].s())
    app.backend.chord_error_from_stack(dict(body), ChordError('x'))
    assert len(called) == 1
