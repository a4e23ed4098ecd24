"""Tasks that end their process, or their whole worker, each time they run: how often one may.

That a process died is known to its worker. Whoever begins a message again that a whole worker may have died with leaves
a mark in the result store, the first that is free of a row, and takes it away if the run ends without an outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from typing import Any
from uuid import uuid4

from canvaslite.backends import chords
from canvaslite.exceptions import WorkerLostError
from canvaslite.execution.keeping import record_failure
from canvaslite.execution.outcome import Kind, Outcome
from canvaslite.execution.run import Run

logger = logging.getLogger('celery.app.trace')

#: Seconds for which a mark is kept.
MARK_KEPT = 86400.0
#: Ends after which the message comes again although nothing died.
_NO_END = frozenset({Kind.REQUEUED, Kind.UNRECORDED})


def begin_again(run: Run) -> tuple[str, Outcome | None]:
    """Before a message is run that was delivered before: the name of our mark, and the end if there are too many."""
    limit = run.prepared.app.conf.task_redelivery_limit
    allowed = _deliveries_allowed(run) if _deliveries(run) else None  # other queues drop nothing
    if allowed is not None:
        limit = min(limit or allowed, allowed)
    if not limit:
        return '', None
    said = 'x-delivery-limit' if limit == allowed else 'task_redelivery_limit'
    limit = max(limit, 2)  # what comes back for the first time may have been given back before it ran
    times, mark = _mark(run, 'begun', limit)
    if not mark and allowed is not None:  # nobody counts but the queue
        times = _deliveries(run)
    if times < limit:
        return mark, None
    return mark, condemn(run, 'The worker was lost each time that it ran.', times, said)


def end_again(run: Run, mark: str, outcome: Outcome) -> None:
    """After that run: it did not end its worker."""
    if mark and outcome.kind in _NO_END:
        join = run.task.backend.join
        _safely(run, join.take_run, mark, chords.ENDED, 1.0) if join.keeps_runs else _safely(run, join.unmark, mark)


def judge_death(run: Run, reason: str, known: int) -> Outcome:
    """What becomes of a task that goes back if its process dies, which this worker has seen `known` times."""
    limit, allowed = run.prepared.app.conf.task_worker_lost_limit, _deliveries_allowed(run)
    times = max(known, _mark(run, 'died', limit)[0]) if limit else 0
    if limit and times >= limit:
        return condemn(run, reason, times, 'task_worker_lost_limit')
    if allowed is not None and _deliveries(run) >= allowed:
        return condemn(run, reason, allowed + 1, 'x-delivery-limit')
    return Outcome(Kind.REQUEUED, note='its process died, and it goes back to its queue')


def condemn(run: Run, reason: str, times: int, limit: str) -> Outcome:
    """Fail a task that was lost as often as `limit` allows; its message is to be dead-lettered."""
    reason = f'{reason} That happened {times} times, as often as {limit} allows.'
    run.end_with(WorkerLostError(reason))
    record_failure(run, None)
    return Outcome(Kind.POISONED, run.error, note=f'failed, and its message goes to the dead-letter exchange of its '
                   f'queue, if there is one: {reason}')


def _deliveries_allowed(run: Run) -> int | None:
    """The smallest ``x-delivery-limit`` of the app's queues: the broker drops what comes back more often."""
    limits = [(queue.queue_arguments or {}).get('x-delivery-limit') for queue in run.prepared.app.amqp.queues.values()]
    return min((limit for limit in limits if isinstance(limit, int)), default=None)


def _deliveries(run: Run) -> int:
    """How often the message came back to its quorum queue."""
    headers = run.context.headers
    times = headers.get('x-delivery-count') if isinstance(headers, dict) else None
    return times if isinstance(times, int) else 0


def _mark(run: Run, what: str, limit: int) -> tuple[int, str]:
    """Leave a mark: how many there are now, at most `limit`, and the name of ours if it was kept."""
    join = run.task.backend.join
    if join is None:
        return 0, ''
    name = f'{run.id}.{what}{run.context.retries or 0}'
    if not join.keeps_runs:
        times = _safely(run, join.mark, name, MARK_KEPT)
        return min(times or 0, limit), name if times else ''
    token, times = uuid4().hex, 0
    for place in count(1):
        holder = _safely(run, join.take_run, f'{name}.{place}', token, MARK_KEPT)
        times += holder not in (None, chords.ENDED)
        if holder is None or holder == token or times >= limit:
            return times, f'{name}.{place}' if holder == token else ''
    raise AssertionError


def _safely(run: Run, step: Callable[..., Any], *args: Any) -> Any:
    """What the step on the store gives; None where it is away: better to run a task once more than not at all."""
    try:
        return step(*args)
    except Exception as exc:
        logger.warning('Task [%s]: how often it was lost could not be kept: %r', run.id, exc)
        return None
