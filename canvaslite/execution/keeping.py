"""Keeping the outcome of a run: its result in the store, its part in a chord, the failure of what depends on it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from billiard.einfo import ExceptionInfo

from canvaslite import states
from canvaslite.backends.codec import UnpickleableExceptionWrapper, get_pickleable_exception
from canvaslite.exceptions import BackendError, EncodeError, OperationalError, Replaced, UnreadableResult
from canvaslite.execution.announcing import announce_internal_error
from canvaslite.execution.outcome import Kind
from canvaslite.execution.run import Run

logger = logging.getLogger('celery.app.trace')

#: How long, in seconds, an outcome, and what follows it, waits for a store or a broker that is away before its message
#: is given back; and before it is lost, because the message was acknowledged early.
STORE_PATIENCE, LAST_PATIENCE = 30.0, 600.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0


class Unrecorded(Exception):
    """The store stayed away: the outcome is not recorded."""


def keep(run: Run) -> None:
    """Store how the run ended, and count it in its chord."""
    try:
        if run.error is None:
            _keep_success(run)
        else:
            _keep_error(run)
    except Unrecorded as exc:
        run.kind, run.note = Kind.UNRECORDED, str(exc)
    except Exception as exc:
        if run.eager:
            raise
        # How the run ended stands; that the store does not say so must at least be seen.
        logger.critical('Task %s[%s]: its outcome could not be recorded: %r', run.shown_name, run.id, exc,
                        exc_info=True)


def _keep_success(run: Run) -> None:
    if not (run.stores_result or run.context.awaited_by_chord or run.context.headers):
        return
    try:
        persist(run, 'mark_as_done', run.id, run.value, run.context, run.stores_result)
    except Unrecorded:
        raise
    except Exception as exc:
        announce_internal_error(run, exc)
        run.end_with(exc)
        if run.propagate:
            raise
        _keep_error(run)


def _keep_error(run: Run) -> None:
    """An ignored task, or one that goes back to the queue, leaves its state as it is.

    What depends on an ignored one will never get its value, and fails, unless it was replaced.
    """
    run.einfo = run.einfo or exception_info(run.error)
    # A message that is dropped has a final outcome too: those who wait for it must not wait for ever.
    if run.kind is Kind.FAILURE or (run.kind is Kind.REJECTED and not run.eager):
        record_failure(run, run.einfo.traceback)
    elif run.kind is Kind.RETRY and run.stores_errors:
        cause = getattr(run.error, 'exc', None)
        persist(run, 'mark_as_retry', run.id, cause, run.einfo.traceback, request=run.context)
    elif run.kind is Kind.IGNORED and not run.eager and not isinstance(run.error, Replaced):
        if run.context.chord or run.context.headers:
            persist(run, 'keep_outcome', run.id, run.error, states.FAILURE, None, run.context, False)
        if run.context.chain:
            persist(run, '_fail_chain', run.context.chain, run.error)


def exception_info(exc: Any) -> Any:
    """An exception with its traceback as text."""
    if exc.__traceback__ is None:  # it was made, not raised, and a traceback must begin somewhere
        try:
            raise exc
        except BaseException as raised:
            exc = raised
    return ExceptionInfo((type(exc), exc, exc.__traceback__))


def record_failure(run: Run, traceback: str | None) -> None:
    """Store the run's error, count it in its chord, fail the rest of its chain and call its errbacks.

    Raises `Unrecorded`. With any other error the store has refused it as it is, perhaps for its text: then it is told
    that, or nobody who waits would be.
    """
    error: Any = None
    for _ in range(2):
        try:
            persist(run, 'mark_as_failure', run.id, error or storable(run.task.backend, run.error), traceback,
                    request=run.context, store_result=run.stores_errors)
            return
        except Unrecorded:
            raise
        except Exception as refused:
            logger.critical('Task [%s]: its failure could not be recorded: %r', run.id, refused, exc_info=True)
            error, traceback = EncodeError(f'{type(run.error).__name__} was raised, but the result store refused it: '
                                           f'{type(refused).__name__}; the log of the worker says more'), None


def storable(backend: Any, exc: Any) -> Any:
    """`exc`, or what stands for it in the store: an exception whose constructor will not take its own arguments
    is stored as the nearest of its bases that will."""
    picklable = get_pickleable_exception(exc)
    if isinstance(picklable, UnpickleableExceptionWrapper) and backend.serializer != 'pickle':
        return exc  # by name and arguments, which says more than the wrapper
    if picklable is not exc:
        picklable.__traceback__ = exc.__traceback__
    return picklable


def persist(run: Run, operation: str, *args: Any, **kwargs: Any) -> Any:
    """Call a method of the store, `patiently`."""
    return patiently(run, partial(getattr(run.task.backend, operation), *args, **kwargs))


def patiently(run: Run, call: Callable[[], Any]) -> Any:
    """What the call gives, made again while store or broker are away, for up to STORE_PATIENCE, or LAST_PATIENCE where
    nobody gets the message again.

    Raises `Unrecorded` if they stay away, and whatever else the call raises. An eager caller does not wait.
    """
    backend, pause, give_up = run.task.backend, FIRST_PAUSE, 0.0
    patience = STORE_PATIENCE if run.task.acks_late else LAST_PATIENCE
    while True:
        try:
            done = call()
            if give_up:
                backend.outage.end('The result store, or the broker,')
            return done
        except Exception as exc:
            if run.eager or not is_outage(backend, exc):
                raise
            now = time.monotonic()
            give_up = give_up or now + patience
            if now >= give_up:
                raise Unrecorded(f'{run.shown_name}[{run.id}]: the outcome could not be recorded: '
                                 f'{type(exc).__name__}: {exc}') from exc
            backend.outage.note(logging.WARNING, 'Task %s[%s]: the result store, or the broker, is away (%r): trying '
                                'again for %.0f seconds.', run.shown_name, run.id, exc, give_up - now)
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def is_outage(backend: Any, exc: BaseException) -> bool:
    """Whether `exc` means that the store or the broker is away, so that the same call may work later."""
    if isinstance(exc, UnreadableResult):
        return False
    return (isinstance(exc, (ConnectionError, TimeoutError, OperationalError, BackendError))
            or bool(backend.exception_safe_to_retry(exc)))
