"""`Outcome`: how the run of a task ended, as data."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple


class Kind(IntEnum):
    """The ways in which a run can end. The worker chooses from it what to acknowledge."""

    SUCCESS = 1
    #: The task raised, or a verdict said that it failed; result, errbacks and joins are done.
    FAILURE = 2
    #: The task was sent again.
    RETRY = 3
    #: The task raised `Ignore`.
    IGNORED = 4
    #: The task raised `Reject`; with requeue for the second.
    REJECTED = 5
    REQUEUED = 6
    REVOKED = 7
    #: No such task here; dependants were told.
    UNKNOWN = 8
    #: The message cannot be decoded, or its content type or serializer is refused.
    UNDECODABLE = 9
    #: The outcome could not be recorded (the store is away): the message must go back, not be acknowledged.
    UNRECORDED = 10
    #: There was no task: chords that are due were looked at.
    SWEPT = 11
    #: Another copy of the message runs elsewhere: to be tried again when that has ended.
    HELD = 12
    #: The task ended its process, or its worker, too often: recorded as lost, its message to be dead-lettered.
    POISONED = 13


class Outcome(NamedTuple):
    """How a run ended and what there is to tell about it."""

    kind: Kind
    #: Return value, exception or `Retry`, depending on `kind`.
    value: Any = None
    #: Formatted traceback of a failure.
    traceback: str | None = None
    #: Seconds the task's own code took.
    runtime: float = 0.0
    #: One line for the parent's log, where the parent is to log it (UNDECODABLE, UNKNOWN, UNRECORDED, POISONED).
    note: str = ''
