"""What a parent and one of its children see of each other without a message: a page of shared memory.

The child notes which job it started, when, which it ended and how. So its parent knows what was lost when the child is
killed at any instant, what stalls, and what to take back, whatever was or was not yet reported.

Taking jobs back is the one thing both sides decide on, so it is done under a lock. The child, with the lock, either
skips a job (it is not above `taken_back`) or notes that it started. The parent, with the lock, sets
`taken_back` to the last job it sent and may then give to others all that is above `started`. The lock is held
for about a microsecond; the parent only ever tries it, so a child that was stopped inside it cannot block the parent.

Each word is 8 bytes, aligned and written by one side only.
"""

from __future__ import annotations

import mmap
import time
from typing import Any

from billiard.context import BaseContext

_STARTED, _STARTED_AT, _FINISHED, _TAKEN_BACK, _SOFT, _TERMINATE = range(6)
_WORDS = 8 * 8
#: Kinds of the last runs are kept; a child is never sent as many jobs ahead.
_KINDS = 256


class SharedPage:
    """The shared page of one child. Jobs are known by their sequence numbers, which count up from 1."""

    def __init__(self, context: BaseContext) -> None:
        page = memoryview(mmap.mmap(-1, mmap.PAGESIZE))
        self._words = page[:_WORDS].cast('Q')
        self._kinds = page[_WORDS:_WORDS + _KINDS]
        self.lock: Any = context.Lock()

    # -- the child's side

    def start(self, seq: int, now: float) -> bool:
        """Note that job `seq` starts at `now` (`time.monotonic`); False when it was taken back."""
        words = self._words
        with self.lock:
            if seq <= words[_TAKEN_BACK]:
                return False
            words[_STARTED_AT] = int(now * 1e9)
            words[_STARTED] = seq
            return True

    def finish(self, seq: int, kind: int) -> None:
        """Note that job `seq` ended."""
        self._kinds[seq % _KINDS] = kind
        self._words[_FINISHED] = seq

    def is_soft_limit_for(self, seq: int) -> bool:
        """Whether the signal that came is about job `seq`, and not about one that just ended."""
        return self._words[_SOFT] == seq

    def is_termination_of(self, seq: int) -> bool:
        return self._words[_TERMINATE] == seq

    # -- the parent's side

    @property
    def started(self) -> int:
        return self._words[_STARTED]

    @property
    def started_at(self) -> float:
        """When the last job started (`time.monotonic`)."""
        return self._words[_STARTED_AT] / 1e9

    @property
    def finished(self) -> int:
        return self._words[_FINISHED]

    def kind(self, seq: int) -> int:
        """How job `seq` ended; only of one that is not above `finished`."""
        return self._kinds[seq % _KINDS]

    def take_back(self, last: int) -> bool:
        """Have the child skip all jobs up to `last` that it did not start; False when it cannot be done now."""
        if not self.lock.acquire(block=False):
            return False
        try:
            self._words[_TAKEN_BACK] = last
        finally:
            self.lock.release()
        return True

    def mark_soft_limit(self, seq: int) -> None:
        self._words[_SOFT] = seq

    def mark_termination(self, seq: int) -> None:
        self._words[_TERMINATE] = seq

    def running(self) -> int:
        """Number of the job that runs, or 0."""
        started = self._words[_STARTED]
        return started if started > self._words[_FINISHED] else 0

    def running_for(self) -> float:
        """Seconds since the last job started."""
        return time.monotonic() - self.started_at
