"""Messages that come twice: a stored success is not run again, but what follows from it is made sure of."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from kombu.utils.functional import LRUCache

from canvaslite import states, wire
from canvaslite.backends import chords
from canvaslite.execution.keeping import persist
from canvaslite.execution.outcome import Kind, Outcome
from canvaslite.execution.run import Run
from canvaslite.execution.successors import send_successors

logger = logging.getLogger('celery.app.trace')

#: Seconds for which a copy of a chord's body holds the others back, unless a result says that it has ended.
RUN_KEPT = 3600.0

#: Ids of tasks that this process knows to have succeeded.
_succeeded: LRUCache = LRUCache(limit=1000)


def is_done_already(run: Run) -> bool:
    """Whether a redelivered task has succeeded before, and the app wants such a task not to be run again
    (``worker_deduplicate_successful_tasks``, for tasks that are acknowledged late)."""
    task = run.task
    if not (task.acks_late and run.prepared.app.conf.worker_deduplicate_successful_tasks and task.backend.persistent):
        return False
    return run.id in _succeeded or stored_success(run) is not None


def judge_copy(run: Run, redelivered: bool) -> Outcome | None:
    """What becomes of a message that may be one of several copies: None to run the task."""
    headers = run.context.headers
    if headers.__class__ is not dict or not (wire.ATTEMPT_HEADER in headers or wire.AGAIN_HEADER in headers):
        return None
    attempt, again = headers.get(wire.ATTEMPT_HEADER), wire.AGAIN_HEADER in headers
    if again or redelivered:
        meta = stored_outcome(run)
        if meta is not None and meta['status'] == states.SUCCESS:
            return repeat_record(run, meta)
        if meta is not None and again:
            logger.info('Task %s[%s]: a second copy of it is dropped', run.shown_name, run.id)
            return Outcome(Kind.IGNORED)
    join = run.task.backend.join
    if attempt is None or join is None:
        return None
    holder = join.take_run(run.id, str(attempt), RUN_KEPT)
    if holder == chords.ENDED:
        return Outcome(Kind.IGNORED)
    return None if holder == str(attempt) else Outcome(Kind.HELD)


def end_copy(run: Run) -> None:
    """A copy has run to its end: if no result tells the others, the store does."""
    headers = run.context.headers
    join = run.task.backend.join
    if (headers.__class__ is dict and wire.ATTEMPT_HEADER in headers and join is not None
            and not (run.stores_result if run.error is None else run.stores_errors)
            and run.kind in (Kind.SUCCESS, Kind.FAILURE, Kind.IGNORED)):
        join.take_run(run.id, chords.ENDED, RUN_KEPT)


def stored_success(run: Run) -> Mapping[str, Any] | None:
    """The stored result of a task that has succeeded; None when it has not, or nobody can tell."""
    meta = stored_outcome(run)
    return meta if meta is not None and meta['status'] == states.SUCCESS else None


def stored_outcome(run: Run) -> Mapping[str, Any] | None:
    """The stored final outcome of a task; None when there is none, or nobody can tell."""
    backend = run.task.backend
    if not run.stores_result or backend.as_uri().startswith('rpc://'):
        return None  # never stored, or on its way to the caller
    try:
        meta: Mapping[str, Any] = backend.get_task_meta(run.id, cache=False)
    except Exception as exc:
        logger.warning('Task [%s]: could not look up its result: %r', run.id, exc)
        return None
    return meta if meta['status'] in states.READY_STATES else None


def repeat_record(run: Run, meta: Mapping[str, Any] | None = None) -> Outcome:
    """Make sure of what follows from a success that is stored already: its successors and its part of a chord.

    Nobody knows whether these were sent: they are sent again, and whoever gets them knows that.
    """
    logger.info('Task %s[%s] Task already completed successfully.', run.shown_name, run.id)
    context, meta = run.context, meta or stored_success(run) or {}
    value = meta.get('result')
    try:
        if (context.callbacks or context.chain) and meta:
            send_successors(run.prepared.app, context, value)
    except Exception as exc:
        logger.exception('Failed to dispatch chain/callbacks for deduplicated task %s', run.id)
        return Outcome(Kind.REQUEUED, exc)
    if meta if context.awaited_by_chord else context.headers:
        # Counting a part twice does no harm; that it was never counted is what a crash may have left.
        persist(run, 'keep_outcome', run.id, value, states.SUCCESS, None, context, False)
    _succeeded[run.id] = None
    return Outcome(Kind.SUCCESS, value)
