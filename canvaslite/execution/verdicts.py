"""Recording the outcome of a task that is not to be run, or whose process is gone.

The worker's parent, which knows, does not touch the result store; it gives the message, with a `Verdict` on it, to a
process that does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from canvaslite import states, wire
from canvaslite.backends import chords
from canvaslite.current import task_stack
from canvaslite.exceptions import (
    InvalidTaskError,
    NotRegistered,
    Retry,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from canvaslite.execution.announcing import announce_end, call_after_return, call_hook, send_failure
from canvaslite.execution.duplicates import repeat_record, stored_success
from canvaslite.execution.keeping import keep, patiently, persist, record_failure
from canvaslite.execution.losses import judge_death
from canvaslite.execution.outcome import Kind, Outcome
from canvaslite.execution.run import Run
from canvaslite.protocol.job import Verdict
from canvaslite.signals import task_revoked

logger = logging.getLogger('celery.app.trace')


def record_verdict(run: Run, verdict: Verdict) -> Outcome:
    """Record `verdict` as the outcome of `run`. Raises ``keeping.Unrecorded`` if the store stays away."""
    task_stack.push(run.task)
    run.task.request_stack.push(run.context)
    try:
        return _RECORDERS[verdict.kind](run, verdict)
    finally:
        run.task.request_stack.pop()
        task_stack.pop()


def refuse(run: Run, exc: BaseException) -> None:
    """Fail a task that cannot be run here, with all that depends on it."""
    run.end_with(exc)
    record_failure(run, None)


def fail_followers(run: Run, exc: BaseException) -> None:
    """Fail what waits for a task whose body cannot be read: it says that, but so does the record of the canvas."""
    backend = run.task.backend
    canvas = persist(run, 'find_canvas', run.id) if backend.keeps_canvases else None
    for task in canvas.nodes[run.id].after() if canvas is not None and run.id in canvas.nodes else ():
        if not task.ignored:
            persist(run, 'store_result', task.id, exc, states.FAILURE)
    if backend.join is not None and not backend.join.can_be_examined:
        # Elsewhere a chord counts what is stored of its header.
        part = chords.part_of(backend, run.context, states.FAILURE, exc)
        if part is not None:
            patiently(run, lambda: chords.act_on_report(backend, backend.join, backend.join.part(part), None))
        elif run.context.chord:
            persist(run, 'chord_error_from_stack', run.context.chord, exc)


def record_revoked(run: Run, verdict: Verdict) -> Outcome:
    """It was revoked before it ran or, ``terminated``, while it ran; or it had ``expired``."""
    context, reason = run.context, verdict.kind
    persist(run, 'mark_as_revoked', run.id, reason, request=context, store_result=run.stores_errors)
    waiting = list(context.chain or ())
    if run.task.name == wire.CHORD_UNLOCK:
        waiting += run.args[1:2] or [run.kwargs.get('callback')]
    if waiting:
        # What would have come next never will; Celery leaves those who wait for it waiting.
        persist(run, '_fail_chain', waiting, TaskRevokedError(reason), store_result=run.stores_errors,
                state=states.REVOKED)
    if task_revoked.receivers:
        task_revoked.send(sender=run.task, request=context, terminated=reason == 'terminated', signum=verdict.detail,
                          expired=reason == 'expired')
    return Outcome(Kind.REVOKED, reason)


def record_unknown(run: Run, verdict: Verdict) -> Outcome:
    """No task of that name is registered here."""
    exc = NotRegistered(verdict.detail)
    refuse(run, exc)
    return Outcome(Kind.UNKNOWN, exc, note=f'Received unregistered task of type {verdict.detail!r}, id {run.id}, from '
                   f'{run.context.origin!r:.255}: is its module in imports or include, or found by autodiscover_tasks?')


def record_invalid(run: Run, verdict: Verdict) -> Outcome:
    """A header says what cannot be: an ETA that is no time. The worker has logged that."""
    exc = InvalidTaskError(verdict.detail)
    refuse(run, exc)
    return Outcome(Kind.UNDECODABLE, exc)


def record_time_limit(run: Run, verdict: Verdict) -> Outcome:
    """The parent has killed the process, and logged that: what its hooks would have done is done here."""
    run.end_with(TimeLimitExceeded(verdict.detail))
    keep(run)
    if run.kind is Kind.FAILURE:
        call_hook(run, run.task.on_failure, run.error, run.id, run.args, run.kwargs, run.einfo)
        send_failure(run)
        call_after_return(run)
    return run.outcome()


def record_lost(run: Run, verdict: Verdict) -> Outcome:
    """The process that ran the task died; perhaps it had finished. ``died``: else its message is to go back."""
    reason, times = verdict.detail if verdict.kind == 'died' else (verdict.detail, 0)
    exc = WorkerLostError(reason)
    stored = stored_success(run)
    if stored is not None:
        logger.warning('Task %s[%s] succeeded before the worker was lost: %r', run.prepared.name, run.id, exc)
        return repeat_record(run, stored)
    if verdict.kind == 'died':
        outcome = judge_death(run, reason, times)
        if outcome.kind is Kind.POISONED:
            send_failure(run)
        return outcome
    if _retry(run, exc):
        keep(run)
        announce_end(run)
    else:
        run.end_with(exc)
        keep(run)
        if run.kind is Kind.FAILURE:
            send_failure(run)
    return run.outcome()


_RECORDERS: dict[str, Callable[[Run, Verdict], Outcome]] = {
    'revoked': record_revoked,
    'expired': record_revoked,
    'terminated': record_revoked,
    'lost': record_lost,
    'died': record_lost,
    'timelimit': record_time_limit,
    'unknown': record_unknown,
    'invalid': record_invalid,
}


def _retry(run: Run, exc: BaseException) -> bool:
    """Send a lost task again, as `Task.retry` would, if it wants that; whether it was sent."""
    task, retries = run.task, run.context.retries
    if not task.retry_on_worker_lost or (task.max_retries is not None and retries >= task.max_retries):
        return False
    countdown = task.default_retry_delay
    try:
        task.signature_from_request(run.context, countdown=countdown, retries=retries + 1).apply_async()
    except Exception as failed:
        logger.exception('Failed to retry task %s[%s] after worker was lost: %r', task.name, run.id, failed)
        return False
    run.end_with(Retry(exc=exc, when=countdown))
    return True
