"""Looking again at chords: at those that are due, because somebody died or their deadline has passed, and at cancelled
ones.

Every worker sweeps. A chord whose claim has run out is claimed anew, an outcome that was stored but not counted is
counted, and what is not complete in time fails.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from canvaslite import states
from canvaslite.backends import chords
from canvaslite.backends.chords import ChordJoin, Outbox, Part, Report, act_on_report

__all__ = ('end_chord', 'sweep')

logger = logging.getLogger('celery.backends.chords')

#: Chords that one sweep looks at.
AT_ONCE = 20
#: Results that are looked up at once.
LOOKED_UP_AT_ONCE = 1000
#: Seconds by which the clocks of publishers and workers may differ.
CLOCK_SKEW = 30.0


def sweep(backend: Any, join: ChordJoin, limit: int = AT_ONCE) -> int:
    """Look at the chords that are due, at most `limit`, and end those that can be; how many these were.

    Raises the error of a store or broker that is away.
    """
    ended = 0
    for group_id in join.due(time.time(), limit):
        try:
            report = join.look(group_id, time.time())
            if report.status == chords.RECORDED:
                report = _reconcile(backend, join, group_id)
            if report.status == chords.CLAIMED:
                logger.warning('Chord %r: its body was not sent by whom it was to be; doing that', group_id)
                act_on_report(backend, join, report, None)
                ended += 1
        except Exception as exc:
            if chords.is_outage(backend, exc):
                raise
            logger.exception('Chord %r could not be looked at: %r', group_id, exc)
    return ended


def end_chord(backend: Any, join: ChordJoin, group_id: str, reason: str) -> bool:
    """End a chord that is not complete: its body becomes REVOKED for that `reason`. False if it has ended already, or
    is unknown."""
    report = join.look(group_id, time.time(), reason)
    act_on_report(backend, join, report, None)
    return report.status == chords.CLAIMED


def _reconcile(backend: Any, join: ChordJoin, group_id: str) -> Report:
    """Count the outcomes that were stored, but not counted: whoever stored them died, or was a Celery worker that did.
    """
    report, outbox = Report(chords.RECORDED), join.outbox(group_id)
    for part in _uncounted_parts(backend, join, group_id, outbox) if outbox is not None else ():
        logger.info('Chord %r: counting the outcome of %r, which is stored', group_id, part.task_id)
        report = join.part(part)
        if report.status != chords.RECORDED:
            break
    return report


def _uncounted_parts(backend: Any, join: ChordJoin, group_id: str, outbox: Outbox) -> Iterator[Part]:
    slots = join.missing(group_id, outbox.slots)
    for start in range(0, len(slots), LOOKED_UP_AT_ONCE):
        places = dict(slots[start:start + LOOKED_UP_AT_ONCE])
        for task_id, meta in backend.get_task_metas(list(places)).items():
            # What is older than the chord is the result of an earlier run under the same id.
            if meta['status'] in states.READY_STATES and _ended_at(meta) > outbox.opened - CLOCK_SKEW:
                value = backend.encode_result(meta['result'], meta['status'])
                yield Part(group_id, task_id, places[task_id], meta['status'], value)


def _ended_at(meta: Mapping[str, Any]) -> float:
    done = meta.get('date_done')
    if not done:
        return float('inf')
    if isinstance(done, str):
        done = datetime.fromisoformat(done[:-1] + '+00:00' if done.endswith('Z') else done)
    return float((done if done.tzinfo else done.replace(tzinfo=timezone.utc)).timestamp())
