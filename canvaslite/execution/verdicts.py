"""Recording the outcome of a task that is not to be run, or whose process is gone.

The worker's parent, which knows, does not touch the result store; it gives the message, with a `Verdict` on it, to a
process that does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from canvaslite import states
from canvaslite.context import Context
from canvaslite.current import App, task_stack
from canvaslite.exceptions import NotRegistered, Retry, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from canvaslite.execution.duplicates import repeat_record, stored_success
from canvaslite.execution.keeping import exception_info, persist, record_failure
from canvaslite.execution.outcome import Kind, Outcome
from canvaslite.execution.run import PreparedTask
from canvaslite.protocol.job import Verdict
from canvaslite.signals import task_failure, task_retry, task_revoked
from canvaslite.utils.saferepr import saferepr

logger = logging.getLogger('canvaslite.execution')


def record_verdict(app: App, context: Context, verdict: Verdict) -> Outcome:
    """Record `verdict` as the outcome of the task that `context` describes.

    Raises ``keeping.Unrecorded`` if the store stays away.
    """
    return _RECORDERS[verdict.kind](app, context, verdict.detail)


def refuse(app: App, context: Context, exc: BaseException) -> None:
    """Fail a task that cannot be run here, with all that depends on it."""
    record_failure(_backend_of(app, context), False, _id(context), exc, None, context, _stores_errors(app, context))


def record_revoked(app: App, context: Context, detail: Any) -> Outcome:
    return _revoke(app, context, 'revoked')


def record_expired(app: App, context: Context, detail: Any) -> Outcome:
    return _revoke(app, context, 'expired', expired=True)


def record_terminated(app: App, context: Context, detail: Any) -> Outcome:
    return _revoke(app, context, 'terminated', terminated=True, signum=detail)


def _revoke(app: App, context: Context, reason: str, terminated: bool = False, signum: Any = None,
            expired: bool = False) -> Outcome:
    backend, stores = _backend_of(app, context), _stores_errors(app, context)
    persist(backend, False, 'mark_as_revoked', context.id, reason, request=context, store_result=stores)
    if context.chain:
        # What would have come next never will; Celery leaves those who wait for it waiting.
        persist(backend, False, '_fail_chain', context.chain, TaskRevokedError(reason), store_result=stores,
                state=states.REVOKED)
    if task_revoked.receivers:
        task_revoked.send(sender=_task_of(app, context), request=context, terminated=terminated, signum=signum,
                          expired=expired)
    return Outcome(Kind.REVOKED, reason)


def record_unknown(app: App, context: Context, detail: Any) -> Outcome:
    exc = NotRegistered(detail or context.get('task'))
    refuse(app, context, exc)
    return Outcome(Kind.UNKNOWN, exc, note=unknown_note(context))


def unknown_note(context: Context) -> str:
    """A line for the log about a task that is not registered."""
    return (f'Received unregistered task of type {context.get("task")!r}: id {context.id}, '
            f'args {saferepr(context.args, 300)}, kwargs {saferepr(context.kwargs, 300)}')


def record_time_limit(app: App, context: Context, detail: Any) -> Outcome:
    """The parent has killed the process: what its hooks would have done is done here."""
    exc = TimeLimitExceeded(detail)
    outcome = _fail(app, context, exc)
    task = _task_of(app, context)
    if task is not None and task.overrides('after_return'):
        told = (states.FAILURE, exc, context.id, context.args, context.kwargs, None)
        _call_hook(task, task.after_return, context, *told)
    return outcome


def record_lost(app: App, context: Context, detail: Any) -> Outcome:
    """The process that ran the task died; perhaps it had finished."""
    exc = WorkerLostError(detail)
    task = _task_of(app, context)
    if task is None:
        return _fail(app, context, exc)
    prepared = PreparedTask(task, app)
    stored = stored_success(prepared, context)
    if stored is not None:
        logger.warning('Task %s[%s] succeeded before the worker was lost: %r', task.name, context.id, exc)
        return repeat_record(prepared, context, stored)
    if task.retry_on_worker_lost and (task.max_retries is None or context.retries < task.max_retries):
        retried = _retry(task, context, exc)
        if retried is not None:
            return retried
    return _fail(app, context, exc)


_RECORDERS: dict[str, Callable[[App, Context, Any], Outcome]] = {
    'revoked': record_revoked,
    'expired': record_expired,
    'terminated': record_terminated,
    'lost': record_lost,
    'timelimit': record_time_limit,
    'unknown': record_unknown,
}


def _fail(app: App, context: Context, exc: BaseException) -> Outcome:
    """Record `exc` as the task's failure and announce it."""
    einfo = exception_info(exc)
    record_failure(_backend_of(app, context), False, _id(context), exc, einfo.traceback, context,
                   _stores_errors(app, context))
    task = _task_of(app, context)
    if task is not None:
        if isinstance(exc, TimeLimitExceeded):
            _call_hook(task, task.on_failure, context, exc, context.id, context.args, context.kwargs, einfo)
        _with_request(task, context, _send_failure, task, context, exc, einfo)
    return Outcome(Kind.FAILURE, exc, einfo.traceback)


def _send_failure(task: Any, context: Context, exc: BaseException, einfo: Any) -> None:
    if task_failure.receivers:
        task_failure.send(sender=task, task_id=context.id, exception=exc, args=context.args, kwargs=context.kwargs,
                          traceback=exc.__traceback__, einfo=einfo)


def _retry(task: Any, context: Context, exc: BaseException) -> Outcome | None:
    """Send a lost task again, as `Task.retry` would; None if that is not possible."""
    countdown = task.default_retry_delay
    try:
        task.signature_from_request(context, countdown=countdown, retries=context.retries + 1).apply_async()
    except Exception as failed:
        logger.exception('Failed to retry task %s[%s] after worker was lost: %r', task.name, context.id, failed)
        return None
    reason, einfo = Retry(exc=exc, when=countdown), exception_info(exc)
    if not _ignores_result(task, context) or task.store_errors_even_if_ignored:
        persist(task.backend, False, 'mark_as_retry', context.id, exc, einfo.traceback, request=context)
    _call_hook(task, task.on_retry, context, exc, context.id, context.args, context.kwargs, einfo)
    if task_retry.receivers:
        _with_request(task, context, lambda: task_retry.send(sender=task, request=context, reason=reason, einfo=einfo))
    logger.info('Task %s[%s] retry: %s', task.name, context.id, reason)
    return Outcome(Kind.RETRY, reason)


def _call_hook(task: Any, hook: Callable[..., Any], context: Context, *args: Any) -> None:
    try:
        _with_request(task, context, hook, *args)
    except Exception as exc:
        logger.exception('Task %s[%s] %s handler raised: %r', task.name, context.id, hook.__name__, exc)


def _with_request(task: Any, context: Context, function: Callable[..., Any], *args: Any) -> None:
    """Call `function` with `context` as the task's current request."""
    task_stack.push(task)
    task.request_stack.push(context)
    try:
        function(*args)
    finally:
        task.request_stack.pop()
        task_stack.pop()


# -- what may be known of the task ---------------------------------------------------------------------------------

def _task_of(app: App, context: Context) -> Any:
    return app.tasks.get(context.get('task', ''))


def _backend_of(app: App, context: Context) -> Any:
    task = _task_of(app, context)
    return app.backend if task is None else task.backend


def _id(context: Context) -> str:
    return context.id or ''


def _ignores_result(task: Any, context: Context) -> bool:
    ignored = context.__dict__.get('ignore_result')
    return bool(task.ignore_result if ignored is None and task is not None else ignored)


def _stores_errors(app: App, context: Context) -> bool:
    task = _task_of(app, context)
    return not _ignores_result(task, context) or bool(task is not None and task.store_errors_even_if_ignored)
