"""Large canvases end to end, on canvaslite and on Celery: seconds, and peak memory of caller and workers.

    python benchmarks/sizes.py [--broker URL] [--backend URL] [--timeout 600] [CANVAS ...]

Each canvas is built, sent and awaited in a process of its own, with a worker of two children of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def nested(depth: int, package: Any, work: Any) -> Any:
    """A chain through a group, one member of which is such a chain, and so on."""
    canvas = work.increment.s()
    for _ in range(depth):
        canvas = package.chain(work.increment.s(), package.group([canvas, work.increment.s()]), work.largest.s())
    return canvas


def nested_chords(depth: int, package: Any, work: Any) -> Any:
    """A chord in the header of a chord, and so on."""
    canvas = work.increment.s()
    for _ in range(depth):
        canvas = package.chord([canvas, work.increment.s()], work.largest.s())
    return canvas


#: What is built of a size, given the package and the tasks, and its value when called with 0.
CANVASES: dict[str, tuple[Any, Any]] = {
    'chain': (lambda n, p, w: p.chain(*[w.increment.s() for _ in range(n)]), lambda n: n),
    'chord': (lambda n, p, w: p.chord([w.increment.s() for _ in range(n)], w.total.s()), lambda n: n),
    'group': (lambda n, p, w: p.group(w.increment.s() for _ in range(n)), lambda n: [1] * n),
    'nested': (nested, lambda n: n + 1),
    'nested_chords': (nested_chords, lambda n: 1),
}
#: Sizes for canvaslite, and those that Celery survives within minutes.
SIZES = {
    'canvaslite': ('chain:1000', 'chain:10000', 'chord:5000', 'chord:50000', 'group:50000', 'nested:30', 'nested:200',
                   'nested_chords:30', 'nested_chords:200'),
    'celery': ('chain:1000', 'chord:5000', 'chord:50000', 'nested:30', 'nested_chords:30'),
}


def run_one(package: str, canvas: str, timeout: float) -> dict[str, float]:
    """Build, send and await one canvas, here."""
    sys.path.insert(0, str(HERE))
    import celery_work as work

    name, _, size = canvas.partition(':')
    build, value = CANVASES[name]
    command = [sys.executable, '-m', package, '-A', 'celery_work', 'worker', '-c', '2', '-l', 'ERROR',
               '-n', f'{uuid.uuid4().hex[:8]}@%h']
    worker = subprocess.Popen(command, cwd=HERE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        work.add.delay(1, 1).get(timeout=60)
        started = time.perf_counter()
        built = build(int(size), work.package, work)
        result = built.apply_async((0,))
        sent = time.perf_counter()
        assert result.get(timeout=timeout) == value(int(size))
        ended = time.perf_counter()
        pids = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(worker.pid), '-p', str(worker.pid)],
                              capture_output=True, text=True).stdout.split()
        return {'build and send, s': sent - started, 'end to end, s': ended - started,
                'caller, MB': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                'largest worker process, MB': max(map(peak_memory, pids))}
    finally:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(30)
        except subprocess.TimeoutExpired:
            worker.kill()


def peak_memory(pid: str) -> float:
    """In MB."""
    status = Path(f'/proc/{pid}/status').read_text()
    return int(next(line for line in status.splitlines() if line.startswith('VmHWM')).split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('canvases', nargs='*', help='NAME:SIZE; names: ' + ', '.join(CANVASES))
    parser.add_argument('--broker', default='amqp://guest:guest@localhost:5672/%2F')
    parser.add_argument('--backend', default='redis://localhost:6379/0')
    parser.add_argument('--timeout', type=float, default=600, help='seconds to wait for one result')
    parser.add_argument('--package', action='append', choices=list(SIZES))
    parser.add_argument('--here', action='store_true', help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(run_one(options.package[0], options.canvases[0], options.timeout)))
        return
    for package in options.package or SIZES:
        for canvas in options.canvases or SIZES[package]:
            queue = f'canvaslite-sizes-{uuid.uuid4().hex[:8]}'
            env = {**os.environ, 'BENCH_PACKAGE': package, 'BENCH_BROKER': options.broker,
                   'BENCH_BACKEND': options.backend, 'BENCH_QUEUE': queue}
            done = subprocess.run([sys.executable, __file__, '--here', '--package', package, canvas,
                                   '--timeout', str(options.timeout)], env=env, capture_output=True, text=True)
            if done.returncode:
                print(f'{package:<12}{canvas:<20}{(done.stderr.strip().splitlines() or ["?"])[-1][:90]}', flush=True)
                continue
            figures = json.loads(done.stdout.splitlines()[-1])
            print(f'{package:<12}{canvas:<20}' + '   '.join(f'{name} {value:.4g}' for name, value in figures.items()),
                  flush=True)


if __name__ == '__main__':
    main()
