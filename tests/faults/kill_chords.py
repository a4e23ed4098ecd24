"""``python -m tests.faults.kill_chords``: kill a worker, or a child of it, at every step on the wire of a chord.

Each chord runs on a real worker (`tests/apps/mortal.py`) that dies at the n-th thing it sends to the result store or
the broker, before or after it. The worker is started again at once. A chord is lost if its result does not come,
doubled if its body ran to its end more than once, wrong if its value is not the right one. Several lanes (each with its
own worker, queue and folder) work side by side, because most of the time is waiting for a lease to end.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from canvaslite import Celery, chain, chord
from canvaslite.exceptions import ChordError, TimeoutError, WorkerLostError
from tests.workers import WorkerProcess

ROOT = Path(__file__).parents[2]
#: Seconds in which a chord must have ended.
PATIENCE = 25.0


def canvases(app: Any) -> dict[str, tuple[Callable[[], Any], Any]]:
    """Chords by name: what makes one, and its value (an exception class if it must fail)."""
    def named(name: str, *args: Any) -> Any:
        return app.signature(f'tests.apps.mortal.{name}', args=args)

    def part(x: Any) -> Any:
        return named('part', x)

    return {
        'plain': (lambda: chord([part(1), part(2)], named('body')), [1, 2]),
        'chain in the header': (lambda: chord([chain(part(1), named('part')), part(2)], named('body')), [1, 2]),
        'chord in the header': (
            lambda: chord([chord([part(1), part(2)], named('total')), part(4)], named('body')), [3, 4]),
        'chain as body': (lambda: chord([part(1), part(2)], chain(named('total'), named('body'))), 3),
        'failing': (lambda: chord([part(1), named('refuse', 2)], named('body')), ChordError),
    }


@dataclass
class Tally:
    """What became of the chords."""

    kills: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    worst: float = 0.0

    def __str__(self) -> str:
        return (f'{self.kills} kills: {len(self.lost)} lost, {len(self.doubled)} doubled, {len(self.wrong)} wrong; '
                f'the slowest recovered in {self.worst:.1f} s')

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong)

    def report(self, of: str) -> int:
        """Print what became of them, under the name `of`; the exit status."""
        for kind in ('lost', 'doubled', 'wrong'):
            for label in getattr(self, kind):
                print(f'{kind}: {label}')
        print(f'{of}: {self}')
        return 0 if self.is_clean else 1


class Lane:
    """A worker that is killed, and what it leaves behind."""

    def __init__(self, broker: str, backend: str, late: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix='mortal-'))
        self.queue = f'mortal-{uuid.uuid4().hex[:8]}'
        self.env = {'BROKER': broker, 'BACKEND': backend, 'QUEUE': self.queue, 'ACKS_LATE': '1' if late else '',
                    'MORTAL': str(self.folder), 'MORTAL_WORKER': '1', 'PYTHONPATH': str(ROOT)}
        self.late = late
        self.app = Celery(self.queue, broker=broker, backend=backend, set_as_current=False)
        self.app.conf.task_default_queue = self.queue
        self.worker: WorkerProcess | None = None

    def ensure_worker(self) -> None:
        self.worker = self._ensure(self.worker, 'canvaslite', self.queue)

    def _ensure(self, worker: WorkerProcess | None, package: str, queue: str) -> WorkerProcess:
        """The worker as it is, or a new one if it is dead."""
        if worker is not None and worker.process.poll() is None:
            return worker
        if worker is not None:
            worker.kill()
        return WorkerProcess(
            [sys.executable, '-m', package, '-A', 'tests.apps.mortal', 'worker', '-c', '2', '-Q', queue, '-n', queue,
             '-l', 'INFO'], {**self.env, 'CANVAS_PACKAGE': package}, self.folder)

    def canvases(self) -> dict[str, tuple[Callable[[], Any], Any]]:
        return canvases(self.app)

    def await_workers(self) -> None:
        """Return when they are up, and have their connections."""
        self.await_value(self.app.signature('tests.apps.mortal.part', args=(0,)).apply_async())

    def close(self) -> None:
        if self.worker is not None:
            self.worker.kill()
        with self.app.connection_for_write() as connection:
            connection.default_channel.queue_delete(self.queue)
        self.app.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, name: str, n: int, when: str, who: str, tally: Tally) -> bool:
        """Run one chord with a kill at step `n`; whether the kill happened."""
        make, expected = self.canvases()[name]
        for left in ('steps', 'runs', 'killed', 'armed'):
            (self.folder / left).unlink(missing_ok=True)
        self.await_workers()
        (self.folder / 'armed').write_text(f'{n} {when} {who}')
        canvas = make()
        if name == 'failing':
            canvas.link_error(self.app.signature('tests.apps.mortal.errback'))
        label = f'{name}: {who} {when} step {n}'
        result = self.send(canvas)
        try:
            self._judge(result, expected, label, tally)
        finally:
            (self.folder / 'armed').unlink(missing_ok=True)
        if not (self.folder / 'killed').exists():
            return False
        tally.kills += 1
        tally.worst = max(tally.worst, time.time() - float((self.folder / 'killed').read_text()))
        self.ensure_worker()
        self.await_nothing_held()  # a second copy of the body may come after the value
        self._count_runs(label, tally, result.id)
        return True

    def send(self, canvas: Any) -> Any:
        return canvas.apply_async()

    def await_value(self, result: Any) -> Any:
        """The value or the error. Raises `TimeoutError`."""
        until = time.monotonic() + PATIENCE
        while True:
            self.ensure_worker()
            try:
                return result.get(timeout=0.25, interval=0.05)
            except TimeoutError:
                if time.monotonic() > until:
                    raise
            except Exception as exc:
                return exc

    def await_nothing_held(self, patience: float = 8.0) -> list[Any]:
        """The tasks that the worker still has after so many seconds.

        A value comes a moment before the process says that it is done, and a copy of a message may wait some seconds
        for another to end.
        """
        host = f'celery@{self.queue}'
        inspect = self.app.control.inspect(destination=[host], timeout=10, limit=1)
        until = time.monotonic() + patience
        while True:
            held = [*(inspect.active() or {}).get(host, ['?']), *(inspect.reserved() or {}).get(host, ['?'])]
            if not held or time.monotonic() > until:
                return held
            time.sleep(0.1)

    def _judge(self, result: Any, expected: Any, label: str, tally: Tally) -> None:
        try:
            value = self.await_value(result)
        except TimeoutError:
            tally.lost.append(label)
            return
        if isinstance(value, Exception):
            allowed = () if self.late else (WorkerLostError, ChordError)
            if not isinstance(value, allowed) and not (isinstance(expected, type) and isinstance(
                    value, (expected, ValueError))):
                tally.wrong.append(f'{label}: {value!r}')
        elif value != expected:
            tally.wrong.append(f'{label}: {value!r}')

    def _count_runs(self, label: str, tally: Tally, body_id: str) -> None:
        """The body's code runs once, and once more if it was cut short."""
        killed = float((self.folder / 'killed').read_text())
        runs = self.folder / 'runs'
        lines = [line.split() for line in (runs.read_text().splitlines() if runs.exists() else ())]
        times = [float(at) for what, task_id, at in lines if what == 'begin' and task_id == body_id]
        if len(times) > 1 + any(at <= killed for at in times):
            tally.doubled.append(f'{label}: {len(times)} times')


def sweep(broker: str, backend: str, who: str, late: bool = True, names: Any = None, lanes: int = 4,
          steps: Any = None, make_lane: Callable[..., Lane] = Lane) -> Tally:
    """Kill at every step (or at the given ones) of the chords."""
    tally, lock = Tally(), threading.Lock()
    names = names or canvases(Celery('names', set_as_current=False))
    work = [_steps_of(name, when, steps) for name in names for when in ('before', 'after')]

    def walk() -> None:
        lane = make_lane(broker, backend, late)
        try:
            while True:
                with lock:
                    if not work:
                        return
                    name, when, numbers = work.pop(0)
                for n in numbers:
                    if not lane.run(name, n, when, who, tally):
                        break
        finally:
            lane.close()

    threads = [threading.Thread(target=walk) for _ in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


def _steps_of(name: str, when: str, steps: Any) -> tuple[str, str, Iterator[int]]:
    return name, when, iter(steps) if steps is not None else itertools.count(1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--broker', required=True)
    parser.add_argument('--backend', required=True)
    parser.add_argument('--who', choices=['child', 'worker'], default='child')
    parser.add_argument('--early', action='store_true', help='acknowledge early')
    parser.add_argument('--lanes', type=int, default=4)
    parser.add_argument('--canvas', action='append', help='by name; all by default')
    given = parser.parse_args()
    tally = sweep(given.broker, given.backend, given.who, not given.early, given.canvas, given.lanes)
    return tally.report(f'{given.backend.partition(":")[0]}, {given.who}{", early" if given.early else ""}')


if __name__ == '__main__':
    os.environ.setdefault('MORTAL', '/nowhere')
    raise SystemExit(main())
