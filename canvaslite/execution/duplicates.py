"""Messages that come twice: a stored success is not run again, but what follows from it is made sure of."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from kombu.utils.functional import LRUCache

from canvaslite import states
from canvaslite.execution.keeping import persist
from canvaslite.execution.outcome import Kind, Outcome
from canvaslite.execution.run import Run
from canvaslite.execution.successors import send_successors

logger = logging.getLogger('celery.app.trace')

#: Ids of tasks that this process knows to have succeeded.
_succeeded: LRUCache = LRUCache(limit=1000)


def is_done_already(run: Run) -> bool:
    """Whether a redelivered task has succeeded before, and the app wants such a task not to be run again
    (``worker_deduplicate_successful_tasks``, for tasks that are acknowledged late)."""
    task = run.task
    if not (task.acks_late and run.prepared.app.conf.worker_deduplicate_successful_tasks and task.backend.persistent):
        return False
    return run.id in _succeeded or stored_success(run) is not None


def stored_success(run: Run) -> Mapping[str, Any] | None:
    """The stored result of a task that has succeeded; None when it has not, or nobody can tell."""
    backend = run.task.backend
    if not run.stores_result or backend.as_uri().startswith('rpc://'):
        return None  # never stored, or on its way to the caller
    try:
        meta: Mapping[str, Any] = backend.get_task_meta(run.id, cache=False)
    except Exception as exc:
        logger.warning('Task [%s]: could not look up its result: %r', run.id, exc)
        return None
    return meta if meta['status'] == states.SUCCESS else None


def repeat_record(run: Run, meta: Mapping[str, Any] | None = None) -> Outcome:
    """Make sure of what follows from a success that is stored already: its successors and its part of a chord.

    Successors are sent again unless the stored result names children, which only successors and the task itself add.
    """
    logger.info('Task %s[%s] Task already completed successfully.', run.shown_name, run.id)
    context, meta = run.context, meta or stored_success(run) or {}
    value = meta.get('result')
    try:
        if (context.callbacks or context.chain) and meta and not meta.get('children'):
            send_successors(run.prepared.app, context, value)
    except Exception as exc:
        logger.exception('Failed to dispatch chain/callbacks for deduplicated task %s', run.id)
        return Outcome(Kind.REQUEUED, exc)
    if meta if context.awaited_by_chord else context.headers:
        # Counting a part twice does no harm; that it was never counted is what a crash may have left.
        persist(run, 'keep_outcome', run.id, value, states.SUCCESS, None, context, False)
    _succeeded[run.id] = None
    return Outcome(Kind.SUCCESS, value)
