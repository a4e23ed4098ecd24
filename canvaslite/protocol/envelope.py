"""`Envelope`: what a task message says, the same at both ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SignatureDict = dict[str, Any]


class Envelope(NamedTuple):
    """One task message, free of any wire format; a named tuple because it is the cheapest frozen record."""

    #: Id of the task, and of its result.
    id: str
    #: Registered name of the task.
    task: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = {}
    #: Earliest time of execution, ISO 8601.
    eta: str | None = None
    #: Time after which the task is not to be run, ISO 8601.
    expires: str | None = None
    #: Hard and soft time limit, in seconds.
    timelimit: tuple[float | None, float | None] = (None, None)
    lang: str = 'py'
    #: Name shown in place of `task` in logs and monitors.
    shadow: str | None = None
    #: Id of the group this task is a member of, and its place there.
    group: str | None = None
    group_index: int | None = None
    #: How often the task was retried so far.
    retries: int = 0
    #: First task of the workflow, and the task that sent this one.
    root_id: str | None = None
    parent_id: str | None = None
    argsrepr: str = ''
    kwargsrepr: str = ''
    #: ``pid@host`` of the sender.
    origin: str | None = None
    ignore_result: bool = False
    replaced_task_nesting: int = 0
    stamped_headers: Sequence[str] | None = None
    stamps: Mapping[str, Any] | None = None
    #: Signatures (or their dicts) run on success, on failure, next in the chain (last first), and as chord body.
    callbacks: Sequence[Any] | None = None
    errbacks: Sequence[Any] | None = None
    chain: Sequence[Any] | None = None
    chord: Any = None
    #: Headers that are not of the protocol; they stay on the request and on its retries.
    headers: Mapping[str, Any] | None = None
    #: Message properties.
    correlation_id: str | None = None
    reply_to: str | None = None
    #: Whether eta and expires are in UTC (only protocol 1 can say no).
    utc: bool = True
