"""Measure one package; prints its figures as one line of JSON.

usage: measure.py canvaslite|celery|dramatiq   (servers and sizes in the environment, see compare.py)
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import amqp
from kombu.utils.url import parse_url

HERE = Path(__file__).parent
SCALE = float(os.environ.get('BENCH_SCALE', '1'))
PUBLISHED, DRAINED, MEMBERS, ROUND_TRIPS = (max(10, int(n * SCALE)) for n in (3000, 10_000, 1000, 200))


class Celeryish:
    """Celery and canvaslite: the same calls."""

    def __init__(self, name: str) -> None:
        sys.path.insert(0, str(HERE))
        import celery_work

        self.work, self.package = celery_work, celery_work.package
        self.worker_command = [sys.executable, '-m', name, '-A', 'celery_work', 'worker', '-c', '2', '-l', 'ERROR']
        self.import_command = [sys.executable, '-c', f'import {name}; {name}.Celery("x").tasks']

    def send(self) -> None:
        self.work.empty.delay()

    def send_group(self) -> None:
        self.package.group(self.work.empty.s() for _ in range(2 * MEMBERS)).apply_async()

    def round_trip(self) -> None:
        assert self.work.add.delay(1, 1).get(timeout=30) == 2

    def chord(self) -> None:
        header = (self.work.add.s(i, i) for i in range(MEMBERS))
        assert self.package.chord(header, self.work.total.s()).apply_async().get(timeout=120) == MEMBERS * (MEMBERS - 1)

    def chain(self) -> None:
        assert (
            self.package.chain(*[self.work.increment.s() for _ in range(100)]).apply_async((0,)).get(timeout=120) == 100
        )

    def group(self) -> None:
        job = self.package.group(self.work.add.s(i, i) for i in range(MEMBERS))
        assert job.apply_async().get(timeout=120) == [2 * i for i in range(MEMBERS)]


class Dramatiq:
    """dramatiq: no chords, and a chain is a pipeline."""

    chord: Callable[[], None] | None = None

    def __init__(self) -> None:
        sys.path.insert(0, str(HERE))
        import dramatiq
        import dramatiq_work

        self.work, self.package = dramatiq_work, dramatiq
        self.worker_command = [sys.executable, '-m', 'dramatiq', 'dramatiq_work', '-p', '2', '-t', '1']
        self.import_command = [sys.executable, '-c', 'import dramatiq, dramatiq.brokers.rabbitmq']

    def send(self) -> None:
        self.work.empty.send()

    def send_group(self) -> None:
        for _ in range(2 * MEMBERS):
            self.work.empty.send()

    def round_trip(self) -> None:
        assert self.work.add.send(1, 1).get_result(block=True, timeout=30_000) == 2

    def chain(self) -> None:
        steps = [self.work.increment.message(0), *[self.work.increment.message() for _ in range(99)]]
        assert self.package.pipeline(steps).run().get_result(block=True, timeout=120_000) == 100

    def group(self) -> None:
        job = self.package.group([self.work.add.message(i, i) for i in range(MEMBERS)]).run()
        assert list(job.get_results(block=True, timeout=120_000)) == [2 * i for i in range(MEMBERS)]


class Queue:
    """The benchmark's queue, looked at from outside."""

    def __init__(self) -> None:
        url = parse_url(os.environ['BENCH_BROKER'])
        connection = amqp.Connection(
            f'{url["hostname"]}:{url["port"] or 5672}',
            userid=url['userid'] or 'guest',
            password=url['password'] or 'guest',
            virtual_host=url['virtual_host'] or '/',
        )
        connection.connect()
        self.channel, self.name = connection.channel(), os.environ['BENCH_QUEUE']

    def depth(self) -> int:
        return int(self.channel.queue_declare(self.name, passive=True).message_count)

    def purge(self) -> None:
        self.channel.queue_purge(self.name)


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the clock and of CPU that `call` takes."""
    started, used = time.perf_counter(), cpu()
    call()
    return time.perf_counter() - started, cpu() - used


def measure_publishing(target: Any, figures: dict[str, float]) -> None:
    target.send()
    wall, used = timed(lambda: [target.send() for _ in range(PUBLISHED)])
    figures['publish, µs'], figures['publish, µs of CPU'] = wall / PUBLISHED * 1e6, used / PUBLISHED * 1e6
    wall, used = timed(target.send_group)
    figures['burst, µs a task'], figures['burst, µs of CPU a task'] = (x / (2 * MEMBERS) * 1e6 for x in (wall, used))


def measure_drain(queue: Queue, figures: dict[str, float]) -> None:
    """Tasks a second from the moment the worker has begun."""
    started = first = None
    until = time.monotonic() + 180
    while time.monotonic() < until:
        left = queue.depth()
        if started is None and left < DRAINED - 100:
            started, first = time.perf_counter(), left
        if left == 0 and started is not None and first is not None:
            figures['drain, tasks/s'] = first / (time.perf_counter() - started)
            return
        time.sleep(0.005)
    raise SystemExit('the queue was not drained within three minutes')


def measure_results(target: Any, figures: dict[str, float]) -> None:
    target.round_trip()
    figures['round trip, ms'] = timed(lambda: [target.round_trip() for _ in range(ROUND_TRIPS)])[0] / ROUND_TRIPS * 1e3
    for name, call in (
        (f'chord of {MEMBERS}, s', target.chord),
        ('chain of 100, s', target.chain),
        (f'group of {MEMBERS}, s', target.group),
    ):
        if call is not None:
            figures[name] = timed(call)[0]


def resident_megabytes(pid: int) -> float:
    """Memory of a process and its children."""
    listed = subprocess.run(['ps', '-o', 'rss=', '--ppid', str(pid), '-p', str(pid)], capture_output=True, text=True)
    return sum(map(int, listed.stdout.split())) / 1024


def main(name: str) -> None:
    os.environ.setdefault('BENCH_PACKAGE', name)
    target: Any = Dramatiq() if name == 'dramatiq' else Celeryish(name)
    figures: dict[str, float] = {}
    target.send()
    queue = Queue()
    queue.purge()
    measure_publishing(target, figures)
    queue.purge()
    for _ in range(DRAINED):
        target.send()
    while queue.depth() < DRAINED:
        time.sleep(0.01)
    worker = subprocess.Popen(target.worker_command, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        measure_drain(queue, figures)
        measure_results(target, figures)
        figures['memory, MB'] = resident_megabytes(worker.pid)
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)
        queue.channel.queue_delete(queue.name)
    figures['import, s'] = min(timed(lambda: subprocess.run(target.import_command, check=True))[0] for _ in range(3))
    print(json.dumps(figures))


if __name__ == '__main__':
    main(sys.argv[1])
