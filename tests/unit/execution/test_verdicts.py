"""Outcomes of tasks that were not run, or whose process died."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from canvaslite import Celery, signals
from canvaslite.app.task import Task
from canvaslite.exceptions import NotRegistered, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from canvaslite.execution.outcome import Kind
from canvaslite.protocol.job import Verdict


@pytest.fixture
def never(app: Celery) -> Any:
    @app.task(name='never')
    def never() -> None:
        raise AssertionError('must not run')
    return never


@pytest.mark.parametrize('kind', ['revoked', 'expired', 'terminated'])
def test_a_revoked_task_is_stored_and_announced_as_such(app: Celery, execute: Any, never: Any, kind: str) -> None:
    heard = []

    def listen(request: Any, terminated: bool, signum: Any, expired: bool, **named: Any) -> None:
        heard.append((request.id, terminated, signum, expired))
    signals.task_revoked.connect(listen)
    try:
        outcome = execute(never, id=kind, verdict=Verdict(kind, signal.SIGTERM if kind == 'terminated' else None))
    finally:
        signals.task_revoked.disconnect(listen)
    assert outcome.kind is Kind.REVOKED
    with pytest.raises(TaskRevokedError, match=kind):
        app.AsyncResult(kind).get(timeout=1)
    assert heard == [(kind, kind == 'terminated', signal.SIGTERM if kind == 'terminated' else None, kind == 'expired')]


def test_the_rest_of_a_revoked_tasks_chain_is_revoked_with_it(app: Celery, execute: Any, never: Any) -> None:
    execute(never, id='i', verdict=Verdict('revoked'), embed={'chain': [never.s().set(task_id='last')]})
    with pytest.raises(TaskRevokedError):
        app.AsyncResult('last').get(timeout=1)


def test_a_task_over_its_hard_limit_has_failed_and_its_hooks_hear_of_it(app: Celery, execute: Any) -> None:
    class Hooked(Task):
        calls: list[str] = []

        def on_failure(self, exc: Any, *args: Any) -> None:
            self.calls.append(type(exc).__name__)

        def after_return(self, status: str, *args: Any) -> None:
            self.calls.append(status)

    @app.task(name='t', base=Hooked)
    def t() -> None:
        raise AssertionError('must not run')
    assert execute(t, id='i', verdict=Verdict('timelimit', 5.0)).kind is Kind.FAILURE
    assert Hooked.calls == ['TimeLimitExceeded', 'FAILURE']
    with pytest.raises(TimeLimitExceeded):
        app.AsyncResult('i').get(timeout=1)


def test_a_lost_task_has_failed_and_its_errbacks_run(app: Celery, execute: Any, never: Any) -> None:
    called = []

    @app.task(name='errback')
    def errback(request: Any, exc: Exception, traceback: str) -> None:
        called.append(type(exc))
    outcome = execute(never, id='i', verdict=Verdict('lost', 'gone'), embed={'errbacks': [errback.s()]})
    assert outcome.kind is Kind.FAILURE and called == [WorkerLostError]
    with pytest.raises(WorkerLostError, match='gone'):
        app.AsyncResult('i').get(timeout=1)


def test_a_lost_task_that_had_succeeded_stays_a_success_and_is_followed(app: Celery, execute: Any, sent: Any) -> None:
    @app.task(name='t')
    def t(*args: Any) -> int:
        return 4
    execute(t, id='i')
    outcome = execute(t, id='i', verdict=Verdict('lost', 'gone'), embed={'callbacks': [t.s()]})
    assert (outcome.kind, outcome.value) == (Kind.SUCCESS, 4)
    assert app.AsyncResult('i').get(timeout=1) == 4
    assert [body[0] for _, body in sent()] == [[4]]


def test_a_lost_task_is_retried_if_it_wants_that_until_its_retries_are_used_up(app: Celery, execute: Any,
                                                                              sent: Any) -> None:
    @app.task(name='t', retry_on_worker_lost=True, max_retries=1, default_retry_delay=0)
    def t() -> None:
        raise AssertionError('must not run')
    assert execute(t, id='i', verdict=Verdict('lost', 'gone')).kind is Kind.RETRY
    headers, _ = sent('unit-queue')[-1]
    assert (headers['id'], headers['retries']) == ('i', 1)
    assert execute(t, id='i', retries=1, verdict=Verdict('lost', 'gone')).kind is Kind.FAILURE


def test_an_unknown_tasks_verdict_is_recorded(app: Celery, execute: Any) -> None:
    assert execute('who', id='i', verdict=Verdict('unknown', 'who')).kind is Kind.UNKNOWN
    with pytest.raises(NotRegistered):
        app.AsyncResult('i').get(timeout=1)


def test_a_verdict_on_a_message_that_cannot_be_read_is_recorded(app: Celery, execute: Any, never: Any) -> None:
    assert execute(never, id='i', body=b'{', verdict=Verdict('revoked')).kind is Kind.REVOKED
    assert app.AsyncResult('i').state == 'REVOKED'


def test_a_redelivered_success_is_not_run_again_if_the_app_wants_that(app: Celery, execute: Any) -> None:
    app.conf.worker_deduplicate_successful_tasks = True
    runs = []

    @app.task(name='t', acks_late=True)
    def t() -> int:
        runs.append(1)
        return 1
    execute(t, id='i')
    assert execute(t, id='i', redelivered=True).kind is Kind.SUCCESS
    assert len(runs) == 1
