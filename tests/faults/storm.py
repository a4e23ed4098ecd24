"""``python -m tests.faults.storm``: many chords while a child, or the whole worker, is killed again and again.

A chord is lost if its value does not come, wrong if it is another one, doubled if its body ran to its end again
although its result had been stored, or nobody had killed it. A body that was killed between its last line and its
result has to run again: such reruns are counted by themselves.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.workers import WorkerProcess

ROOT = Path(__file__).parents[2]
#: Tasks in a header, and seconds that each takes.
HEADER, SECONDS = 5, 0.01
#: Chords under way at once: few enough for the slowest to tell how long a recovery takes, not how long a queue is.
OPEN = 60
#: Seconds in which a chord must have ended.
PATIENCE = 60.0


class Note(NamedTuple):
    """A line of `tests/apps/stormy.py`."""

    what: str
    number: int
    pid: int
    at: float


@dataclass
class Toll:
    """What became of the chords."""

    chords: int = 0
    kills: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    reruns: int = 0
    lost: list[int] = field(default_factory=list)
    doubled: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (f'{self.chords} chords, {self.kills} kills in {self.seconds:.1f} s: {len(self.lost)} lost, '
                f'{len(self.doubled)} doubled, {len(self.wrong)} wrong; {self.reruns} bodies ran again, killed '
                f'before their result was stored; the slowest took {self.slowest:.1f} s')

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.wrong)


class Storm:
    """A worker, its killer, and the caller of the chords. Of `package`, which may be Celery."""

    def __init__(self, broker: str, backend: str, package: str = 'canvaslite') -> None:
        self.folder = Path(tempfile.mkdtemp(prefix='storm-'))
        queue = f'storm-{uuid.uuid4().hex[:8]}'
        env = {'BROKER': broker, 'BACKEND': backend, 'QUEUE': queue, 'NOTES': str(self.folder / 'notes'),
               'CANVAS_PACKAGE': package, 'PYTHONPATH': str(ROOT)}
        self._start = lambda: WorkerProcess(
            [sys.executable, '-m', package, '-A', 'tests.apps.stormy', 'worker', '-c', '4', '-n', queue,
             '-l', 'WARNING'], env, self.folder)
        self.package: Any = importlib.import_module(package)
        self.app = self.package.Celery(queue, broker=broker, backend=backend, set_as_current=False)
        self.app.conf.task_default_queue = queue
        (self.folder / 'notes').touch()
        self.worker = self._start()
        self.killed: set[int] = set()
        self.notes: list[Note] = []
        self._read = 0
        self._done = threading.Event()

    def close(self) -> None:
        self.worker.kill()
        with self.app.connection_for_write() as connection:
            connection.default_channel.queue_delete(self.app.conf.task_default_queue)
        self.app.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, chords: int, who: str, every: float, kills: int | None) -> Toll:
        toll = Toll()
        self.app.signature('tests.apps.stormy.part', args=(-1, 0, 0)).apply_async().get(timeout=30)  # it is up
        killer = threading.Thread(target=self._kill, args=(who, every, kills or sys.maxsize, toll))
        started = time.time()
        killer.start()
        try:
            sent, results = self._send(chords, lambda: toll.kills >= (kills or 0))
        finally:
            self._done.set()
            killer.join()
        toll.chords, toll.seconds = len(sent), time.time() - started
        self._judge(results, toll)
        self._new_notes()
        if who == 'worker':  # whatever is not of the last one; also who was born when nobody could ask any more
            self.killed = {note.pid for note in self.notes}.difference(self.worker.children())
        self._count(sent, toll)
        return toll

    def _kill(self, who: str, every: float, kills: int, toll: Toll) -> None:
        """Kill until all is done."""
        while toll.kills < kills and not self._done.wait(every):
            children = self.worker.children()
            if not children:  # it has yet to come up
                continue
            if who == 'worker':
                self.worker.kill()
                self.worker = self._start()
            else:
                pid = random.choice(children)
                self.killed.add(pid)
                with suppress(ProcessLookupError):  # `ps` was its sibling
                    os.kill(pid, signal.SIGKILL)
            toll.kills += 1

    def _send(self, least: int, is_over: Callable[[], bool]) -> tuple[dict[int, float], dict[int, Any]]:
        """Send at least so many chords, more until the storm is over, and wait until they have all ended or no
        patience is left; when they were sent, and their results."""
        sent: dict[int, float] = {}
        results: dict[int, Any] = {}
        ran: set[int] = set()
        ended: set[int] = set()
        latest = time.monotonic()
        while time.monotonic() < latest + PATIENCE:
            wanted = max(least, len(sent)) if is_over() else sys.maxsize
            if len(ended) >= wanted:
                break
            for number in range(len(sent), min(wanted, len(ended) + OPEN)):
                sent[number] = time.time()
                results[number] = self._chord(number).apply_async()
            before = len(ended)
            for note in self._new_notes():
                (ended if note.what == 'kept' else ran if note.what == 'end' else set()).add(note.number)
            if len(ended) > before:
                latest = time.monotonic()
            else:  # what could not even note that its result is stored
                ended.update(number for number in ran - ended if results[number].ready())
            time.sleep(0.02)
        return sent, results

    def _chord(self, number: int) -> Any:
        def named(name: str, *args: Any) -> Any:
            return self.app.signature(f'tests.apps.stormy.{name}', args=args)

        return self.package.chord(
            [named('part', number, place, SECONDS) for place in range(HEADER)], named('body', number))

    def _new_notes(self) -> list[Note]:
        with open(self.folder / 'notes', 'rb') as file:
            file.seek(self._read)
            data = file.read().rpartition(b'\n')[0]
        self._read += len(data) + bool(data)
        new = [Note(what, int(number), int(pid), float(at))
               for what, number, pid, at in (line.split() for line in data.decode().splitlines())]
        self.notes += new
        return new

    def _judge(self, results: dict[int, Any], toll: Toll) -> None:
        until = time.monotonic() + 10
        for number, result in results.items():
            try:
                value = result.get(timeout=max(until - time.monotonic(), 0.5), interval=0.05)
            except self.package.exceptions.TimeoutError:
                toll.lost.append(number)
            except Exception as exc:
                toll.wrong.append(f'{number}: {exc!r}')
            else:
                if value != [number * 100 + place for place in range(HEADER)]:
                    toll.wrong.append(f'{number}: {value!r}')

    def _count(self, sent: dict[int, float], toll: Toll) -> None:
        ends: dict[int, list[Note]] = defaultdict(list)
        kept = {(note.number, note.pid) for note in self.notes if note.what == 'kept'}
        for note in self.notes:
            if note.what == 'end':
                ends[note.number].append(note)
        for number, runs in ends.items():
            toll.slowest = max(toll.slowest, runs[-1].at - sent[number])
            cut_short = sum(run.pid in self.killed and (number, run.pid) not in kept for run in runs)
            toll.reruns += cut_short
            if len(runs) - cut_short > 1:
                toll.doubled.append(number)


def storm(broker: str, backend: str, who: str, chords: int, every: float, package: str = 'canvaslite',
          kills: int | None = None) -> Toll:
    """Run that many chords, with a child or the whole worker killed `every` so many seconds.

    With `kills`, so often and no more: a machine that is quick runs more chords until then.
    """
    raging = Storm(broker, backend, package)
    try:
        return raging.run(chords, who, every, kills)
    finally:
        raging.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--broker', required=True)
    parser.add_argument('--backend', required=True)
    parser.add_argument('--who', choices=['child', 'worker'], default='child')
    parser.add_argument('--chords', type=int, help='1000 with a child killed, 300 with the worker')
    parser.add_argument('--every', type=float, help='seconds between two kills: 0.4, or 2')
    parser.add_argument('--package', default='canvaslite', help='or celery')
    given = parser.parse_args()
    child = given.who == 'child'
    toll = storm(given.broker, given.backend, given.who, given.chords or (1000 if child else 300),
                 given.every or (0.4 if child else 2.0), given.package)
    for kind in ('lost', 'doubled', 'wrong'):
        if getattr(toll, kind):
            print(f'{kind}: {getattr(toll, kind)}')
    print(f'{given.package}, {given.backend.partition(":")[0]}, {given.who}: {toll}')
    return 0 if toll.is_clean else 1


if __name__ == '__main__':
    raise SystemExit(main())
