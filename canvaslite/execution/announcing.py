"""Telling the world how a run ended: the task's hooks, signals, and the log."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from kombu.utils.encoding import safe_repr

from canvaslite.exceptions import EncodeError, OperationalError, Reject
from canvaslite.execution.outcome import Kind
from canvaslite.execution.run import Run
from canvaslite.signals import task_failure, task_internal_error, task_retry, task_success
from canvaslite.utils.saferepr import saferepr

logger = logging.getLogger('canvaslite.execution')

LOG_SUCCESS = 'Task %(name)s[%(id)s] succeeded in %(runtime).9fs: %(return_value)s'
LOG_FAILURE = 'Task %(name)s[%(id)s] %(description)s: %(exc)s'
LOG_IGNORED = 'Task %(name)s[%(id)s] %(description)s'
LOG_REJECTED = 'Task %(name)s[%(id)s] %(exc)s'
LOG_RETRY = 'Task %(name)s[%(id)s] retry: %(exc)s'


class LogPolicy(NamedTuple):
    """How an outcome appears in the log."""

    format: str
    description: str
    severity: int
    traceback: bool


REJECTED = LogPolicy(LOG_REJECTED, 'rejected', logging.WARNING, True)
IGNORED = LogPolicy(LOG_IGNORED, 'ignored', logging.INFO, False)
INTERNAL = LogPolicy(LOG_FAILURE, 'INTERNAL ERROR', logging.CRITICAL, True)
EXPECTED = LogPolicy(LOG_FAILURE, 'raised expected', logging.INFO, False)
UNEXPECTED = LogPolicy(LOG_FAILURE, 'raised unexpected', logging.ERROR, True)


def announce_end(run: Run) -> None:
    """Call the hooks, send the signals and write the log line of how the run ended."""
    _ANNOUNCERS[run.kind](run)
    if run.prepared.after_return is not None and run.kind in _RETURNED:
        # Celery hands no einfo to this hook, whatever its signature promises.
        _call_hook(run, run.prepared.after_return, run.state, run.result, run.id, run.args, run.kwargs, None)
    if run.error is not None and run.error.__traceback__ is not None:
        # Frames hold whatever the task had in its local variables: free it before the next run.
        traceback.clear_frames(run.error.__traceback__)


def announce_success(run: Run) -> None:
    prepared = run.prepared
    if prepared.on_success is not None:
        _call_hook(run, prepared.on_success, run.value, run.id, run.args, run.kwargs)
    if task_success.receivers:
        task_success.send(sender=run.task, result=run.value, runtime=run.runtime)
    if logger.isEnabledFor(logging.INFO):
        log_success(run)


def announce_failure(run: Run) -> None:
    _call_hook(run, run.task.on_failure, run.error, run.id, run.args, run.kwargs, run.einfo)
    send_failure(run)
    log_error(run, _failure_policy(run))


def announce_retry(run: Run) -> None:
    cause = getattr(run.error, 'exc', None)
    _call_hook(run, run.task.on_retry, cause, run.id, run.args, run.kwargs, run.einfo)
    if task_retry.receivers:
        task_retry.send(sender=run.task, request=run.context, reason=run.error, einfo=run.einfo)
    if logger.isEnabledFor(logging.INFO):
        data = {'id': run.id, 'name': run.shown_name, 'exc': str(run.error)}
        logger.info(LOG_RETRY, data, extra={'data': data})


def announce_ignored(run: Run) -> None:
    log_error(run, IGNORED)


def announce_rejected(run: Run) -> None:
    log_error(run, REJECTED)
    if run.kind is Kind.REJECTED and not run.eager:
        send_failure(run)


def announce_unrecorded(run: Run) -> None:
    """The worker's parent logs the note, and the run may be repeated: nothing has happened yet."""


_ANNOUNCERS: dict[Kind | None, Callable[[Run], None]] = {
    Kind.SUCCESS: announce_success,
    Kind.FAILURE: announce_failure,
    Kind.RETRY: announce_retry,
    Kind.IGNORED: announce_ignored,
    Kind.REJECTED: announce_rejected,
    Kind.REQUEUED: announce_rejected,
    Kind.UNRECORDED: announce_unrecorded,
}
#: Ways to end that ``after_return`` hears of.
_RETURNED = frozenset({Kind.SUCCESS, Kind.FAILURE})


def _call_hook(run: Run, hook: Callable[..., Any], *args: Any) -> None:
    """Call a hook of the task. The outcome is recorded already: an error in the hook must not make a second one."""
    try:
        hook(*args)
    except Reject as exc:
        run.kind = Kind.REQUEUED if exc.requeue else Kind.REJECTED
    except Exception as exc:
        if run.eager:
            raise
        name = getattr(hook, '__name__', hook)
        logger.exception('Task %s[%s] %s handler raised: %r', run.shown_name, run.id, name, exc)


def send_failure(run: Run) -> None:
    """Send ``task_failure``."""
    if task_failure.receivers and run.error is not None:
        task_failure.send(sender=run.task, task_id=run.id, exception=run.error, args=run.args, kwargs=run.kwargs,
                          traceback=run.error.__traceback__, einfo=run.einfo)


def announce_internal_error(run: Run, exc: BaseException) -> None:
    """Send ``task_internal_error`` for an error that is not the task's own.

    A successor or result that cannot be encoded or sent is the task's own failure, as in Celery.
    """
    if isinstance(exc, (EncodeError, OperationalError)):
        return
    run.internal = True
    if task_internal_error.receivers:
        task_internal_error.send(sender=run.task, task_id=run.id, args=run.args, kwargs=run.kwargs,
                                 request=run.context, exception=exc, traceback=exc.__traceback__, einfo=None)


# -- the log ------------------------------------------------------------------------------------------------------

def log_success(run: Run) -> None:
    """One line for a success."""
    context = run.context
    data = {
        'id': run.id,
        'name': run.shown_name,
        'return_value': saferepr(run.value, run.task.resultrepr_maxsize),
        'runtime': run.runtime,
        'args': context.get('argsrepr') or safe_repr(run.args),
        'kwargs': context.get('kwargsrepr') or safe_repr(run.kwargs),
    }
    logger.info(LOG_SUCCESS, data, extra={'data': data})


def _failure_policy(run: Run) -> LogPolicy:
    if run.internal:
        return INTERNAL
    return EXPECTED if run.task.throws and isinstance(run.error, run.task.throws) else UNEXPECTED


def log_error(run: Run, policy: LogPolicy) -> None:
    """One line, and the traceback where the policy wants it, for anything but a success."""
    if not logger.isEnabledFor(policy.severity):
        return
    error, context = run.error, run.context
    data = {
        'hostname': context.hostname,
        'id': run.id,
        'name': run.shown_name,
        'exc': safe_repr(error),
        'traceback': run.einfo.traceback if run.einfo else '',
        'args': context.get('argsrepr') or safe_repr(run.args),
        'kwargs': context.get('kwargsrepr') or safe_repr(run.kwargs),
        'description': policy.description,
        'internal': run.internal,
    }
    shown = (type(error), error, error.__traceback__) if policy.traceback and error is not None else None
    logger.log(policy.severity, policy.format, data, exc_info=shown, extra={'data': data})
