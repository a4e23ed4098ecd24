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
import os
import tempfile
import time
from typing import Any

from billiard.context import BaseContext
from billiard.reduction import DupFd

_STARTED, _STARTED_AT, _FINISHED, _TAKEN_BACK, _SOFT, _TERMINATE, _READ = range(7)
_WORDS = 8 * 8
#: Kinds of the last runs are kept; a child is never sent as many jobs ahead.
_KINDS = 256


def _word(index: int) -> Any:
    """A word of the page as an attribute."""
    return property(lambda page: page._words[index], lambda page, value: page._words.__setitem__(index, value))


class SharedPage:
    """The shared page of one child. Jobs are known by their sequence numbers, which count up from 1."""

    started, finished = _word(_STARTED), _word(_FINISHED)
    #: The last job whose message was understood: only then it may be acknowledged.
    read = _word(_READ)
    #: The jobs that a signal from the parent is about, which may just have ended: the soft limit's, and TERM.
    soft_limited, terminated = _word(_SOFT), _word(_TERMINATE)

    def __init__(self, context: BaseContext) -> None:
        self.lock: Any = context.Lock()
        #: A process that is spawned inherits no memory, but may be given a file.
        self._file: Any = None
        if context.get_start_method() != 'fork':
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the page
            self._file.truncate(mmap.PAGESIZE)
        self._map(-1 if self._file is None else self._file.fileno())

    def _map(self, fd: int) -> None:
        page = memoryview(mmap.mmap(fd, mmap.PAGESIZE))
        self._words = page[:_WORDS].cast('Q')
        self._kinds = page[_WORDS:_WORDS + _KINDS]

    def __getstate__(self) -> tuple[Any, Any]:
        return DupFd(self._file.fileno()), self.lock

    def __setstate__(self, state: tuple[Any, Any]) -> None:
        fd, self.lock = state[0].detach(), state[1]
        self._map(fd)
        os.close(fd)

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

    # -- the parent's side

    @property
    def started_at(self) -> float:
        """When the last job started (`time.monotonic`)."""
        return self._words[_STARTED_AT] / 1e9

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

    def running(self) -> int:
        """Number of the job that runs, or 0."""
        started = self._words[_STARTED]
        return started if started > self._words[_FINISHED] else 0

    def running_for(self) -> float:
        """Seconds since the last job started."""
        return time.monotonic() - self.started_at
