"""`Pool`: what the worker asks of the thing that runs its tasks, and what it is told in return.

A pool is given requests and decides who runs which when. It never looks into a message: it takes ``request.job()``,
has it run by an `Executor`, and tells the `Listener` how that went. Besides it reads of a request its `Pace` and its
`limits` (hard and soft, in seconds, or None). All of this happens in the thread of the worker's loop.
"""

from __future__ import annotations

import contextlib
import os
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from canvaslite import signals
from canvaslite.execution.entry import Executor
from canvaslite.execution.outcome import Kind
from canvaslite.result.blocking import set_task_join_will_block
from canvaslite.utils.process import set_process_title

#: Runtime assumed of a task that was not measured yet, in seconds: long enough to be given to free children only.
UNMEASURED = 1.0


class Pace:
    """How long the tasks of one name take, as a moving mean in seconds."""

    __slots__ = ('mean', 'measured')

    def __init__(self) -> None:
        self.mean = UNMEASURED
        self.measured = False

    def note(self, elapsed: float) -> None:
        """Take one more run into account. A slower one counts more than a faster one: pessimism keeps queues fair."""
        if self.measured:
            self.mean += (elapsed - self.mean) * (0.5 if elapsed > self.mean else 0.125)
        else:
            self.measured = True
            self.mean = elapsed


class Listener(Protocol):
    """Who is told what becomes of the requests."""

    def on_started(self, request: Any, pid: int, time_start: float) -> None:
        """`request` runs in process `pid` since `time_start` (`time.monotonic`). Not called for the shortest runs."""

    def on_finished(self, request: Any, kind: Kind, runtime: float, note: str) -> None:
        """The run ended by itself; `runtime` is that of the task's own code, in seconds."""

    def on_lost(self, request: Any, reason: str) -> None:
        """The process died while it ran `request`."""

    def on_timeout(self, request: Any, soft: bool, limit: float) -> None:
        """The time limit was reached: soft, the task was told; hard, its process is dead."""

    def flush(self) -> None:
        """A task is about to run in this thread: do now what would have to wait for it."""


class Preparation:
    """What makes a process or thread of a pool ready to run tasks, and tidies up when it ends. `log` is level and file
    of the log, where a process that is spawned has to set it up."""

    def __init__(self, app: Any, hostname: str, pool_cls: Any, log: tuple[Any, Any] | None = None) -> None:
        self.app = app
        self.log = log
        self.hostname = hostname
        self.pool_cls = pool_cls
        self.in_processes = bool(pool_cls.can_interrupt)
        #: Threads share the process in which they are; nothing is announced of them.
        self.announces = self.in_processes or pool_cls.name == 'solo'

    def enter(self, index: int) -> Executor:
        """Called where the tasks will run, before the first; `index` counts the processes from 0."""
        if self.in_processes:
            set_process_title(f'[canvaslite: {self.hostname}:ForkPoolWorker-{index + 1}]')
        set_task_join_will_block(True, here=not self.in_processes)
        executor = Executor(self.app, self.hostname)
        if self.announces:
            signals.worker_process_init.send(sender=self.hostname)
        return executor

    def leave(self, exitcode: int) -> None:
        """Called there after the last."""
        set_task_join_will_block(False, here=not self.in_processes)
        if self.in_processes:
            signals.worker_process_shutdown.send(sender=self.hostname, pid=os.getpid(), exitcode=exitcode)
            self.app.publisher.finish_streams()


class Pool(ABC):
    """Base of the pools. `limit` is the number of tasks that run at once. Requests are handed over only in `pump`, at
    the end of a turn of the loop, so that a turn costs one write for a child."""

    #: Name by which users ask for it.
    name = ''
    #: Whether `terminate_job` and time limits work.
    can_interrupt = False

    def __init__(self, limit: int, preparation: Preparation, listener: Listener, **options: Any) -> None:
        self.limit = limit
        self.preparation = preparation
        self.listener = listener
        self.options = options
        #: Requests that were not handed over yet.
        self.waiting: deque[Any] = deque()

    @abstractmethod
    def start(self, hub: Any) -> None:
        """Start the processes or threads and register with the loop."""

    def submit(self, request: Any) -> None:
        """Have `request` run when its turn comes."""
        self.waiting.append(request)

    def submit_first(self, request: Any) -> None:
        """Have `request` run before all that wait."""
        self.waiting.appendleft(request)

    @abstractmethod
    def pump(self) -> None:
        """Hand over what can be handed over."""

    def withdraw(self, unwanted: Callable[[Any], bool]) -> list[Any]:
        """Take back those requests that did not start and are `unwanted`; they are not run."""
        withdrawn = [request for request in self.waiting if unwanted(request)]
        if withdrawn:
            self.waiting = deque(request for request in self.waiting if not unwanted(request))
        return withdrawn

    @abstractmethod
    def pending(self) -> int:
        """How many requests were submitted and did not end."""

    @abstractmethod
    def running(self) -> Iterable[Any]:
        """The requests that run."""

    @abstractmethod
    def stop(self, timeout: float) -> None:
        """End the idle processes or threads; called when nothing is pending. Waits up to `timeout` seconds."""

    @abstractmethod
    def terminate(self) -> None:
        """End everything at once, whatever runs."""

    @abstractmethod
    def end_running(self) -> None:
        """End what runs: tell the listener that it was lost, perhaps later, and go on with what is submitted then."""

    def interrupt(self, at_once: bool) -> None:  # noqa: B027 - only where tasks run in the loop's thread
        """A cold stop was asked for, of which the loop may not learn; called in a signal handler. Not `at_once`: after
        the time that running tasks are to have."""

    def terminate_job(self, request: Any, signum: int) -> bool:
        """Send `signum` to the process that runs `request`; False when it does not run or cannot be interrupted."""
        return False

    def grow(self, n: int = 1) -> None:
        """Have `n` more tasks run at once."""
        raise ValueError(f'The {self.name} pool cannot grow.')

    def shrink(self, n: int = 1) -> None:
        """Have `n` fewer tasks run at once. Raises `ValueError` when that is impossible."""
        raise ValueError(f'The {self.name} pool cannot shrink.')

    def restart(self) -> None:
        """Replace the processes. Raises `ValueError` when there are none."""
        raise ValueError(f'The {self.name} pool cannot restart.')

    @property
    def num_processes(self) -> int:
        return self.limit

    @property
    def info(self) -> dict[str, Any]:
        """What ``inspect stats`` shows of the pool."""
        return {'implementation': f'{type(self).__module__}:{type(self).__name__}', 'max-concurrency': self.limit}


class Doorbell:
    """Makes the loop take another turn at once; `answer` is called in its thread, once for any number of rings."""

    def __init__(self, answer: Callable[[], None]) -> None:
        self._answer = answer
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._rung = False

    def register(self, hub: Any) -> None:
        hub.add_reader(self._reader, self._on_readable)

    def ring(self) -> None:
        """Have the loop take another turn. Safe in any thread and in signal handlers."""
        if not self._rung:
            self._rung = True
            with contextlib.suppress(OSError):  # full means rung; closed means nobody waits
                self._writer.send(b'\0')

    def _on_readable(self) -> None:
        with contextlib.suppress(OSError):
            self._reader.recv(4096)
        # Only now: a ring between the two would be read away, and every later one taken for still pending.
        self._rung = False
        self._answer()

    def unregister(self, hub: Any) -> None:
        hub.remove(self._reader)

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
