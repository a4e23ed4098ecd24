"""`Job`: what a worker's parent hands to the process or thread that runs a task."""

from __future__ import annotations

from typing import Any, NamedTuple

#: `Job.head` is the property list of an AMQP content header (flag words and values), exactly as it came.
AMQP_PROPERTIES = 0
#: `Job.head` is a pickled dict: ``headers``, ``properties``, ``content_type``, ``content_encoding``.
KOMBU_PROPERTIES = 1


class Verdict(NamedTuple):
    """Why a task is not to be run: whoever gets the job records it, for the parent never touches the result store."""

    #: One of ``revoked``, ``expired``, ``terminated``, ``lost``, ``died`` (lost, to go back to its queue unless that
    #: happened too often), ``timelimit``, ``unknown``, ``invalid``; or, without a message, ``sweep`` (look at the
    #: chords that are due) and ``mark`` (as revoked, if they have not begun).
    kind: str
    #: ``lost``: the message for `WorkerLostError`. ``died``: also how often the worker has seen it.
    #: ``timelimit``: the limit in seconds. ``terminated``: the signal. ``unknown``: the task's name.
    #: ``invalid``: why. ``mark``: ids.
    detail: Any = None


class Job(NamedTuple):
    """One message to run, its body and headers still as bytes."""

    form: int
    head: bytes
    body: bytes
    exchange: str = ''
    routing_key: str = ''
    redelivered: bool = False
    verdict: Verdict | None = None
