"""Messages that come twice: a stored success is not run again, but what follows from it is made sure of."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from canvaslite import states
from canvaslite.context import Context
from canvaslite.execution.keeping import persist
from canvaslite.execution.outcome import Kind, Outcome
from canvaslite.execution.run import PreparedTask
from canvaslite.execution.successors import dispatch_successors

logger = logging.getLogger('canvaslite.execution')

#: Ids of tasks that this process knows to have succeeded, the oldest first.
_succeeded: OrderedDict[str, None] = OrderedDict()
REMEMBERED = 1000


def is_done_already(prepared: PreparedTask, context: Context) -> bool:
    """Whether a redelivered task has succeeded before, and the app wants such a task not to be run again
    (``worker_deduplicate_successful_tasks``, for tasks that are acknowledged late)."""
    app, task = prepared.app, prepared.task
    if not (task.acks_late and app.conf.worker_deduplicate_successful_tasks and task.backend.persistent):
        return False
    return context.id in _succeeded or stored_success(prepared, context) is not None


def stored_success(prepared: PreparedTask, context: Context) -> Mapping[str, Any] | None:
    """The stored result of a task that has succeeded; None when it has not, or nobody can tell."""
    backend = prepared.task.backend
    ignored = context.__dict__.get('ignore_result')
    if (prepared.task.ignore_result if ignored is None else ignored) or backend.as_uri().startswith('rpc://'):
        return None  # never stored, or on its way to the caller
    try:
        meta: Mapping[str, Any] = backend.get_task_meta(context.id, cache=False)
    except Exception as exc:
        logger.warning('Task [%s]: could not look up its result: %r', context.id, exc)
        return None
    return meta if meta['status'] == states.SUCCESS else None


def repeat_record(prepared: PreparedTask, context: Context, meta: Mapping[str, Any] | None = None) -> Outcome:
    """Make sure of what follows from a success that is stored already: its successors and its part of a chord.

    Successors are sent again unless the stored result names children, which only successors and the task itself add.
    """
    name = context.shadow or prepared.name
    logger.info('Task %s[%s] Task already completed successfully.', name, context.id)
    meta = meta or stored_success(prepared, context) or {}
    value = meta.get('result')
    try:
        if (context.callbacks or context.chain) and meta and not meta.get('children'):
            dispatch_successors(prepared.app, context, value)
    except Exception as exc:
        logger.exception('Failed to dispatch chain/callbacks for deduplicated task %s', context.id)
        return Outcome(Kind.REQUEUED, exc)
    if context.chord and meta:
        # Counting a part twice does no harm; that it was never counted is what a crash may have left.
        persist(prepared.task.backend, False, 'on_chord_part_return', context, states.SUCCESS, value)
    _remember(context.id)
    return Outcome(Kind.SUCCESS, value)


def _remember(task_id: str | None) -> None:
    if task_id is not None:
        _succeeded[task_id] = None
        if len(_succeeded) > REMEMBERED:
            _succeeded.popitem(last=False)
