"""Whether waiting for a result is allowed here: not inside a task, where it can starve the worker."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

__all__ = ('allow_join_result', 'assert_will_not_block', 'denied_join_result', 'set_task_join_will_block',
           'task_join_will_block')

E_WOULDBLOCK = """\
Never call result.get() within a task!
It holds the process that the awaited task may need. Let what follows be a task: link a callback to it, use chain() or
chord(), or in a bound task `return self.replace(subtask.s() | following.s())`. To wait nevertheless, call
result.get(disable_sync_subtasks=False), or wait within allow_join_result(). See https://docs.celeryq.dev/en/latest/userguide/tasks.html\
#avoid-launching-synchronous-subtasks
"""


class _Answer(threading.local):
    #: None: as the whole process.
    blocks: bool | None = None


_here = _Answer()
_process = [False]


def set_task_join_will_block(blocks: bool, here: bool = False) -> None:
    """Say for the whole process, or for this thread, whether it runs tasks: waiting in it would block a worker."""
    if here:
        _here.blocks = blocks or None
    else:
        _process[0] = blocks


def task_join_will_block() -> bool:
    """Whether waiting here would block a worker."""
    return _process[0] if _here.blocks is None else _here.blocks


def assert_will_not_block() -> None:
    """Raise `RuntimeError` inside a task."""
    if task_join_will_block():
        raise RuntimeError(E_WOULDBLOCK)


@contextmanager
def _answering(blocks: bool) -> Iterator[None]:
    before, _here.blocks = _here.blocks, blocks
    try:
        yield
    finally:
        _here.blocks = before


def allow_join_result() -> AbstractContextManager[None]:
    """Allow waiting for results within, though it be inside a task."""
    return _answering(False)


def denied_join_result() -> AbstractContextManager[None]:
    """Refuse waiting for results within."""
    return _answering(True)
