"""``python -m tests.faults.stream``: tasks, chains and chords, one after another, while servers and processes fail.

RabbitMQ and Redis are servers of its own, which keep what they have on the disk. Each fault comes three times, each
time when all is well again. A canvas is lost if it does not end, wrong if it ends in anything but its value, refused if
sending it was an error, which the caller saw. ``again`` is how many tasks ran more than once. Work has resumed with the
first run of a task that was sent after the fault: its seconds count from when the server was back, or the process dead.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.site import Site
from tests.integration.proxy import Proxy
from tests.rabbitmq_servers import RabbitServer
from tests.redis_servers import ALL_KEPT, RedisServer

#: Seconds for which a server is away, between two canvases, and in which work must have resumed.
AWAY, PAUSE, PATIENCE = 2.0, 0.05, 60.0
#: Of how many members a header is, and the seconds that a task takes.
HEADER, SECONDS = 4, 0.01


@dataclass
class Outcome:
    """What became of the stream."""

    sent: int = 0
    refused: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    again: int = 0
    resumed: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        resumed = ', '.join(f'{seconds:.1f}' for seconds in self.resumed)
        return (f'{self.sent} canvases, {len(self.lost)} lost, {len(self.wrong)} wrong, {self.again} tasks ran again, '
                f'{self.refused} refused; work resumed after {resumed} s')

    @property
    def is_clean(self) -> bool:
        return not self.lost and not self.wrong and max(self.resumed) <= 10


class Stream:
    """Canvases that are sent to a worker, one after another, by a thread."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.package: Any = importlib.import_module(site.package)
        self.outcome = Outcome()
        self.sent: dict[str, tuple[str, int]] = {}
        #: What to look for in the notes, and when it was sent.
        self.numbers: dict[int, float] = {}
        self._next = itertools.count()
        self._over = threading.Event()

    def run(self, fault: Callable[[], None], rounds: int) -> Outcome:
        """Let the fault happen so often, and wait until all has ended or nothing more ends."""
        self.site.start()
        self.site.task('nap', next(self._next), 0.0).get(timeout=PATIENCE)
        sender = threading.Thread(target=self._send)
        sender.start()
        try:
            for _ in range(rounds):
                self._await_work(time.monotonic())
                time.sleep(1.0)
                fault()
                back = time.monotonic()
                self.outcome.resumed.append(self._await_work(back) - back)
        finally:
            self._over.set()
            sender.join()
        self._judge()
        return self.outcome

    def _send(self) -> None:
        for kind in itertools.cycle(('task', 'chain', 'task', 'chord')):
            if self._over.wait(PAUSE):
                return
            canvas, number, expected = getattr(self, f'_{kind}')()
            try:
                result = canvas.apply_async()
            except Exception:
                self.outcome.refused += 1
            else:
                self.sent[result.id] = kind, expected
                self.numbers[number] = time.monotonic()

    def _nap(self) -> tuple[Any, int]:
        number = next(self._next)
        return self.site.signature('nap', number, SECONDS), number

    def _task(self) -> tuple[Any, int, int]:
        task, number = self._nap()
        return task, number, number

    def _chain(self) -> tuple[Any, int, int]:
        task, number = self._nap()
        return self.package.chain(task, *[self.site.signature('climb', next(self._next)) for _ in range(2)]), number, \
            number + 2

    def _chord(self) -> tuple[Any, int, int]:
        members = [self._nap() for _ in range(HEADER)]
        body = self.site.signature('total', next(self._next))
        numbers = [number for _, number in members]
        return self.package.chord([task for task, _ in members], body), numbers[0], sum(numbers)

    def _await_work(self, since: float) -> float:
        """When anything that was sent since then had run; after PATIENCE, infinity."""
        while time.monotonic() < since + PATIENCE:
            runs = self.site.runs()
            if any(number in runs for number, at in self.numbers.copy().items() if at > since):
                return time.monotonic()
            time.sleep(0.01)
        return float('inf')

    def _judge(self) -> None:
        """Read what the store has, by an app that has seen none of it."""
        outcome = self.outcome
        with contextlib.closing(self.package.Celery('judge', backend=self.site.env['BACKEND'],
                                                    set_as_current=False)) as app:
            left, latest = dict(self.sent), time.monotonic()
            while left and time.monotonic() < latest + PATIENCE:
                for task_id, (kind, expected) in list(left.items()):
                    result = app.AsyncResult(task_id)
                    if result.ready():
                        del left[task_id]
                        latest = time.monotonic()
                        if result.result != expected or result.state != 'SUCCESS':
                            outcome.wrong.append(f'{kind}: {result.result!r}')
                time.sleep(0.1)
        outcome.sent = len(self.sent)
        outcome.lost = [kind for kind, _ in left.values()]
        outcome.again = sum(count > 1 for count in self.site.runs().values())


class Scene(NamedTuple):
    """What a fault happens to."""

    site: Site
    proxy: Proxy
    rabbit: RabbitServer
    redis: RedisServer


# -- faults: each returns when what it broke is whole, or free to mend itself ------------------------------------------


def rabbitmq_stopped(scene: Scene) -> None:
    scene.rabbit.stop()
    time.sleep(AWAY)
    scene.rabbit.start()


def rabbitmq_killed(scene: Scene) -> None:
    scene.rabbit.kill()
    time.sleep(AWAY)
    scene.rabbit.start()


def rabbitmq_paused(scene: Scene) -> None:
    """Stopped, but for its Erlang machine."""
    scene.rabbit.control('stop_app')
    scene.rabbit.control('start_app')


def connections_closed(scene: Scene) -> None:
    scene.rabbit.control('close_all_connections', 'fault')


def redis_restarted(scene: Scene) -> None:
    scene.redis.stop()
    time.sleep(AWAY)
    scene.redis.start()


def redis_connections_cut(scene: Scene) -> None:
    """Ten times in a row, those of subscribers too."""
    for _ in range(10):
        for kind in ('normal', 'pubsub'):
            scene.redis.client.execute_command('CLIENT', 'KILL', 'TYPE', kind)
        time.sleep(0.05)


def child_killed(scene: Scene) -> None:
    os.kill(random.choice(scene.site.workers[-1].children()), signal.SIGKILL)


def worker_killed(scene: Scene) -> None:
    scene.site.workers[-1].kill()
    scene.site.start(ready=False)


def wire_delayed(scene: Scene) -> None:
    """Whatever passes between worker and broker takes 0.3 s for 5 s."""
    scene.proxy.delay = 0.3
    time.sleep(5)
    scene.proxy.delay = 0.0


def wire_cut(scene: Scene) -> None:
    """In the middle of what the worker is saying, ten times."""
    for _ in range(10):
        scene.proxy.cut_after(random.randint(1, 2000))
        time.sleep(0.3)


def wire_silent(scene: Scene) -> None:
    """Nothing passes any more on what is open; nobody is told. New connections are served."""
    scene.proxy.strand()


FAULTS: dict[str, Callable[[Scene], None]] = {
    fault.__name__: fault for fault in (
        rabbitmq_stopped, rabbitmq_killed, rabbitmq_paused, connections_closed, redis_restarted, redis_connections_cut,
        child_killed, worker_killed, wire_delayed, wire_cut, wire_silent)}
#: Those that take away tasks which were acknowledged early, as early acknowledgement says.
DEADLY = frozenset({'child_killed', 'worker_killed'})


@contextlib.contextmanager
def own_servers() -> Iterator[tuple[RabbitServer, RedisServer]]:
    """RabbitMQ and Redis, which keep what they have."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        rabbit = RabbitServer(folder / 'rabbit')
        stack.callback(rabbit.stop)
        redis = RedisServer(folder / 'redis', *ALL_KEPT)
        stack.callback(redis.stop)
        yield rabbit, redis


def try_fault(
    rabbit: RabbitServer, redis: RedisServer, package: str, name: str, late: bool, rounds: int = 3
) -> Outcome:
    """What became of a stream with that fault in it. The worker notices a silent broker by heartbeats of 2 s."""
    with Proxy(rabbit.url) as proxy, Site(
            rabbit.url, redis.url, package, task_acks_late=late, task_reject_on_worker_lost=late,
            broker_heartbeat=2) as site:
        site.env['BROKER'] = proxy.url
        return Stream(site).run(partial(FAULTS[name], Scene(site, proxy, rabbit, redis)), rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--package', default='canvaslite', help='or celery')
    parser.add_argument('--fault', action='append', choices=FAULTS, help='all by default')
    parser.add_argument('--acks', action='append', choices=['early', 'late'], help='both by default')
    parser.add_argument('--rounds', type=int, default=3)
    given = parser.parse_args()
    clean = True
    with own_servers() as (rabbit, redis):
        for name, acks in itertools.product(given.fault or FAULTS, given.acks or ['early', 'late']):
            if name in DEADLY and acks == 'early':
                continue
            outcome = try_fault(rabbit, redis, given.package, name, acks == 'late', given.rounds)
            for label in ('lost', 'wrong'):
                for what in getattr(outcome, label)[:5]:
                    print(f'{label}: {what}')
            print(f'{given.package}: {name}, acknowledged {acks}: {outcome}', flush=True)
            clean &= outcome.is_clean
    return 0 if clean else 1


if __name__ == '__main__':
    raise SystemExit(main())
