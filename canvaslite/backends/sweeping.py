"""Looking again at chords: at those that are due, because somebody died or their deadline has passed, and at cancelled
ones.

Every worker sweeps. A chord whose claim has run out is claimed anew, an outcome that was stored but not counted is
counted, and what is not complete in time fails.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from math import inf
from typing import Any

from canvaslite import states
from canvaslite.backends import chords
from canvaslite.backends.chords import ChordJoin, Outbox, Part, Report, act_on_report
from canvaslite.exceptions import UnreadableResult
from canvaslite.utils.time import second_done

__all__ = ('end_chord', 'look_after', 'sweep', 'uncounted_parts')

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
            ended += look_after(backend, join, group_id, time.time())
        except Exception as exc:
            if chords.is_outage(backend, exc):
                raise
            logger.exception('Chord %r could not be looked at: %r', group_id, exc)
    return ended


def look_after(backend: Any, join: ChordJoin, group_id: str, now: float) -> bool:
    """Look at one chord as if it were `now`; whether it was ended."""
    report = join.look(group_id, now)
    if report.status == chords.RECORDED:
        report = _reconcile(backend, join, group_id)
    elif report.status == chords.GONE:
        _end_if_sent(backend, join, group_id, now)
    if report.status == chords.CLAIMED:
        logger.warning('Chord %r: its body was not sent by whom it was to be; doing that', group_id)
        act_on_report(backend, join, report, None)
    return report.status == chords.CLAIMED


def end_chord(backend: Any, join: ChordJoin, group_id: str, reason: str) -> bool:
    """End a chord that is not complete: its body becomes REVOKED for that `reason`. False if it has ended already, or
    is unknown."""
    report = join.look(group_id, time.time(), reason)
    act_on_report(backend, join, report, None)
    return report.status == chords.CLAIMED


def _end_if_sent(backend: Any, join: ChordJoin, group_id: str, now: float) -> None:
    """A Celery worker before 5.7 sends the body and removes what it knows of; the rest goes when the body has ended."""
    outbox = join.outbox(group_id)
    body = chords.unpack_callback(backend.app, outbox.callback) if outbox is not None and outbox.callback else None
    if body is not None and backend.get_task_meta(body.options.get('task_id'), cache=False)[
            'status'] in states.READY_STATES:
        claim = join.look(group_id, now, 'its body was sent').claim
        if claim is not None:
            join.finish(claim)


def _reconcile(backend: Any, join: ChordJoin, group_id: str) -> Report:
    """Count the outcomes that were stored, but not counted: whoever stored them died, or was a Celery worker that did.
    """
    report, outbox = Report(chords.RECORDED), join.outbox(group_id)
    for part in uncounted_parts(backend, join, group_id, outbox) if outbox is not None else ():
        logger.info('Chord %r: counting the outcome of %r, which is stored', group_id, part.task_id)
        report = join.part(part)
        if report.status != chords.RECORDED:
            break
    return report


def uncounted_parts(backend: Any, join: ChordJoin, group_id: str, outbox: Outbox) -> Iterator[Part]:
    """The outcomes of a chord's header that are stored, but not counted."""
    slots = join.missing(group_id, outbox.slots)
    for start in range(0, len(slots), LOOKED_UP_AT_ONCE):
        places = dict(slots[start:start + LOOKED_UP_AT_ONCE])
        try:
            metas = backend.get_task_metas(list(places))
        except UnreadableResult as exc:  # it stands for a failure; the others are seen by the next look
            metas = {exc.task_id: {'status': states.FAILURE, 'result': exc}}
        for task_id, meta in metas.items():
            # What is older than the chord is the result of an earlier run under the same id.
            if meta['status'] in states.READY_STATES and (second_done(meta) or inf) > outbox.opened - CLOCK_SKEW:
                value = backend.encode_result(meta['result'], meta['status'])
                yield Part(group_id, task_id, places[task_id], meta['status'], value)
