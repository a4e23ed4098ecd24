"""What joining a chord costs, by result store and package: ``python benchmarks/joins.py [redis sqlite …]``.

``chord(5)`` one at a time, and large headers: how much longer one of 10,000 takes, task by task, than one of 1,000.
Servers on loopback (tests/start-servers); Celery runs on Redis and SQLite, for comparison.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
BROKER = os.environ.get('BENCH_BROKER', 'amqp://guest:guest@127.0.0.1:5672//')
STORES = {
    'redis': 'redis://127.0.0.1:6379/8',
    'sqlite': 'db+sqlite:///{folder}/results.sqlite',
    'postgresql': 'db+postgresql://postgres@127.0.0.1/postgres',
    'rpc': 'rpc://',
    'memcached': 'cache+memcached://127.0.0.1:11211',
    'file': 'file://{folder}',
}
#: Chords that are timed, of which the first is warming up; and the sizes of large ones, how often.
SMALL, LARGE, TIMES = 30, (1000, 10_000), 3


def run(package: str, store: str) -> None:
    """Print this package's figures on that store."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(BENCH_PACKAGE=package, BENCH_BROKER=BROKER, BENCH_QUEUE=f'joins-{uuid.uuid4().hex[:8]}',
                          BENCH_BACKEND=STORES[store].format(folder=folder))
        sys.path.insert(0, str(HERE))
        import celery_work as work

        command = [sys.executable, '-m', package, '-A', 'celery_work', 'worker', '-c', '2', '-l', 'ERROR']
        worker = subprocess.Popen(command, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            small = [timed(work, 5) for _ in range(SMALL if package == 'canvaslite' or store == 'redis' else 5)][1:]
            line = f'{package:11} {store:11} chord(5) {median(small) * 1e3:8.1f} ms'
            for size in LARGE if package == 'canvaslite' else ():
                each = median(timed(work, size) for _ in range(TIMES)) / size
                line += f'   chord({size}) {each * 1e6:6.0f} µs a task'
            print(line, flush=True)
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(30)


def timed(work: Any, size: int) -> float:
    """Seconds until the body's value is there."""
    header = [work.add.s(i, i) for i in range(size)]
    started = time.perf_counter()
    assert work.package.chord(header, work.total.s())().get(timeout=300) == size * (size - 1)
    return time.perf_counter() - started


def main() -> None:
    """Each package and store in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('stores', nargs='*', metavar='STORE', help=', '.join(STORES))
    parser.add_argument('--of', help='measure this package only, in this process')
    options = parser.parse_args()
    stores = options.stores or ['redis', 'sqlite', 'postgresql', 'rpc']
    if not STORES.keys() >= set(stores):
        parser.error(f'a store is one of {", ".join(STORES)}')
    if options.of:
        run(options.of, *stores)
        return
    for package in ('canvaslite', 'celery'):
        for store in stores if package == 'canvaslite' else {'redis', 'sqlite'}.intersection(stores):
            subprocess.run([sys.executable, __file__, '--of', package, store], check=True)


if __name__ == '__main__':
    main()
