"""Messages that come twice: a stored success is not run again, but what follows from it is made sure of."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from kombu.utils.functional import LRUCache

from canvaslite import states, wire
from canvaslite.backends import chords
from canvaslite.execution.keeping import Unrecorded, patiently, persist
from canvaslite.execution.outcome import Kind, Outcome
from canvaslite.execution.run import Run
from canvaslite.execution.successors import send_successors
from canvaslite.protocol.job import Verdict
from canvaslite.utils.time import second_done

logger = logging.getLogger('celery.app.trace')

#: How a copy ends so that the others need not run.
_ENDS = frozenset({Kind.SUCCESS, Kind.FAILURE, Kind.IGNORED, Kind.REVOKED, Kind.REJECTED, Kind.UNKNOWN, Kind.POISONED})

#: Seconds in which a second copy lets a first one end that does not say that it runs.
FIRST_COPY_PATIENCE = 3.0

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
    sent = headers.get(wire.AGAIN_HEADER)
    if (again or redelivered) and (ended := _end_with_another(run, failed=again)) is not None:
        return ended
    if isinstance(sent, float) and 0 <= time.time() - sent < FIRST_COPY_PATIENCE:
        return Outcome(Kind.HELD)
    join = run.task.backend.join
    if attempt is None or join is None:
        return None
    holder = patiently(run, lambda: join.take_run(run.id, str(attempt), chords.RUN_KEPT))
    if holder == chords.ENDED:
        return Outcome(Kind.IGNORED)
    if holder == str(attempt):
        return None
    # The other copy holds on to the run after its end: what it has stored tells that it has ended.
    return _end_with_another(run, failed=True) or Outcome(Kind.HELD)


def _end_with_another(run: Run, failed: bool, meta: Mapping[str, Any] | None = None) -> Outcome | None:
    """The end of a copy when another has ended (as `meta`): with success or, if that counts, when it has `failed`."""
    meta = meta or stored_outcome(run)
    if meta is not None and meta['status'] == states.SUCCESS:
        return repeat_record(run, meta)
    if meta is None or not failed:
        return None
    logger.info('Task %s[%s]: a second copy of it is dropped', run.shown_name, run.id)
    return Outcome(Kind.IGNORED)


def judge_delayed(run: Run) -> Verdict | Outcome | None:
    """What becomes of a task that the broker kept until its ETA: None to run it.

    It may have been revoked meanwhile, which nobody but the store need remember; and where the connection broke when it
    was handed to the broker, another copy of it may have run.
    """
    delayed = run.context.headers.get(wire.DELAYED_HEADER) if run.context.headers.__class__ is dict else None
    if delayed.__class__ is not list or len(delayed) != 4:
        return None
    since, _, _, doubtful = delayed
    meta = stored_outcome(run)
    if meta is None or not isinstance(since, (int, float)) or (second_done(meta) or 0.0) < since:
        return None
    if meta['status'] == states.REVOKED:
        return Verdict('revoked')
    return _end_with_another(run, True, meta) if doubtful else None


def end_copy(run: Run, kind: Kind | None) -> None:
    """A copy has run to its end, if it ended so: if no result tells the others, the store does."""
    headers, join = run.context.headers, run.task.backend.join
    if (headers.__class__ is dict and wire.ATTEMPT_HEADER in headers and join is not None and kind in _ENDS):
        told = run.stores_result if run.error is None else run.stores_errors
        patiently(run, lambda: join.end_run(run.id, str(headers[wire.ATTEMPT_HEADER]), told))


def stored_success(run: Run) -> Mapping[str, Any] | None:
    """The stored result of a task that has succeeded; None when it has not, or nobody can tell."""
    meta = stored_outcome(run)
    return meta if meta is not None and meta['status'] == states.SUCCESS else None


def stored_outcome(run: Run) -> Mapping[str, Any] | None:
    """The stored final outcome of a task; None when there is none, or nobody can tell; waits for the store."""
    if not run.stores_result:
        return None
    try:
        meta: Mapping[str, Any] = persist(run, 'get_outcome', run.id, run.context)
    except Unrecorded:
        raise
    except Exception as exc:
        logger.warning('Task [%s]: could not look up its result: %r', run.id, exc)
        return None
    return meta if meta['status'] in states.READY_STATES else None


def repeat_record(run: Run, meta: Mapping[str, Any] | None = None) -> Outcome:
    """Make sure of what follows from a success that is stored already: its successors and its part of a chord.

    Unless the store knows, nobody does, whether these were sent: they are sent again, and whoever gets them knows that.
    """
    logger.info('Task %s[%s] Task already completed successfully.', run.shown_name, run.id)
    context, meta = run.context, meta or stored_success(run) or {}
    if meta.get('settled'):
        return Outcome(Kind.SUCCESS)
    value = meta.get('result')
    try:
        if (context.callbacks or context.chain) and meta and not meta.get('followed'):
            send_successors(run.prepared.app, context, value, run.task.acks_late)
    except Exception as exc:
        logger.exception('Failed to dispatch chain/callbacks for deduplicated task %s', run.id)
        return Outcome(Kind.REQUEUED, exc)
    if meta if context.awaited_by_chord else context.headers:
        # Counting a part twice does no harm; that it was never counted is what a crash may have left.
        persist(run, 'keep_outcome', run.id, value, states.SUCCESS, None, context, False)
    _succeeded[run.id] = None
    return Outcome(Kind.SUCCESS, value)
