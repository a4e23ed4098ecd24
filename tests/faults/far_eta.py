"""Send tasks with an ETA in 2099, then one without, and see how long that one waits: here and with Celery.

    python -m tests.faults.far_eta --broker amqp://guest:guest@127.0.0.1:5672/vhost --backend redis://127.0.0.1:6379/0
        [--tasks 5000] [--package canvaslite|celery] [--queue-type classic|quorum] [--patience 90] [--kills 20]

Then kill our worker again and again while it hands 2,000 tasks that are due in a while to the broker, and count how
often each has run. All settings are the defaults, but for two processes. The virtual host must be of its own. There are
small forms of both in tests/integration/test_far_eta.py.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import kombu

from tests.fixtures import APPS, load_app
from tests.workers import WorkerProcess

#: Seconds after its ETA when a task that has not run is taken for lost.
PATIENCE = 40.0
FAR = datetime(2099, 1, 1, tzinfo=timezone.utc)


def start_worker(env: dict[str, str], folder: str, level: str) -> WorkerProcess:
    """A worker of tests/apps/proj.py."""
    command = [sys.executable, '-m', env['CANVAS_PACKAGE'], '-A', 'proj', 'worker', '-c', '2', '-l', level]
    return WorkerProcess(command, {'PYTHONPATH': str(APPS), **env}, Path(folder))


def measure(project: Any, env: dict[str, str], count: int, patience: float) -> tuple[float, int, int]:
    """Seconds until the last task has run (infinite if it did not), messages that the worker holds then, its memory
    in MB."""
    with project.app.pool.acquire(block=True) as connection, tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            project.add.apply_async((number, 1), eta=FAR)
        result, sent = project.add.delay(1, 1), time.monotonic()
        worker = start_worker(env, folder, 'WARNING')
        try:
            with contextlib.suppress(Exception):
                result.get(timeout=patience)
            took = time.monotonic() - sent if result.successful() else float('inf')
            memory = int(Path(f'/proc/{worker.pid}/statm').read_text().split()[1]) // 256
            queue = connection.default_channel.queue_declare(env['QUEUE'], passive=True)
        finally:
            worker.kill()
        return took, count - queue.message_count, memory


def kill_while_delaying(project: Any, env: dict[str, str], count: int, kills: int, due: float) -> tuple[int, int]:
    """How many tasks were lost and how many ran twice, when the worker is killed so often before they are `due`."""
    with tempfile.TemporaryDirectory() as folder:
        runs, when = Path(folder, 'runs'), datetime.now(timezone.utc) + timedelta(seconds=due)
        for number in range(count):
            project.record.apply_async((str(runs), number), eta=when)
        for kill in range(kills + 1):
            worker = start_worker({**env, 'HOLD': '1'}, folder, 'INFO')
            if kill < kills:
                worker.await_line(r'Task proj.record\[\S+ is kept by the broker', timeout=10)
                time.sleep(0.05 * (kill % 4))
                worker.kill()
        for patience in (1, PATIENCE):  # a copy comes with the first, or not at all
            while (late := (datetime.now(timezone.utc) - when).total_seconds()) < patience:
                time.sleep(0.2)
                if late > 1 and len(set(project_runs(runs))) >= count:
                    break
        worker.kill()
        found = Counter(project_runs(runs))
    return count - len(found), sum(found.values()) - len(found)


def project_runs(file: Path) -> list[str]:
    """What was recorded there."""
    return file.read_text().split() if file.exists() else []


def load_project(**env: str) -> tuple[Any, dict[str, str]]:
    """The app of tests/apps/proj.py, with this environment."""
    os.environ.update(env)
    return load_app('proj'), env


def report(package: str, broker: str, backend: str, count: int, kind: str, patience: float) -> float:
    """Print one line; how long the last task waited."""
    project, env = load_project(CANVAS_PACKAGE=package, BROKER=broker, BACKEND=backend,
                                QUEUE=f'far-{package}-{kind}', QUEUE_TYPE=kind)
    took, held, memory = measure(project, env, count, patience)
    print(f'{package:11}{kind:8}{count:6} tasks with an ETA in 2099: the one after them ran after {took:6.1f} s; '
          f'{held} taken from the queue, {memory} MB', flush=True)
    with kombu.Connection(broker) as connection:
        connection.default_channel.queue_delete(env['QUEUE'])
    return took


def main() -> int:
    """1 if the task behind the others did not run at once with canvaslite."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--broker', required=True)
    parser.add_argument('--backend', required=True)
    parser.add_argument('--tasks', type=int, default=5000)
    parser.add_argument('--patience', type=float, default=90.0)
    parser.add_argument('--package', action='append')
    parser.add_argument('--queue-type', action='append')
    parser.add_argument('--kills', type=int, default=20)
    options = parser.parse_args()
    late = False
    for kind in options.queue_type or ('classic', 'quorum'):
        for package in options.package or ('canvaslite', 'celery'):
            took = report(package, options.broker, options.backend, options.tasks, kind, options.patience)
            late |= package == 'canvaslite' and took > options.patience
    project, env = load_project(CANVAS_PACKAGE='canvaslite', BROKER=options.broker, BACKEND=options.backend,
                                QUEUE='far-kills', QUEUE_TYPE='classic')
    lost, twice = kill_while_delaying(project, env, 2000, options.kills, 10 + 4 * options.kills)
    print(f'canvaslite {options.kills} kills while 2000 tasks are handed to the broker: {lost} lost, {twice} twice')
    return int(late or lost)


if __name__ == '__main__':
    raise SystemExit(main())
