"""A loop and requests for pools, without an app or a broker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu.asynchronous import Hub

from canvaslite.execution.outcome import Kind, Outcome
from canvaslite.execution.tracer import user_code
from canvaslite.pools.base import Pace
from canvaslite.protocol.job import Job


class Request:
    """A request whose body says what to do: a list of (verb, argument)."""

    def __init__(self, body: str = 'nothing', limits: Any = None, pace: Pace | None = None) -> None:
        self.body = body
        self.limits = limits
        self.pace = pace or Pace()
        self.verdict: Any = None

    def job(self) -> Job:
        return Job(0, b'head', self.body.encode(), 'exchange', 'key', False, self.verdict)

    def __repr__(self) -> str:
        return f'<Request {self.body[:50]}>'


class ScriptedRunner:
    """Runs what the body says: ``sleep 1``, ``exit 3``, ``kill 9``, ``pid``, ``size``."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.given_up = False

    def run(self, job: Job, on_read: Callable[[], None]) -> Outcome:
        on_read()
        if job.verdict is not None:
            return Outcome(Kind.FAILURE, note=f'{job.verdict.kind} {job.verdict.detail}')
        verb, _, argument = job.body[:100].decode().partition(' ')
        note = ''
        if verb == 'sleep':
            try:
                user_code.running = True
                time.sleep(float(argument))
            except Exception as exc:
                return Outcome(Kind.FAILURE, note=repr(exc))
            finally:
                user_code.running = False
        elif verb == 'exit':
            raise SystemExit(int(argument))
        elif verb == 'kill':
            os.kill(os.getpid(), int(argument))
        elif verb == 'pid':
            note = str(os.getpid())
        elif verb == 'size':
            note = str(len(job.body))
        elif verb == 'mask':
            note = ' '.join(sorted(os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')
                                   if os.path.exists(f'/proc/self/fd/{fd}')))
        return Outcome(Kind.SUCCESS, runtime=0.5, note=note)


class Scripts:
    """A preparation that gives scripted runners."""

    def enter(self, index: int) -> ScriptedRunner:
        return ScriptedRunner(index)

    def leave(self, exitcode: int) -> None:
        pass


class Recorder:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.started: list[Any] = []
        self.finished: list[tuple[Any, Kind, float, str]] = []
        self.lost: list[tuple[Any, str]] = []
        self.timeouts: list[tuple[Any, bool, float]] = []
        self.pids: dict[Any, int] = {}

    def on_started(self, request: Any, pid: int, time_start: float) -> None:
        self.started.append(request)
        self.pids[request] = pid

    def on_finished(self, request: Any, kind: Kind, runtime: float, note: str) -> None:
        self.finished.append((request, kind, runtime, note))

    def on_lost(self, request: Any, reason: str) -> None:
        self.lost.append((request, reason))

    def on_timeout(self, request: Any, soft: bool, limit: float) -> None:
        self.timeouts.append((request, soft, limit))

    def flush(self) -> None:
        pass

    def notes(self) -> list[str]:
        return [note for _, _, _, note in self.finished]


class Loop:
    """A hub, a pool on it, and turns of both until something is the case."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.recorder = Recorder()
        self.pools: list[Any] = []
        self._turns: Any = None

    def start(self, pool_class: Any, limit: int, **options: Any) -> Any:
        pool = pool_class(limit, Scripts(), self.recorder, **options)
        pool.start(self.hub)
        self.pools.append(pool)
        return pool

    def turn_until(self, condition: Callable[[], Any], timeout: float = 20.0) -> None:
        deadline = time.monotonic() + timeout
        self.hub.call_repeatedly(0.02, lambda: None)
        while not condition():
            assert time.monotonic() < deadline, 'waited in vain'
            for pool in self.pools:
                pool.pump()
            self.hub.run_once()

    def run(self, pool: Any, *requests: Request) -> None:
        for request in requests:
            pool.submit(request)
        self.turn_until(lambda: not pool.pending())

    def close(self) -> None:
        for pool in self.pools:
            for child in getattr(pool, 'children', ()):
                child.send_signal(signal.SIGCONT)
            pool.terminate()
        self.hub.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()
