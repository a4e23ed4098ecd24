"""``python -m tests.faults.soak --minutes 30``: everything at once, for long, and what grows meanwhile.

One worker takes plain tasks, ETAs, retries, chains, groups, chords and revokes, acknowledged early and late, as fast as
they come; another one the tasks that end at a time limit, which cost it its children. Each second their memory, open
files, queues and keys are looked at. Memory is flat if the average of the last window is not above that of the first
one after the warm-up. In the end nothing may be lost, wrong or run twice, and no key may be left once all have expired.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import re
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from tests.faults.many_tasks import resident
from tests.faults.site import Site, arguments
from tests.workers import WorkerProcess

#: Seconds in which whatever was sent must have ended.
PATIENCE = 60.0
#: Which part of the time is the warm-up, and how long the two windows are whose averages are compared.
WARM_UP, WINDOW = 0.2, 0.2
#: By how much memory may grow, and by how many files.
FLAT, FILES = 0.05, 2.0
#: Log lines of level ERROR that the load is meant to bring about.
MEANT = re.compile(r'refuse\[|hold_on\[|nap\[.*SoftTimeLimit|Hard time limit|ChordError|Timed out|Process .*exited|'
                   r'SIGKILL|TimeLimitExceeded|Chord .* failed: Dependency .* raised ValueError')
UUID = re.compile('[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')


class Kind(NamedTuple):
    """Part of the load: makes a canvas and what it must come to, a value or the name of an error.

    `open`: how many of these are under way at once; `pause`: least seconds between two of them.
    """

    make: Callable[[Load], tuple[Any, Any]]
    open: int
    pause: float = 0.0
    options: dict[str, Any] = {}
    after: Callable[[Load, Any], Any] | None = None


class Sent(NamedTuple):
    """A canvas that is under way."""

    result: Any
    expected: Any
    at: float


class Look(NamedTuple):
    """A sample: MiB of the main process of the worker and of a child on average, open files, and what is kept."""

    seconds: float
    parent: float
    child: float
    other_parent: float
    parent_files: float
    child_files: float
    queue: int
    keys: int


@dataclass
class Report:
    """What became of the load."""

    package: str = ''
    seconds: float = 0.0
    canvases: int = 0
    tasks: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    doubled: int = 0
    errors: list[str] = field(default_factory=list)
    windows: list[dict[str, float]] = field(default_factory=list)
    most_waiting: int = 0
    most_keys: int = 0
    #: Those that do not expire, and those that do, but later than results; ids are ``*``.
    keys_left: dict[str, int] = field(default_factory=dict)
    keys_kept: dict[str, int] = field(default_factory=dict)
    messages_left: int = 0
    codes: list[int] = field(default_factory=list)

    def growth(self, name: str) -> float:
        """By which share it is larger in the last window than in the first."""
        first, last = (window[name] for window in self.windows)
        return last / first - 1

    def faults(self) -> list[str]:
        """What must not be."""
        count = {'lost': len(self.lost), 'wrong': len(self.wrong), 'run twice': self.doubled,
                 'unexpected lines of level ERROR': len(self.errors), 'messages left': self.messages_left,
                 'keys left': sum(self.keys_left.values())}
        found = [f'{number} {what}' for what, number in count.items() if number]
        found += [f'memory of {name}: {self.growth(name):+.1%}' for name in ('parent', 'child', 'other_parent')
                  if self.growth(name) > FLAT]
        found += [f'open files of {name}' for name in ('parent', 'child')
                  if self.windows[1][f'{name}_files'] > self.windows[0][f'{name}_files'] + FILES]
        return found + [f'exit status {code}' for code in self.codes if code]

    def __str__(self) -> str:
        def grown(name: str, unit: str) -> str:
            first, last = (window[name] for window in self.windows)
            return f'{first:.1f} -> {last:.1f} {unit} ({last / first - 1:+.1%})'

        rows = [
            ('time', f'{self.seconds:.0f} s'),
            ('sent', f'{self.canvases} canvases, {self.tasks} tasks, {self.tasks / self.seconds:.0f} tasks/s'),
            ('of which', counts(self.kinds)),
            ('lost, wrong, run twice', f'{len(self.lost)}, {len(self.wrong)}, {self.doubled}'),
            ('memory of the parent', grown('parent', 'MiB')), ('memory of a child', grown('child', 'MiB')),
            ('memory of the parent whose children are killed', grown('other_parent', 'MiB')),
            ('open files of the parent', grown('parent_files', '')),
            ('open files of a child', grown('child_files', '')),
            ('messages waiting', f'at most {self.most_waiting}, {self.messages_left} in the end'),
            ('keys', f'at most {self.most_keys}'),
            ('keys left when results have expired', counts(self.keys_left)),
            ('keys that expire later than results', counts(self.keys_kept)),
            ('unexpected lines of level ERROR', str(len(self.errors))),
            ('exit status', ', '.join(map(str, self.codes))),
        ]
        width = max(len(name) for name, _ in rows)
        return '\n'.join([f'{self.package}', *(f'  {name:{width}}  {value}' for name, value in rows)])


class Load:
    """The caller: sends canvases of each kind, as many as are wanted, and looks what came of them."""

    def __init__(self, site: Site, report: Report) -> None:
        self.site, self.report = site, report
        self.package: Any = importlib.import_module(site.package)
        self.under_way: dict[str, deque[Sent]] = {name: deque() for name in KINDS}
        self.last: dict[str, float] = dict.fromkeys(KINDS, 0.0)
        self.numbers = itertools.count()

    def task(self, name: str, *args: Any, **options: Any) -> Any:
        """A signature of that task, which is counted."""
        self.report.tasks += 1
        return self.site.signature(name, *args).set(**options)

    def nap(self) -> tuple[Any, int]:
        """A task that takes no time, every other one acknowledged late, and its value."""
        number = next(self.numbers)
        return self.task('late_nap' if number % 2 else 'nap', number, 0.0), number

    def climb(self) -> Any:
        return self.task('climb', next(self.numbers))

    def turn(self, sending: bool) -> bool:
        """Look at all that is under way, send more of it if `sending`; whether any of it ended."""
        ended = False
        for name, kind in KINDS.items():
            waiting = self.under_way[name]
            while waiting and self._has_ended(name, waiting[0]):
                waiting.popleft()
                ended = True
            while sending and len(waiting) < kind.open and time.monotonic() >= self.last[name] + kind.pause:
                canvas, expected = kind.make(self)
                result = canvas.apply_async(**kind.options)
                waiting.append(Sent(result, expected, time.monotonic()))
                self.last[name] = time.monotonic()
                self.report.canvases += 1
                self.report.kinds[name] = self.report.kinds.get(name, 0) + 1
                if kind.after is not None:
                    kind.after(self, result)
        return ended

    def _has_ended(self, name: str, sent: Sent) -> bool:
        if not sent.result.ready():
            late = time.monotonic() > sent.at + PATIENCE
            if late:
                self.report.lost.append(f'{name} {sent.result.id}')
            return late
        value = sent.result.get(timeout=PATIENCE, propagate=False)
        if isinstance(value, Exception):
            value = type(value).__name__
        if value != sent.expected:
            self.report.wrong.append(f'{name} {sent.result.id}: {value!r} instead of {sent.expected!r}')
        return True

    # -- the kinds -----------------------------------------------------------------------------------------------

    def chain(self) -> tuple[Any, Any]:
        first, number = self.nap()
        return self.package.chain(first, self.climb(), self.climb()), number + 2

    def group(self) -> tuple[Any, Any]:
        members = [self.nap() for _ in range(5)]
        return self.package.group([task for task, _ in members]), [number for _, number in members]

    def chord(self) -> tuple[Any, Any]:
        members = [self.nap() for _ in range(5)]
        body = self.task('total', next(self.numbers))
        return self.package.chord([task for task, _ in members], body), sum(number for _, number in members)

    def nested(self) -> tuple[Any, Any]:
        """A chord of chains with a chain as its body."""
        members = [self.nap() for _ in range(3)]
        header = [self.package.chain(task, self.climb()) for task, _ in members]
        body = self.package.chain(self.task('total', next(self.numbers)), self.climb())
        return self.package.chord(header, body), sum(number + 1 for _, number in members) + 1

    def failing(self) -> tuple[Any, Any]:
        header = [self.nap()[0], self.task('refuse', 1)]
        return self.package.chord(header, self.task('total', next(self.numbers))), 'ChordError'

    def retried(self) -> tuple[Any, Any]:
        number = next(self.numbers)
        return self.task('insist', number, 2), number

    def soft_limit(self) -> tuple[Any, Any]:
        return self.task('nap', next(self.numbers), 30.0, soft_time_limit=1), 'SoftTimeLimitExceeded'

    def hard_limit(self) -> tuple[Any, Any]:
        return self.task('hold_on', 30, time_limit=1, queue=self.other_queue), 'TimeLimitExceeded'

    def revoked(self) -> tuple[Any, Any]:
        return self.nap()[0], 'TaskRevokedError'

    def terminated(self) -> tuple[Any, Any]:
        return self.task('nap', next(self.numbers), 30.0, queue=self.other_queue), 'TaskRevokedError'

    def revoke(self, result: Any) -> None:
        self.site.app.control.revoke(result.id)

    def terminate(self, result: Any) -> None:
        self.site.app.control.revoke(result.id, terminate=True, signal='SIGKILL')

    @property
    def other_queue(self) -> str:
        return f'{self.site.queue}-limits'


KINDS = {
    'plain': Kind(Load.nap, 60),
    'ETA': Kind(Load.nap, 60, 0.02, {'countdown': 2}),
    'chains': Kind(Load.chain, 15),
    'groups': Kind(Load.group, 8),
    'chords': Kind(Load.chord, 8),
    'nested chords': Kind(Load.nested, 4),
    'failing chords': Kind(Load.failing, 2, 0.2),
    'retries': Kind(Load.retried, 30, 0.02),
    'soft limits': Kind(Load.soft_limit, 1, 3.0),
    'hard limits': Kind(Load.hard_limit, 1, 3.0),
    'revokes': Kind(Load.revoked, 8, 0.5, {'countdown': 3}, Load.revoke),
    'terminations': Kind(Load.terminated, 1, 3.0, {}, Load.terminate),
}


class Soak:
    """The load, its two workers, and who looks at them. Redis must have nothing else in it."""

    def __init__(self, broker: str, backend: str, package: str, expires: float) -> None:
        self.site = Site(broker, backend, package, result_expires=expires)
        self.redis = importlib.import_module('redis').Redis.from_url(backend)
        assert not self.redis.dbsize(), f'{backend} is not empty: give one that is'
        self.expires = expires
        self.report = Report(package)
        self.load = Load(self.site, self.report)
        self.looks: list[Look] = []
        self.runs: Counter[bytes] = Counter()
        self._read = 0

    def run(self, seconds: float, tell: Callable[[str], Any]) -> Report:
        """Soak for so long; `tell` is called with a line now and then."""
        with self.site as site:
            worker = site.start('-c', '4', '-l', 'WARNING', ready=False)
            other = site.start('-c', '2', '-l', 'WARNING', '-Q', self.load.other_queue,
                               '-n', f'{self.load.other_queue}@host', ready=False)
            for queue in (site.queue, self.load.other_queue):
                site.signature('nap', -1, 0.0).apply_async(queue=queue).get(timeout=PATIENCE)
            begun = time.monotonic()
            told = 0.0
            try:
                while (now := time.monotonic() - begun) < seconds:
                    if not self.load.turn(sending=True):
                        time.sleep(0.002)
                    if now >= len(self.looks) * min(1.0, seconds / 60):
                        self.looks.append(self._look(now, worker, other))
                    if now >= told + 60:
                        told = now
                        tell(f'{now:6.0f} s: {self.report.tasks} tasks, {self.looks[-1]}')
                self.report.seconds = time.monotonic() - begun
                while any(self.load.under_way.values()):
                    if not self.load.turn(sending=False):
                        time.sleep(0.01)
                self._judge([worker, other], seconds)
            finally:
                connection = site.app.connection_for_write()
                connection.default_channel.queue_delete(self.load.other_queue)
                connection.close()
        return self.report

    def _look(self, now: float, worker: WorkerProcess, other: WorkerProcess) -> Look:
        self._read_notes()
        children = worker.children()
        return Look(
            now, resident(worker.pid), mean(resident, children), resident(other.pid), files(worker.pid),
            mean(files, children), self.site.waiting(), int(self.redis.dbsize()))

    def _read_notes(self) -> None:
        with open(self.site.notes, 'rb') as file:
            file.seek(self._read)
            data = file.read().rpartition(b'\n')[0]
        self._read += len(data) + bool(data)
        self.runs.update(data.split())

    def _judge(self, workers: list[WorkerProcess], seconds: float) -> None:
        report = self.report
        for begin in (WARM_UP, 1 - WINDOW):
            # (A busy machine may not have let us look within a short one.)
            within = [look for look in self.looks if begin <= look.seconds / seconds <= begin + WINDOW] or self.looks
            report.windows.append({name: statistics.fmean(getattr(look, name) for look in within)
                                   for name in Look._fields})
        report.most_waiting = max(look.queue for look in self.looks)
        report.most_keys = max(look.keys for look in self.looks)
        report.messages_left = self.site.waiting()
        report.codes = [worker.stop(60) for worker in workers]
        self._read_notes()
        report.doubled = sum(count > 1 for number, count in self.runs.items() if number != b'-1')
        report.errors = [line for worker in workers for line in worker.lines
                         if re.search(r'\b(ERROR|CRITICAL)/', line) and not MEANT.search(line)]
        time.sleep(self.expires + 1)
        for key in self.redis.scan_iter():
            seconds = self.redis.ttl(key)
            if seconds == -2:  # it has expired meanwhile
                continue
            left = report.keys_left if seconds == -1 else report.keys_kept
            name = UUID.sub('*', key.decode())
            left[name] = left.get(name, 0) + 1


def counts(of: dict[str, int]) -> str:
    """How many of what, in a line."""
    return ', '.join(f'{number} {what}' for what, number in of.items()) or '0'


def mean(of: Callable[[int], float], pids: Sequence[int]) -> float:
    """The average of those that are still there; `ps` was among them."""
    found = []
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            found.append(of(pid))
    return statistics.fmean(found)


def files(pid: int) -> float:
    """How many files a process has open."""
    return float(len(os.listdir(f'/proc/{pid}/fd')))


def soak(broker: str, backend: str, package: str, seconds: float, expires: float,
         tell: Callable[[str], Any] = lambda line: None) -> Report:
    """Soak for so many seconds, with results that are kept for `expires`."""
    return Soak(broker, backend, package, expires).run(seconds, tell)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument('--minutes', type=float, default=30.0)
    parser.add_argument('--expires', type=float, default=60.0, help='seconds for which results are kept')
    parser.add_argument('--json', metavar='FILE', help='also write the figures there')
    given = parser.parse_args()
    report = soak(given.broker, given.backend, given.package, given.minutes * 60, given.expires,
                  lambda line: print(line, flush=True))
    for kind in ('lost', 'wrong', 'errors'):
        for label in getattr(report, kind)[:20]:
            print(f'{kind}: {label}')
    print(report)
    faults = report.faults()
    print('; '.join(faults) or f'lost 0, wrong 0; memory flat within {FLAT:.0%}, files flat, no key left')
    if given.json:
        with open(given.json, 'w') as file:
            json.dump({**asdict(report), 'faults': faults}, file, indent=1)
    return 1 if faults else 0


if __name__ == '__main__':
    raise SystemExit(main())
