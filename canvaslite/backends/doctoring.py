"""Examining chords that have not ended: which of them nobody would end in time, and why."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from canvaslite import states
from canvaslite.backends.chords import Outbox, Slot
from canvaslite.backends.heads import HELD, OPEN, OVER, ChordHead
from canvaslite.backends.sweeping import look_after, uncounted_parts
from canvaslite.exceptions import ChordError
from canvaslite.result import CanvasTree

__all__ = ('Finding', 'examine', 'repair')

#: Chords that are listed at once.
MOST = 10_000
#: Seconds for which what is due may wait for a sweep.
SWEEP_PATIENCE = 5.0


class Finding(NamedTuple):
    """What is known of one chord."""

    group_id: str
    #: Parts that it waits for, and how many of them are missing.
    size: int | None
    missing: int
    #: When it began, in seconds since 1970.
    opened: float
    #: What is wrong, None if it only has not ended; and what was done about it.
    trouble: str | None
    repaired: bool = False
    #: Tasks of the header that can no longer come, by what fails them.
    lost: Sequence[tuple[str, str]] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same as data."""
        return {'chord': self.group_id, 'size': self.size, 'missing': self.missing, 'opened': self.opened,
                'trouble': self.trouble, 'repaired': self.repaired, 'lost': [task_id for task_id, _ in self.lost]}

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.opened, timezone.utc).isoformat(' ', 'seconds')
        done = '; repaired' if self.repaired else ''
        return f'chord {self.group_id}  {self.missing} of {self.size} missing, since {since}: {self.trouble}{done}'


def examine(backend: Any, tree: CanvasTree | None = None) -> Iterator[Finding]:
    """All chords of this store that have not ended (of those that this app's workers look after), or of one run."""
    if tree is None:
        group_ids = backend.join.due(float(2 ** 40), MOST)
    else:
        group_ids = [str(node.below[0].id) for node in tree.walk() if node.kind == 'chord']
    for group_id in group_ids:
        head = backend.join.head(group_id)
        if head is not None and head.state != OVER:
            yield _examine(backend, group_id, head, tree)


def _examine(backend: Any, group_id: str, head: ChordHead, tree: CanvasTree | None) -> Finding:
    outbox = backend.join.outbox(group_id)
    if outbox is None:
        return Finding(group_id, head.size, head.size or 0, 0.0, 'its body was not kept, nobody can end it')
    missing = backend.join.missing(group_id, outbox.slots)
    uncounted = {part.task_id for part in uncounted_parts(backend, backend.join, group_id, outbox)}
    lost = _lost(backend, group_id, [slot for slot in missing if slot[0] not in uncounted], tree)
    return Finding(group_id, head.size, len(missing), outbox.opened, _trouble(head, outbox, missing, uncounted, lost),
                   False, lost)


def _trouble(head: ChordHead, outbox: Outbox, missing: Sequence[Slot], uncounted: set[str],
             lost: Sequence[Any]) -> str | None:
    now = time.time()
    if not outbox.callback:
        return 'its body could not be written down, only a task of its header can end it'
    if head.state == HELD:
        return 'who was to send its body is gone' if head.due < now - SWEEP_PATIENCE else None
    if head.deadline is not None and head.deadline < now - SWEEP_PATIENCE:
        return 'it is past its deadline (result_chord_deadline)'
    if outbox.slots and len(missing) == len(uncounted):
        return 'all of its header has ended, but its body was not sent'
    if uncounted:
        return f'{len(uncounted)} outcomes of its header are stored, but not counted'
    if lost:
        return f'{len(lost)} tasks of its header can no longer come'
    return 'no worker looks after it' if head.due < now - 10 * SWEEP_PATIENCE else None


def _lost(backend: Any, group_id: str, missing: Sequence[Slot], tree: CanvasTree | None) -> list[tuple[str, str]]:
    """Those that can no longer come, since something before them has failed; with the id of that."""
    lost: list[tuple[str, str]] = []
    tree = tree or (CanvasTree.find(group_id, backend.app) if missing else None)
    for task_id, _ in missing:
        node = None if tree is None else tree.run.nodes.get(task_id)
        failed = [task for task in (node.before() if node is not None else ())
                  if task.state in states.PROPAGATE_STATES]
        if failed:
            lost.append((task_id, str(failed[0].id)))
    return lost


def repair(backend: Any, finding: Finding) -> Finding:
    """End the chord, or have it go on, as a worker does that looks after it; what became of it."""
    for task_id, failed in finding.lost:
        error = ChordError(f'{task_id} can no longer come: {failed}, which was to be before it, has failed')
        backend.store_result(task_id, error, states.FAILURE)
    head = backend.join.head(finding.group_id)
    if head is not None and head.state != OVER:
        now = max(time.time(), head.due if head.state == OPEN else 0.0)
        look_after(backend, backend.join, finding.group_id, now)
        head = backend.join.head(finding.group_id)
    return finding._replace(repaired=head is None or head.state == OVER)
