"""Keeping the outcome of a run: its result in the store, its part in a chord, the failure of what depends on it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionInfo

from canvaslite.backends.codec import UnpickleableExceptionWrapper, get_pickleable_exception
from canvaslite.exceptions import BackendError, EncodeError, OperationalError
from canvaslite.execution.announcing import announce_internal_error
from canvaslite.execution.outcome import Kind
from canvaslite.execution.run import Run

logger = logging.getLogger('canvaslite.execution')

#: How long, in seconds, an outcome waits for a store that is away before its message is given back.
STORE_PATIENCE = 30.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0


class Unrecorded(Exception):
    """The store stayed away: the outcome is not recorded."""


def keep(run: Run) -> None:
    """Store how the run ended, and count it in its chord."""
    try:
        _KEEPERS[run.kind](run)
    except Unrecorded as exc:
        run.kind = Kind.UNRECORDED
        run.note = f'{run.shown_name}[{run.id}]: the outcome could not be recorded: {exc}'
    except Exception as exc:
        if run.eager:
            raise
        # How the run ended stands; that the store does not say so must at least be seen.
        logger.critical('Task %s[%s]: its outcome could not be recorded: %r', run.shown_name, run.id, exc,
                        exc_info=True)


def keep_success(run: Run) -> None:
    if not run.stores_result and not run.context.chord:
        return
    try:
        persist(run.task.backend, run.eager, 'mark_as_done', run.id, run.value, run.context, run.stores_result)
    except Unrecorded:
        raise
    except Exception as exc:
        if not isinstance(exc, EncodeError):
            announce_internal_error(run, exc)
        run.end_with(exc)
        if run.propagate:
            raise
        keep_failure(run)


def keep_failure(run: Run) -> None:
    describe_error(run)
    backend = run.task.backend
    record_failure(backend, run.eager, run.id, run.error, run.einfo.traceback, run.context, run.stores_errors)


def keep_retry(run: Run) -> None:
    describe_error(run)
    if run.stores_errors:
        cause = getattr(run.error, 'exc', None)
        persist(run.task.backend, run.eager, 'mark_as_retry', run.id, cause, run.einfo.traceback, request=run.context)


def keep_rejection(run: Run) -> None:
    """A message that is dropped has a final outcome: those who wait for it must not wait for ever."""
    describe_error(run)
    if not run.eager:
        keep_failure(run)


def keep_nothing(run: Run) -> None:
    """An ignored task, or one that goes back to the queue, leaves its state as it is."""
    describe_error(run)


_KEEPERS: dict[Kind | None, Callable[[Run], None]] = {
    Kind.SUCCESS: keep_success,
    Kind.FAILURE: keep_failure,
    Kind.RETRY: keep_retry,
    Kind.REJECTED: keep_rejection,
    Kind.REQUEUED: keep_nothing,
    Kind.IGNORED: keep_nothing,
}


def describe_error(run: Run) -> Any:
    """The run's error with its traceback as text (billiard's `ExceptionInfo`)."""
    if run.einfo is None and run.error is not None:
        run.einfo = exception_info(run.error)
    return run.einfo


def exception_info(exc: BaseException) -> Any:
    """billiard's `ExceptionInfo` of `exc`."""
    if exc.__traceback__ is None:  # it was made, not raised, and a traceback must begin somewhere
        try:
            raise exc
        except BaseException as raised:
            exc = raised
    return ExceptionInfo((type(exc), exc, exc.__traceback__))


def record_failure(backend: Any, eager: bool, task_id: str, exc: BaseException | None, traceback: str | None,
                   context: Any, store: bool) -> None:
    """Store a failure, count it in its chord, fail the rest of its chain and call its errbacks.

    Raises `Unrecorded`. Any other error is logged: there is nothing more to be done about it.
    """
    try:
        persist(backend, eager, 'mark_as_failure', task_id, storable(backend, exc), traceback, request=context,
                store_result=store)
    except Unrecorded:
        raise
    except Exception as error:
        logger.critical('Task [%s]: its failure could not be recorded: %r', task_id, error, exc_info=True)


def storable(backend: Any, exc: BaseException | None) -> BaseException | None:
    """`exc`, or what stands for it in the store: an exception whose constructor will not take its own arguments
    is stored as the nearest of its bases that will."""
    if exc is None:
        return None
    picklable = get_pickleable_exception(exc)
    if isinstance(picklable, UnpickleableExceptionWrapper) and backend.serializer != 'pickle':
        return exc  # by name and arguments, which says more than the wrapper
    if picklable is not exc:
        picklable.__traceback__ = exc.__traceback__
    return picklable


def persist(backend: Any, eager: bool, operation: str, *args: Any, **kwargs: Any) -> None:
    """Call a method of the store, and again while the store is away, for up to `STORE_PATIENCE` seconds.

    Raises `Unrecorded` if it stays away, and whatever else the method raises. An eager caller does not wait.
    """
    try:
        getattr(backend, operation)(*args, **kwargs)
        return
    except Exception as exc:
        if eager or not is_outage(backend, exc):
            raise
        cause = exc
    _persist_patiently(backend, operation, args, kwargs, cause)


def _persist_patiently(backend: Any, operation: str, args: tuple[Any, ...], kwargs: dict[str, Any],
                       cause: Exception) -> None:
    pause, give_up = FIRST_PAUSE, time.monotonic() + STORE_PATIENCE
    while time.monotonic() < give_up:
        logger.warning('The result store is away (%r): trying again in %ss', cause, pause)
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
        try:
            getattr(backend, operation)(*args, **kwargs)
            return
        except Exception as exc:
            if not is_outage(backend, exc):
                raise
            cause = exc
    raise Unrecorded(f'{type(cause).__name__}: {cause}') from cause


def is_outage(backend: Any, exc: BaseException) -> bool:
    """Whether `exc` means that the store or the broker is away, so that the same call may work later."""
    if isinstance(exc, (ConnectionError, TimeoutError, OperationalError, BackendError)):
        return True
    return bool(backend.exception_safe_to_retry(exc))
