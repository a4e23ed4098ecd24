"""`Outcomes`: what is acknowledged, rejected, recorded and logged when a task started, ended, or was lost.

A task whose process is gone gets a verdict, which a child records in its place, unless it goes back to the broker.
"""

from __future__ import annotations

import logging
import signal
from typing import Any

from kombu.utils.functional import LRUCache

from canvaslite import signals
from canvaslite.exceptions import NotRegistered
from canvaslite.execution.outcome import Kind
from canvaslite.pools.base import Pool
from canvaslite.worker.receipts import Returns
from canvaslite.worker.request import Request, Stage
from canvaslite.worker.state import State

logger = logging.getLogger('celery.worker')

#: How a late task ended whose message is acknowledged; a failure is if its task says so, what else there is never.
_ACKNOWLEDGED = frozenset({Kind.SUCCESS, Kind.RETRY, Kind.IGNORED, Kind.REVOKED, Kind.SWEPT})
_LEVELS = {Kind.UNKNOWN: logging.ERROR, Kind.UNDECODABLE: logging.CRITICAL, Kind.UNRECORDED: logging.CRITICAL,
           Kind.POISONED: logging.CRITICAL}
#: Seconds before a message goes back whose outcome could not be recorded: the store is away, and stays so for a while.
UNRECORDED_DELAY = 5.0
DEATHS_KEPT = 1000
#: Seconds before a message is tried again of which another copy runs.
HELD_DELAY = 1.0
#: How often a verdict is tried whose recording ends the process that records it.
VERDICT_ATTEMPTS = 10


class Outcomes:
    """The pool's listener."""

    pool: Pool

    def __init__(self, state: State, returns: Returns) -> None:
        self.state = state
        self.returns = returns
        #: What signal handlers get as sender.
        self.consumer: Any = None
        #: How often the process of a task died that went back to its queue, by its id.
        self.deaths: Any = LRUCache(limit=DEATHS_KEPT)
        #: A lost task is one that we ended, as the worker stops at once: the broker has it, unless it was acknowledged.
        self.stopping_cold = False

    def on_started(self, request: Request, pid: int, time_start: float) -> None:
        request.begin(pid, time_start)
        if request.early and not request.acknowledged:
            request.acknowledge()
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug('Task accepted: %s[%s] pid:%r', request.name, request.id, pid)
        if request.signum is not None and request.verdict is None:  # what runs then only records the verdict
            self.pool.terminate_job(request, request.signum)

    def on_finished(self, request: Request, kind: Kind, runtime: float, note: str) -> None:
        request.policy.count += 1
        if kind is Kind.SUCCESS:
            self.state.successful.append(request.id)
        if note:
            self._tell(request, kind, note)
        if kind is Kind.HELD:
            request.stage = Stage.RESERVED
            self.consumer.hub.call_later(HELD_DELAY, self.pool.submit, request)
        elif kind is Kind.UNRECORDED and not request.acknowledged:
            self.consumer.hub.call_later(UNRECORDED_DELAY, self._settle, request, True, True)
        elif kind is Kind.UNDECODABLE:  # never acknowledged when it started, for it did not
            self._settle(request, True)
        elif request.early or kind in _ACKNOWLEDGED or (kind is Kind.FAILURE and _acknowledges_failure(request)):
            self._settle(request)
        else:
            self._settle(request, True, kind is Kind.REQUEUED)

    def on_lost(self, request: Request, reason: str) -> None:
        request.stage = Stage.ACTIVE
        if self.stopping_cold and not request.acknowledged:
            self.state.let_go(request)
            return
        if request.cancelled:  # its message, which may be here again already, is to be taken like any other
            self._settle(request, True, True)
            return
        if self.stopping_cold:
            reason = 'The worker was stopped while the task ran (cold shutdown).'
        if request.verdict is not None:
            self._try_verdict_again(request, reason)
            return
        if request.signum is not None:
            self._condemn(request, 'terminated', request.signum)
        elif not request.early and request.policy.reject_on_worker_lost:
            logger.error('Task %s[%s] was lost: %s', request.name, request.id, reason)
            times = self.deaths[request.id] = self.deaths.get(request.id, 0) + 1
            self._condemn(request, 'died', (reason, times))
        else:
            logger.error('Task %s[%s] was lost: %s', request.name, request.id, reason)
            self._condemn(request, 'lost', reason)

    def on_timeout(self, request: Request, soft: bool, limit: float) -> None:
        if soft:
            logger.warning('Soft time limit (%ss) exceeded for %s[%s]', limit, request.name, request.id)
            return
        logger.error('Hard time limit (%ss) exceeded for %s[%s]', limit, request.name, request.id)
        request.stage = Stage.ACTIVE
        if self.stopping_cold and not request.acknowledged:
            self.state.let_go(request)
        elif not request.early and not request.policy.acks_on_timeout:
            # Either it fails or it runs again; not both.
            self._settle(request, True, True)
        else:
            self._condemn(request, 'timelimit', limit)

    def on_delayed(self, request: Request) -> None:
        """The broker has a copy of the message, and keeps it until the ETA."""
        self._settle(request)

    def flush(self) -> None:
        """Write acknowledgements now."""
        self.consumer.flush()

    def _settle(self, request: Request, reject: bool = False, requeue: bool = False) -> None:
        """Tell the broker, and forget the request."""
        if request.received.is_lost and not request.acknowledged:
            self.returns.settle(request, reject and requeue)
        if reject:
            request.reject(requeue)
        else:
            request.acknowledge()
        self.state.let_go(request)

    def _condemn(self, request: Request, kind: str, detail: Any) -> None:
        """Have a child record the verdict. An early task was acknowledged when it started, if we heard of that."""
        if request.early:
            request.acknowledge()
        request.condemn(kind, detail)
        self.pool.submit_first(request)

    def _try_verdict_again(self, request: Request, reason: str) -> None:
        request.attempts += 1
        if request.attempts < VERDICT_ATTEMPTS:
            self.pool.submit_first(request)
            return
        logger.critical('Could not record that %s[%s] %s: the process ended each time (%s)', request.name, request.id,
                        request.verdict.kind if request.verdict else '', reason)
        self._settle(request, True, request.verdict is not None and request.verdict.kind == 'died')

    def _tell(self, request: Request, kind: Kind, note: str) -> None:
        logger.log(_LEVELS.get(kind, logging.INFO), 'Task %s[%s]: %s', request.type, request.id, note)
        if kind is Kind.UNKNOWN and signals.task_unknown.receivers:
            signals.task_unknown.send(sender=self.consumer, message=request.message, exc=NotRegistered(request.type),
                                      name=request.type, id=request.id)
        elif kind is Kind.UNDECODABLE and signals.task_rejected.receivers:
            signals.task_rejected.send(sender=self.consumer, message=request.message, exc=None)

    def cancel(self, request: Request) -> None:
        """End the process that runs `request`, whose message comes again: nothing is recorded."""
        request.cancelled = True
        self.pool.terminate_job(request, signal.SIGTERM)

    def terminate(self, request: Request, signum: int) -> None:
        """End the process that runs `request` with `signum`, now or as soon as it starts."""
        request.signum = signum
        self.pool.terminate_job(request, signum)


def _acknowledges_failure(request: Request) -> bool:
    verdict, policy = request.verdict, request.policy
    return policy.acks_on_timeout if verdict is not None and verdict.kind == 'timelimit' else policy.acks_on_failure


