"""`PreforkPool`: tasks run in child processes.

A task goes to a child that is free. When none is, short tasks (by the mean of their name) are sent ahead to the child
that will be done first, up to a few milliseconds of work, so that it need not wait for us between them. What was
sent ahead to a child that then stalls, because one task takes long after all or because the child was
stopped, is taken back and goes to others: nothing waits behind a long task for longer than `STALL`.

A child that dies takes with it only the job it ran: the shared page tells which that was.
"""

from __future__ import annotations

import gc
import logging
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

import billiard

from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.execution.outcome import Kind
from canvaslite.pools.base import Listener, Pool, Preparation
from canvaslite.pools.prefork import frames
from canvaslite.pools.prefork.child import logger
from canvaslite.pools.prefork.handle import ChildHandle
from canvaslite.pools.prefork.health import Health
from canvaslite.signals import worker_before_create_process

_KINDS = {int(kind): kind for kind in Kind}
#: Number of jobs that a child has at most.
AHEAD_JOBS = 32
#: Cost assumed of the shortest task, in seconds.
LEAST_COST = 0.00005
#: A task is sent ahead only if its mean runtime in seconds is below this.
SHORT_TASK = 0.002
#: A child that ends earlier than this many seconds after its start, without having been ready, is replaced with delay.
EARLY_END = 1.0
#: Seconds between TERM, by which a task may let go of what it holds, and the KILL that follows if its process does not
#: end: when a user asked for that, and when its time is up.
TERMINATION_GRACE, LIMIT_GRACE = 3.0, 0.5
#: Seconds between two looks, while there is something to look for.
INTERVAL = 0.01
#: Seconds after which what was sent ahead of a running task goes to others.
STALL = 0.01
#: Seconds after which a child that did not take up its jobs is taken for stopped.
UNRESPONSIVE = 0.1
#: Seconds of work that a busy child is sent at most.
AHEAD_SECONDS = 0.004


class PreforkPool(Pool):
    """Tasks run in `limit` child processes. Options: `max_tasks_per_child`, `max_memory_per_child` (KiB),
    `release` (called in each child to close what the parent holds), `start_method` (``fork`` or ``spawn``)."""

    name = 'prefork'
    can_interrupt = True

    def __init__(self, limit: int, preparation: Preparation, listener: Listener, *,
                 max_tasks_per_child: int | None = None, max_memory_per_child: int | None = None,
                 release: Callable[[], None] | None = None, start_method: str = 'fork', **options: Any) -> None:
        super().__init__(limit, preparation, listener, **options)
        self.max_tasks = max_tasks_per_child
        self.max_memory = max_memory_per_child
        self.release = release
        if start_method not in ('fork', 'spawn'):
            raise ImproperlyConfigured(f"worker_pool_start_method is {start_method!r}: it must be 'fork' or 'spawn'.")
        self.context = billiard.get_context(start_method)
        self.children: list[ChildHandle] = []
        self.idle: list[ChildHandle] = []
        self.watch = Watch(self)
        self.health = Health(self, options.get('alive_timeout'))
        self.hub: Any = None
        self._written_to: dict[ChildHandle, None] = {}
        self._early_ends = 0
        self._names = 0
        self._stopping = False

    # -- processes

    def start(self, hub: Any) -> None:
        self.hub = hub
        # What the children share with us stays shared only as long as the collector does not write into it.
        gc.collect()
        gc.freeze()
        for index in range(self.limit):
            self._fork(index)
        self.health.start(hub)

    def _fork(self, index: int) -> None:
        if worker_before_create_process.receivers:
            worker_before_create_process.send(sender=self)
        child = ChildHandle(self.context, index)
        self._names += 1
        child.fork(self.context, self.preparation, self._release_in_child, self.max_tasks, self.max_memory,
                   f'{self.context.get_start_method().capitalize()}PoolWorker-{self._names}')
        self.children.append(child)
        self.hub.add_reader(child.sock, self.read_reports, child)

    def _release_in_child(self) -> None:
        """In a new child: close the siblings' sockets and the loop's descriptors, but change nothing they share."""
        for child in self.children:
            child.close()
        self.hub.poller.close()
        waker = getattr(self.hub, '_waker', None)
        if waker is not None:
            waker.close()
        if self.release is not None:
            self.release()

    def grow(self, n: int = 1) -> None:
        self.limit += n
        taken = {child.index for child in self.children}
        free = [index for index in range(self.limit + len(taken)) if index not in taken]
        for index in free[:n]:
            self._try_fork(index)

    def shrink(self, n: int = 1) -> None:
        kept = [child for child in self.children if not child.closing]
        if n >= len(kept):
            raise ValueError("Can't shrink pool. All processes busy!" if kept else 'The pool has no processes.')
        self.limit -= n
        for child in sorted(kept, key=lambda child: len(child.inflight))[:n]:
            self._retire(child, replaced=False)

    def restart(self) -> None:
        for child in list(self.children):
            self._retire(child, replaced=child.replaced)  # one that ends for good does

    def _retire(self, child: ChildHandle, replaced: bool) -> None:
        child.closing, child.replaced = True, replaced
        if child in self.idle:
            self.idle.remove(child)
        self.watch.take_back(child)
        self._close_if_done(child)

    def _close_if_done(self, child: ChildHandle) -> None:
        if child.closing and not child.inflight:
            child.out.append(frames.CLOSING)
            self._write(child)

    # -- handing over

    def pump(self) -> None:
        waiting = self.waiting
        if waiting:
            now = time.monotonic()
            idle, written_to = self.idle, self._written_to
            while waiting:
                mean = waiting[0].pace.mean
                child = idle.pop() if idle else self._choose_busy(mean) if mean < SHORT_TASK else None
                if child is None:
                    break
                child.give(waiting.popleft(), mean if mean > LEAST_COST else LEAST_COST, now)
                written_to[child] = None
            self.watch.wake()
        if self._written_to:
            for child in self._written_to:
                self._write(child)
            self._written_to.clear()

    def _choose_busy(self, cost: float) -> ChildHandle | None:
        """The child that will be done first with what it has, if it may be sent more."""
        best, least = None, AHEAD_SECONDS - cost
        for child in self.children:
            if child.load <= least and len(child.inflight) < AHEAD_JOBS and child.has_room:
                best, least = child, child.load
        return best

    def _write(self, child: ChildHandle) -> None:
        if not child.write() and child.writable is None:
            child.writable = child.sock.dup()
            self.hub.add_writer(child.writable, self._on_writable, child)

    def _on_writable(self, child: ChildHandle) -> None:
        if child.write():
            self._end_writing(child)

    def _end_writing(self, child: ChildHandle) -> None:
        if child.writable is not None:
            self.hub.remove(child.writable)
            child.writable.close()
            child.writable = None

    def rest(self, child: ChildHandle) -> None:
        """Make `child` available again if it is idle."""
        if child.is_idle and child not in self.idle:
            self.idle.append(child)
        self._close_if_done(child)

    # -- reports

    def read_reports(self, child: ChildHandle) -> None:
        """Take what `child` has written."""
        try:
            data = child.sock.recv(frames.READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except ConnectionResetError:
            data = b''
        if not data:
            self.bury(child)
            return
        reports, child.rest = frames.decode_reports(child.rest + data if child.rest else data)
        for type_, seq, kind, runtime, elapsed, note in reports:
            if type_ == frames.FINISHED:
                self.settle(child, seq, kind, runtime, elapsed, note)
            elif type_ == frames.STARTED:
                self.watch.announce(child, seq)
            else:
                child.ready, child.stalled, self._early_ends = True, False, 0
                self.rest(child)

    def settle(self, child: ChildHandle, seq: int, kind: int, runtime: float = 0.0, elapsed: float = -1.0,
               note: str = '') -> None:
        """Job `seq` ended. Does nothing when that is known already."""
        known = child.inflight.pop(seq, None)
        if known is None:
            return
        request, cost = known
        if child.timers and child.timed == seq:
            child.cancel_timers()
            child.fate = None  # it ended by itself after all
        if elapsed >= 0.0:
            request.pace.note(elapsed)
        if kind == Kind.SWEPT:
            child.left += 1  # it was no task
        if child.inflight:
            child.load -= cost
        else:
            child.load = 0.0
            self.rest(child)
        self.listener.on_finished(request, _KINDS[kind], runtime, note)

    # -- ends

    def bury(self, child: ChildHandle) -> None:
        """`child` is dead: settle what it did, tell what was lost, give the rest to others, fork another."""
        self.children.remove(child)
        if child in self.idle:
            self.idle.remove(child)
        self._written_to.pop(child, None)
        self._part_with(child)
        child.cancel_timers()
        unasked = child.ready and child.process.exitcode != 0 and not (child.closing or child.ailment or self._stopping)
        child.stalled, child.closing = True, False  # what it has ended does not make it idle, nor tells it to end
        self._settle_remains(child, unasked)
        if child.replaced and not self._stopping:
            self._replace(child)

    def _part_with(self, child: ChildHandle) -> None:
        self.hub.remove(child.sock)
        self._end_writing(child)
        child.reap()
        child.close()

    def _settle_remains(self, child: ChildHandle, unasked: bool) -> None:
        finished, running = child.page.finished, child.page.running()
        for seq in [seq for seq in child.inflight if seq <= finished]:
            self.settle(child, seq, child.page.kind(seq))
        lost = child.inflight.pop(running, None)
        self.waiting.extendleft(reversed([request for request, _ in child.inflight.values()]))
        child.inflight.clear()
        if lost is not None and child.fate is not None:
            self.listener.on_timeout(lost[0], False, child.fate)
            return
        logger.log(logging.ERROR if unasked or lost is not None else logging.DEBUG, 'Process %r pid:%s exited with %r',
                   child.process.name, child.pid, child.describe_exit())
        if lost is not None:
            self.listener.on_lost(lost[0], f'Worker exited prematurely: {child.describe_exit()} Job: {running}.')

    def _replace(self, child: ChildHandle) -> None:
        if child.ready or time.monotonic() - child.born > EARLY_END:
            self._try_fork(child.index)
        else:
            self._fork_later(child.index, f'the last one ended before it was ready ({child.describe_exit()})')

    def _fork_later(self, index: int, reason: str) -> None:
        self._early_ends += 1
        delay = min(0.1 * 2 ** self._early_ends, 30.0)
        logger.critical('Cannot start a process: %s. Trying again in %.1f seconds.', reason, delay)
        self.hub.call_later(delay, self._try_fork, index)

    def _try_fork(self, index: int) -> None:
        try:
            if not self._stopping:
                self._fork(index)
        except OSError as exc:  # no memory, or no more processes allowed
            self._fork_later(index, str(exc))

    def terminate_job(self, request: Any, signum: int, grace: float = TERMINATION_GRACE) -> bool:
        for child in self.children:
            running = child.page.running()
            if running and child.inflight.get(running, (None,))[0] is request:
                child.page.soft_limited = running
                if signum == signal.SIGTERM:
                    self.end_job(child, running, grace)
                else:
                    child.send_signal(signum)
                return True
        return False

    def end_job(self, child: ChildHandle, seq: int, grace: float) -> None:
        """End the process that runs job `seq`, by KILL if it does not heed TERM, as while C code runs."""
        child.page.terminated = seq
        child.send_signal(signal.SIGTERM)
        self.hub.call_later(grace, self._kill_if_still_running, child, seq)

    def _kill_if_still_running(self, child: ChildHandle, seq: int) -> None:
        if child in self.children and child.page.running() == seq:
            child.send_signal(signal.SIGKILL)

    def end_running(self) -> None:
        for request in list(self.running()):
            if request.verdict is None:
                self.terminate_job(request, signal.SIGTERM, LIMIT_GRACE)

    def stop(self, timeout: float) -> None:
        self._stopping = True
        for child in self.children:
            if not child.closing:
                child.closing = True
                self._close_if_done(child)
        deadline = time.monotonic() + timeout
        for child in list(self.children):
            while child.process.exitcode is None and time.monotonic() < deadline:
                time.sleep(0.002)
        self.terminate()

    def terminate(self) -> None:
        self._stopping = True
        for child in self.children:
            child.send_signal(signal.SIGKILL)
        for child in list(self.children):
            child.replaced = False
            self._part_with(child)
        self.children.clear()
        self.idle.clear()
        self.watch.stop()
        self.health.stop()

    # -- what there is

    def withdraw(self, unwanted: Callable[[Any], bool]) -> list[Any]:
        for child in self.children:
            self.watch.take_back(child, patience=0.01)
        return super().withdraw(unwanted)

    def pending(self) -> int:
        return len(self.waiting) + sum(len(child.inflight) for child in self.children)

    def running(self) -> Iterable[Any]:
        for child in self.children:
            known = child.inflight.get(child.page.running())
            if known is not None:
                yield known[0]

    @property
    def info(self) -> dict[str, Any]:
        queues = {'active': sum(bool(child.partial) for child in self.children), 'total': len(self.children)}
        return {
            **super().info, 'processes': [child.pid for child in self.children],
            'max-tasks-per-child': self.max_tasks or 'N/A', 'put-guarded-by-semaphore': False,
            'timeouts': (self.options.get('soft_timeout') or 0, self.options.get('timeout') or 0),
            'writes': {'inqueues': queues},
        }


class Watch:
    """Runs on a timer only while a child has jobs that it is not known to have started or that it was sent ahead."""

    def __init__(self, pool: PreforkPool) -> None:
        self.pool = pool
        self._timer: Any = None

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def wake(self) -> None:
        """Jobs were sent: look soon."""
        if self._timer is None:
            self._timer = self.pool.hub.call_later(INTERVAL, self._look)

    def _look(self) -> None:
        self._timer = None
        if [child for child in self.pool.children if child.inflight and self._inspect(child)]:
            self.wake()

    def _inspect(self, child: ChildHandle) -> bool:
        """Catch up with what `child` did; whether there is more to watch for."""
        page = child.page
        running = page.running()
        if running:
            # Reports with something to tell were written before this job started: read them first.
            self.pool.read_reports(child)
            if child not in self.pool.children:
                return False
            for seq in [seq for seq in child.inflight if seq < running]:
                self.pool.settle(child, seq, page.kind(seq))
            self.announce(child, running)
        if not any(child.unstarted()):
            return child.announced != running and bool(child.inflight)
        if running:
            if page.running_for() > STALL:
                child.load = max(child.load, AHEAD_SECONDS)
                self.take_back(child)
        elif time.monotonic() - child.given_at > UNRESPONSIVE:
            child.stalled = self.take_back(child)
        return bool(child.inflight)

    def take_back(self, child: ChildHandle, patience: float = 0.0) -> bool:
        """Put what `child` did not start before all that waits; False when it cannot be had within `patience`."""
        deadline = time.monotonic() + patience
        taken = child.take_back()
        while taken is None and time.monotonic() < deadline:
            time.sleep(0.0005)
            taken = child.take_back()
        if not taken:
            return taken is not None
        self.pool.waiting.extendleft(reversed(taken))
        if not child.inflight:
            child.load = 0.0
        return True

    def announce(self, child: ChildHandle, seq: int) -> None:
        """Start, once, the clocks of the limits of job `seq`, and tell the listener that it runs if it was read."""
        known = child.inflight.get(seq)
        if known is None or child.announced == seq:
            return
        request = known[0]
        started_at = child.page.started_at
        if request.limits is not None and child.timed != seq:
            child.timed = seq
            self._set_timers(child, seq, request, started_at)
        if child.page.read == seq:
            child.announced = seq
            self.pool.listener.on_started(request, child.pid, started_at)

    def _set_timers(self, child: ChildHandle, seq: int, request: Any, started_at: float) -> None:
        hard, soft = request.limits
        hub = self.pool.hub
        if soft:
            child.timers.append(hub.call_at(started_at + soft, self._on_soft_limit, child, seq, request, soft))
        if hard:
            child.timers.append(hub.call_at(started_at + hard, self._on_hard_limit, child, seq, hard))

    def _on_soft_limit(self, child: ChildHandle, seq: int, request: Any, limit: float) -> None:
        if child.page.running() == seq:
            child.page.soft_limited = seq
            child.send_signal(signal.SIGUSR1)
            self.pool.listener.on_timeout(request, True, limit)

    def _on_hard_limit(self, child: ChildHandle, seq: int, limit: float) -> None:
        if child.page.running() == seq:
            child.fate = limit
            self.pool.end_job(child, seq, LIMIT_GRACE)
