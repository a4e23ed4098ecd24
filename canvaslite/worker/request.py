"""`Request`: one received message, from receipt to acknowledgement.

Of the message only what a worker's parent decides on is read when it comes in. Whatever else a signal handler or a
remote control command asks for is decoded when it is asked for.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone
from enum import IntEnum
from operator import attrgetter
from typing import Any

from canvaslite.context import Context
from canvaslite.protocol.job import Job, Verdict
from canvaslite.worker.messages import Received
from canvaslite.worker.policies import Policy

_STAMPS, _ROOT = frozenset({'stamps', 'stamped_headers'}), frozenset({'root_id'})


class Stage(IntEnum):
    """Where a request is on its way through the worker."""

    #: Waits for its ETA.
    SCHEDULED = 1
    #: Waits for its rate limit, or for a free process.
    RESERVED = 2
    #: Runs.
    ACTIVE = 3
    #: Its outcome is known, or it was given back to the broker.
    READY = 4


class Request:
    """What the worker knows of one message: its receipt, what its task wishes, its limits (hard, soft), its stage."""

    __slots__ = ('_context', '_time_start', 'acknowledged', 'attempts', 'cancelled', 'early', 'eta', 'expires', 'id',
                 'limits', 'pace', 'policy', 'received', 'signum', 'stage', 'timer', 'verdict', 'worker_pid')

    def __init__(self, received: Received, id: str, policy: Policy,
                 limits: tuple[float | None, float | None] | None) -> None:
        self.received = received
        self.id = id
        self.policy = self.pace = policy
        self.limits = limits
        #: Acknowledge when the task starts, not when it has ended.
        self.early = not policy.acks_late
        #: The broker was told, or can no longer be told, what became of the message.
        self.acknowledged = False
        self.stage = Stage.RESERVED
        self.eta: datetime | None = None
        self.expires: datetime | None = None
        self.verdict: Verdict | None = None
        #: How often a process died that was to record the verdict.
        self.attempts = 0
        #: The signal with which the task's process was, or is to be, ended.
        self.signum: int | None = None
        #: Its process is ended because the message comes again.
        self.cancelled = False
        self.timer: Any = None
        self.worker_pid: int | None = None
        self._time_start: float | None = None
        self._context: Context | None = None

    def job(self) -> Job:
        """What a child is to run. A task that has expired by now gets the verdict instead."""
        if self.expires is not None and self.verdict is None and self.is_expired():
            self.condemn('expired')
        return self.received.job(self.verdict)

    def condemn(self, kind: str, detail: Any = None) -> None:
        """The task is not to be run (any more): whoever gets the job records this as its outcome."""
        self.verdict = Verdict(kind, detail)
        self.early = False
        self.limits = None

    def is_expired(self) -> bool:
        return self.expires is not None and datetime.now(timezone.utc) > self.expires

    def begin(self, pid: int, time_start: float) -> None:
        """It runs in process `pid` since `time_start` (`time.monotonic`)."""
        self.stage = Stage.ACTIVE
        self.worker_pid = pid
        self._time_start = time_start

    def acknowledge(self) -> None:
        """Tell the broker that the message is done with, if it was not told anything yet."""
        if not self.acknowledged:
            self.acknowledged = True
            self.received.acknowledge()

    def reject(self, requeue: bool = False) -> None:
        """Give the message back, if the broker was not told anything yet."""
        if not self.acknowledged:
            self.acknowledged = True
            self.received.reject(requeue)

    @property
    def context(self) -> Context:
        """The run as the task would see it. Raises what decoding the message raises."""
        if self._context is None:
            self._context = self.received.read()
        return self._context

    @property
    def name(self) -> str:
        """Name to be shown: the shadow name, if the message has one."""
        return self.received.shown().get('shadow') or self.policy.name

    task_name = name
    task_id: Any = property(attrgetter('id'))
    #: The task, its name, and the message as the transport gave it.
    task: Any = property(attrgetter('policy.task'))
    type: Any = property(attrgetter('policy.name'))
    message: Any = property(attrgetter('received.message'))

    @property
    def time_start(self) -> float | None:
        """When it started, in seconds since the epoch."""
        return None if self._time_start is None else time.time() - (time.monotonic() - self._time_start)

    def __getattr__(self, name: str) -> Any:
        """Whatever else the task's own request has: args, kwargs, root_id, group, reply_to, delivery_info, …"""
        if name.startswith('_'):
            raise AttributeError(name)
        return getattr(self.context, name)

    #: Celery's private name for the content of the message, which handlers of `task_received` are seen to read.
    _Request__payload = property(lambda self: (self.args, self.kwargs, {
        name: getattr(self.context, name) for name in ('callbacks', 'errbacks', 'chain', 'chord')}))

    request_dict: Any = property(lambda self: vars(self.context))

    @property
    def root_id(self) -> str | None:
        """The id of the first task of its run."""
        return self.received.peek(_ROOT).get('root_id')

    @property
    def stamps(self) -> dict[str, Any]:
        """The values of the stamped headers."""
        headers = self.received.peek(_STAMPS)
        stamps, names = headers.get('stamps'), headers.get('stamped_headers')
        if not isinstance(stamps, dict) or not isinstance(names, list):
            return {}
        return {name: stamps.get(name) for name in names if isinstance(name, str)}

    def info(self, safe: bool = False) -> dict[str, Any]:
        """What ``inspect`` shows; with `safe` the arguments as their representations."""
        context = self.context
        return {
            'id': self.id, 'name': self.name, 'type': self.type, 'hostname': context.hostname,
            'args': context.get('argsrepr') if safe else context.args,
            'kwargs': context.get('kwargsrepr') if safe else context.kwargs,
            'time_start': self.time_start, 'acknowledged': self.acknowledged,
            'delivery_info': context.delivery_info, 'worker_pid': self.worker_pid,
        }

    def humaninfo(self) -> str:
        return f'{self.name}[{self.id}]'

    def __str__(self) -> str:
        eta = f' ETA:[{self.eta}]' if self.eta else ''
        expires = f' expires:[{self.expires}]' if self.expires else ''
        return f'{self.humaninfo()}{eta}{expires}'

    def __repr__(self) -> str:
        return f'<{type(self).__name__}: {self.humaninfo()}>'
