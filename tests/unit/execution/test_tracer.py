"""How a run ends, what is stored of it, and who is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from canvaslite import Celery, signals, states
from canvaslite.app.task import Task
from canvaslite.exceptions import EncodeError, Ignore, Reject
from canvaslite.execution import keeping
from canvaslite.execution.outcome import Kind


class Told(Task):
    """Notes which of its hooks are called, and with what."""

    calls: list[tuple[Any, ...]] = []

    def before_start(self, *args: Any) -> None:
        self.calls.append(('before_start', *args))

    def on_success(self, *args: Any) -> None:
        self.calls.append(('on_success', *args))

    def on_failure(self, *args: Any) -> None:
        self.calls.append(('on_failure', *args))

    def on_retry(self, *args: Any) -> None:
        self.calls.append(('on_retry', *args))

    def after_return(self, *args: Any) -> None:
        self.calls.append(('after_return', *args))


@pytest.fixture
def told() -> type[Told]:
    return type('Told', (Told,), {'calls': []})


def test_hooks_of_a_success_get_celerys_arguments_in_celerys_order(app: Celery, execute: Any, told: Any) -> None:
    @app.task(name='t', base=told)
    def t(x: int, y: int = 0) -> int:
        return x + y
    execute(t, [1], {'y': 2}, id='i')
    assert told.calls == [('before_start', 'i', [1], {'y': 2}), ('on_success', 3, 'i', [1], {'y': 2}),
                          ('after_return', 'SUCCESS', 3, 'i', [1], {'y': 2}, None)]


def test_hooks_of_a_failure_get_celerys_arguments_in_celerys_order(app: Celery, execute: Any, told: Any) -> None:
    error = ValueError('no')

    @app.task(name='t', base=told)
    def t() -> None:
        raise error
    execute(t, id='i')
    _, failed, returned = told.calls
    assert failed[:-1] == ('on_failure', error, 'i', [], {}) and 'ValueError: no' in failed[-1].traceback
    assert returned == ('after_return', 'FAILURE', error, 'i', [], {}, None)


def test_hooks_of_a_retry_get_the_error_that_caused_it(app: Celery, execute: Any, told: Any) -> None:
    error = ValueError('again')

    @app.task(name='t', base=told, bind=True)
    def t(self: Any) -> None:
        raise self.retry(exc=error, countdown=0)
    outcome = execute(t, id='i')
    assert outcome.kind is Kind.RETRY
    assert [call[0] for call in told.calls] == ['before_start', 'on_retry']
    assert told.calls[1][:-1] == ('on_retry', error, 'i', [], {})
    assert app.AsyncResult('i').state == states.RETRY


def test_an_error_before_the_start_is_the_tasks_failure(app: Celery, execute: Any) -> None:
    class Strict(Task):
        def before_start(self, *args: Any) -> None:
            raise ValueError('not today')

    @app.task(name='t', base=Strict)
    def t() -> None:
        raise AssertionError('must not run')
    assert isinstance(execute(t).value, ValueError)


@pytest.mark.parametrize('hook', ['on_success', 'after_return', 'on_failure'])
def test_an_error_in_a_hook_does_not_change_the_outcome(app: Celery, execute: Any, caplog: Any, hook: str) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError('in the hook')

    @app.task(name='t', **{hook: fail})
    def t(fails: bool) -> str:
        if fails:
            raise ValueError
        return 'done'
    outcome = execute(t, [hook == 'on_failure'], id='i')
    assert outcome.kind is (Kind.FAILURE if hook == 'on_failure' else Kind.SUCCESS)
    assert app.AsyncResult('i').state == ('FAILURE' if hook == 'on_failure' else 'SUCCESS')
    assert 'handler raised' in caplog.text


@pytest.mark.parametrize(('raised', 'late', 'kind', 'state'), [
    (Ignore(), False, Kind.IGNORED, 'PENDING'),
    (Reject('bad', requeue=True), True, Kind.REQUEUED, 'PENDING'),
    (Reject('bad', requeue=True), False, Kind.REJECTED, 'FAILURE'),
    (Reject('bad'), True, Kind.REJECTED, 'FAILURE'),
])
def test_a_task_may_choose_its_outcome(
    app: Celery, execute: Any, raised: Exception, late: bool, kind: Kind, state: str
) -> None:
    @app.task(name='t', acks_late=late)
    def t() -> None:
        raise raised
    assert execute(t, id=f'i-{kind}').kind is kind
    assert app.AsyncResult(f'i-{kind}').state == state


def test_a_result_that_cannot_be_stored_is_the_tasks_failure(app: Celery, execute: Any) -> None:
    @app.task(name='t')
    def t() -> object:
        return object()
    assert execute(t, id='i').kind is Kind.FAILURE
    with pytest.raises(EncodeError):
        app.AsyncResult('i').get(timeout=1)


class Picky(ValueError):
    """Its constructor does not take its own arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f'{first} {second}')


def test_an_error_that_cannot_be_pickled_is_stored_as_its_nearest_base(app: Celery, execute: Any) -> None:
    @app.task(name='t')
    def t() -> None:
        raise Picky('a', 'b')
    execute(t, id='i')
    with pytest.raises(ValueError, match='a b'):
        app.AsyncResult('i').get(timeout=1)


def test_an_error_with_arguments_that_cannot_be_serialized_is_stored(app: Celery, execute: Any) -> None:
    @app.task(name='t')
    def t() -> None:
        raise KeyError(object())
    execute(t, id='i')
    with pytest.raises(KeyError, match='object'):
        app.AsyncResult('i').get(timeout=1)


@pytest.mark.parametrize(('of_task', 'of_message', 'stored'), [
    (True, None, False), (False, True, False), (True, False, True), (False, None, True)])
def test_the_message_decides_before_the_task_whether_a_result_is_stored(
        app: Celery, execute: Any, of_task: bool, of_message: bool | None, stored: bool) -> None:
    @app.task(name='t', ignore_result=of_task)
    def t() -> int:
        return 1
    headers = {} if of_message is None else {'ignore_result': of_message}
    execute(t, id='i', **headers)
    assert app.AsyncResult('i').state == ('SUCCESS' if stored else 'PENDING')


def test_errors_can_be_stored_even_if_results_are_ignored(app: Celery, execute: Any) -> None:
    @app.task(name='t', ignore_result=True, store_errors_even_if_ignored=True)
    def t() -> None:
        raise ValueError
    execute(t, id='i')
    assert app.AsyncResult('i').state == 'FAILURE'


def test_a_task_can_have_its_start_stored(app: Celery, execute: Any) -> None:
    @app.task(name='t', bind=True, track_started=True)
    def t(self: Any) -> str:
        return str(self.AsyncResult(self.request.id).state)
    assert execute(t).value == 'STARTED'


def test_a_task_can_store_a_state_of_its_own(app: Celery, execute: Any) -> None:
    @app.task(name='t', bind=True)
    def t(self: Any) -> Any:
        self.update_state(state='HALF', meta={'done': 50})
        result = self.AsyncResult(self.request.id)
        return [result.state, result.info]
    assert execute(t).value == ['HALF', {'done': 50}]


def test_signals_are_sent_with_celerys_arguments(app: Celery, execute: Any) -> None:
    @app.task(name='t')
    def t(x: int) -> int:
        return 1 // x
    heard: list[tuple[str, dict[str, Any]]] = []

    def listen(signal: Any, sender: Any, **named: Any) -> None:
        assert sender.name == 't'
        heard.append((signal.name, named))
    listened = [signals.task_prerun, signals.task_postrun, signals.task_success, signals.task_failure]
    for signal in listened:
        signal.connect(listen)
    try:
        execute(t, [1], id='good')
        execute(t, [0], id='bad')
    finally:
        for signal in listened:
            signal.disconnect(listen)
    assert [name for name, _ in heard] == ['task_prerun', 'task_success', 'task_postrun',
                                          'task_prerun', 'task_failure', 'task_postrun']
    assert heard[2][1]['retval'] == 1 and heard[2][1]['state'] == 'SUCCESS'
    assert isinstance(heard[4][1]['exception'], ZeroDivisionError) and heard[4][1]['task_id'] == 'bad'
    assert heard[5][1]['state'] == 'FAILURE'


def test_the_log_tells_what_celerys_tells(app: Celery, execute: Any, caplog: Any) -> None:
    @app.task(name='t', throws=(KeyError,))
    def t(error: str) -> str:
        if error:
            raise {'expected': KeyError, 'unexpected': ValueError}[error]('x')
        return 'fine'
    caplog.set_level(logging.INFO, logger='celery.app.trace')
    execute(t, [''], id='1')
    execute(t, ['expected'], id='2')
    execute(t, ['unexpected'], id='3')
    succeeded, expected, unexpected = (r for r in caplog.records if r.name == 'celery.app.trace')
    assert succeeded.getMessage().startswith('Task t[1] succeeded in ')
    assert succeeded.getMessage().endswith("s: 'fine'")
    assert expected.getMessage() == "Task t[2] raised expected: KeyError('x')"
    assert expected.levelno == logging.INFO and not expected.exc_info
    assert unexpected.getMessage() == "Task t[3] raised unexpected: ValueError('x')"
    assert unexpected.levelno == logging.ERROR and unexpected.exc_info


def test_what_runs_is_current_while_it_runs_and_no_longer(app: Celery, execute: Any) -> None:
    @app.task(name='inner')
    def inner() -> Any:
        return app.current_task.name, inner.request.called_directly

    @app.task(name='outer', bind=True)
    def outer(self: Any) -> Any:
        return app.current_task.name, self.request.id, inner(), app.current_task.name
    assert execute(outer, id='i').value == ('outer', 'i', ('inner', True), 'outer')
    assert not app.current_task


def test_an_overriding_call_is_part_of_the_run(app: Celery, execute: Any) -> None:
    class Counting(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return ['called', super().__call__(*args, **kwargs)]

    @app.task(name='t', base=Counting, bind=True)
    def t(self: Any) -> Any:
        return self.request.id, len(self.request_stack)
    assert execute(t, id='i').value == ['called', ('i', 1)]


def test_callbacks_and_the_next_step_are_sent_and_named_as_children(app: Celery, execute: Any, sent: Any) -> None:
    @app.task(name='t')
    def t(*args: int) -> int:
        return 7
    link = t.si().set(task_id='link')
    steps = [t.s().set(task_id='last'), t.s(1).set(task_id='next')]
    execute(t, id='i', root_id='r', embed={'callbacks': [link], 'chain': steps})
    (linked, _), (following, (args, _, embed)) = sent()
    assert (linked['id'], linked['parent_id'], linked['root_id']) == ('link', 'i', 'r')
    assert (following['id'], following['parent_id'], following['root_id']) == ('next', 'i', 'r')
    assert args == [7, 1] and [step['options']['task_id'] for step in embed['chain']] == ['last']
    assert [child.id for child in app.AsyncResult('i').children] == ['link', 'next']


def test_the_priority_is_inherited_if_the_app_wants_that(app: Celery, execute: Any) -> None:
    @app.task(name='t')
    def t(*args: Any) -> None:
        return None
    priorities = []

    def listen(properties: dict[str, Any], **named: Any) -> None:
        priorities.append(properties.get('priority'))
    signals.before_task_publish.connect(listen)
    try:
        for inherits in (False, True):
            app.conf.task_inherit_parent_priority = inherits
            execute(t, embed={'callbacks': [t.s()]})
    finally:
        signals.before_task_publish.disconnect(listen)
    assert priorities[0] in (None, 0) and priorities[1] == 3


def test_an_errback_runs_once(app: Celery, execute: Any, sent: Any) -> None:
    called = []

    @app.task(name='new')
    def new_style(request: Any, exc: Exception, traceback: str) -> None:
        called.append((request.id, type(exc), 'ZeroDivisionError' in traceback))

    @app.task(name='t')
    def t() -> float:
        return 1 / 0
    execute(t, id='i', embed={'errbacks': [new_style.s(), {'task': 'elsewhere', 'args': [], 'kwargs': {}, 'options': {},
                                                           'subtask_type': None, 'immutable': False}]})
    assert called == [('i', ZeroDivisionError, True)]
    (headers, body), = sent()
    assert headers['task'] == 'elsewhere' and body[0] == ['i']


@pytest.mark.parametrize(('late', 'patience'), [(True, 'STORE_PATIENCE'), (False, 'LAST_PATIENCE')])
def test_an_outcome_that_cannot_be_recorded_is_told(
        app: Celery, execute: Any, monkeypatch: Any, late: bool, patience: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(keeping, patience, 0.6)
    attempts = []
    store = app.backend

    class Away(type(store)):  # type: ignore[misc]
        def _store_result(self, *args: Any, **kwargs: Any) -> None:
            attempts.append(args)
            raise ConnectionError('the store is away')

    @app.task(name='t', backend=Away(app=app, url=store.url), acks_late=late)
    def t() -> int:
        return 1
    outcome = execute(t, id='i')
    assert outcome.kind is Kind.UNRECORDED and 'the store is away' in outcome.note
    assert len(attempts) > 2
    assert [record.levelname for record in caplog.records].count('WARNING') == 1


def test_a_soft_time_limit_may_strike_only_within_the_tasks_own_code(app: Celery, execute: Callable[..., Any]) -> None:
    from canvaslite.execution.tracer import user_code

    @app.task(name='t')
    def t() -> bool:
        return user_code.running
    assert execute(t).value is True and user_code.running is False
