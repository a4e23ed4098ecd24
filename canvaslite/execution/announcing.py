"""Telling the world how a run ended: the task's hooks, signals, and the log."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from kombu.utils.encoding import safe_repr

from canvaslite.exceptions import EncodeError, OperationalError, Reject
from canvaslite.execution.outcome import Kind
from canvaslite.execution.run import STATE_OF, Run
from canvaslite.signals import task_failure, task_internal_error, task_retry, task_success
from canvaslite.utils.saferepr import saferepr

logger = logging.getLogger('celery.app.trace')

SUCCESS = Kind.SUCCESS  # looking it up in an enumeration costs as much as calling a function

#: Formats of log lines, which a program may set to others with more in them (``args``, ``kwargs``).
LOG_RECEIVED = 'Task %(name)s[%(id)s] received'
LOG_SUCCESS = 'Task %(name)s[%(id)s] succeeded in %(runtime).9fs: %(return_value)s'
LOG_RETRY = 'Task %(name)s[%(id)s] retry: %(exc)s'
LOG_FAILURE = 'Task %(name)s[%(id)s] %(description)s: %(exc)s'


class LogPolicy(NamedTuple):
    """How an outcome that is no success appears in the log."""

    format: str
    description: str
    severity: int
    traceback: bool


REJECTED = LogPolicy('Task %(name)s[%(id)s] %(exc)s', 'rejected', logging.WARNING, True)
IGNORED = LogPolicy('Task %(name)s[%(id)s] %(description)s', 'ignored', logging.INFO, False)
INTERNAL = LogPolicy(LOG_FAILURE, 'INTERNAL ERROR', logging.CRITICAL, True)
EXPECTED = LogPolicy(LOG_FAILURE, 'raised expected', logging.INFO, False)
UNEXPECTED = LogPolicy(LOG_FAILURE, 'raised unexpected', logging.ERROR, True)


def announce_end(run: Run) -> None:
    """Call the hooks, send the signals and write the log line of how the run ended."""
    kind = run.kind
    if kind is SUCCESS:
        _announce_success(run)
    elif kind is Kind.FAILURE:
        _announce_failure(run)
    elif kind is Kind.RETRY:
        _announce_retry(run)
    elif kind is not Kind.UNRECORDED:  # such a run may be repeated, and the worker's parent logs its note
        log_error(run, IGNORED if kind is Kind.IGNORED else REJECTED)
        if kind is Kind.REJECTED and not run.eager:
            send_failure(run)
    if run.prepared.after_return is not None:
        call_after_return(run)
    if run.error is not None and run.error.__traceback__ is not None:
        # Frames hold whatever the task had in its local variables: free it before the next run.
        traceback.clear_frames(run.error.__traceback__)


def call_after_return(run: Run) -> None:
    """Call the hook ``after_return`` of a success or failure, if the task has one."""
    if run.prepared.after_return is not None and run.kind in (SUCCESS, Kind.FAILURE):
        # Celery hands no einfo to this hook, whatever its signature promises.
        call_hook(run, run.prepared.after_return, STATE_OF[run.kind], run.result, run.id, run.args, run.kwargs, None)


def _announce_success(run: Run) -> None:
    prepared = run.prepared
    if prepared.on_success is not None:
        call_hook(run, prepared.on_success, run.value, run.id, run.args, run.kwargs)
    if task_success.receivers:
        task_success.send(sender=run.task, result=run.value, runtime=run.runtime)
    if logger.isEnabledFor(logging.INFO):
        shown = saferepr(run.value, run.task.resultrepr_maxsize)
        data = {**_describe_call(run), 'return_value': shown, 'runtime': run.runtime}
        logger.info(LOG_SUCCESS, data, extra={'data': data})


def _announce_failure(run: Run) -> None:
    call_hook(run, run.task.on_failure, run.error, run.id, run.args, run.kwargs, run.einfo)
    send_failure(run)
    expected = run.task.throws and isinstance(run.error, run.task.throws)
    log_error(run, INTERNAL if run.internal else EXPECTED if expected else UNEXPECTED)


def _announce_retry(run: Run) -> None:
    cause = getattr(run.error, 'exc', None)
    call_hook(run, run.task.on_retry, cause, run.id, run.args, run.kwargs, run.einfo)
    if task_retry.receivers:
        task_retry.send(sender=run.task, request=run.context, reason=run.error, einfo=run.einfo)
    data = {**_describe_call(run), 'exc': str(run.error)}
    logger.info(LOG_RETRY, data, extra={'data': data})


def call_hook(run: Run, hook: Callable[..., Any], *args: Any) -> None:
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


def log_error(run: Run, policy: LogPolicy) -> None:
    """One line, and the traceback where the policy wants it, for anything but a success."""
    if not logger.isEnabledFor(policy.severity):
        return
    error = run.error
    data = {**_describe_call(run), 'hostname': run.context.hostname, 'exc': safe_repr(error),
            'traceback': run.einfo.traceback if run.einfo else '', 'description': policy.description,
            'internal': run.internal}
    shown = (type(error), error, error.__traceback__) if policy.traceback and error is not None else None
    logger.log(policy.severity, policy.format, data, exc_info=shown, extra={'data': data})


def _describe_call(run: Run) -> dict[str, Any]:
    context = run.context
    return {'id': run.id, 'name': run.shown_name, 'args': context.get('argsrepr') or safe_repr(run.args),
            'kwargs': context.get('kwargsrepr') or safe_repr(run.kwargs)}
