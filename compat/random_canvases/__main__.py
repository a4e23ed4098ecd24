"""``python -m compat.random_canvases``: run canvases drawn at random, and say how many are not what they mean."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from compat.random_canvases.drawing import Wanted, draw_plan
from compat.random_canvases.project import Project
from compat.random_canvases.running import FAULTS, RIGHT, Recorded, check, check_eagerly, worker_of
from compat.random_canvases.shrinking import report_of, shrink


def settings_of(broker: str, backend: str, folder: str) -> dict[str, Any]:
    """Settings of an app on these servers; a broker of files gets its folders in `folder`."""
    settings: dict[str, Any] = {'broker_url': broker, 'result_backend': backend,
                                'task_default_queue': f'random-{uuid.uuid4().hex[:8]}'}
    if broker.startswith('filesystem'):
        for name in ('messages', 'processed', 'control'):
            Path(folder, name).mkdir(exist_ok=True)
        settings['broker_transport_options'] = {
            'data_folder_in': f'{folder}/messages', 'data_folder_out': f'{folder}/messages',
            'processed_folder': f'{folder}/processed', 'control_folder': f'{folder}/control'}
    return settings


def main() -> int:
    """Run the command; 1 if a canvas was not what it means."""
    parser = argparse.ArgumentParser(prog='python -m compat.random_canvases', description=__doc__)
    parser.add_argument('--count', type=int, default=200, help='number of canvases')
    parser.add_argument('--depth', type=int, default=4, help='how deep they are nested')
    parser.add_argument('--backend', default='redis://127.0.0.1:6379/9')
    parser.add_argument('--broker', default='amqp://guest:guest@127.0.0.1:5672//')
    parser.add_argument('--pool', default='prefork', choices=('prefork', 'threads', 'solo'),
                        help='cache+memory:// is one process: its worker is a thread here, on threads or solo')
    parser.add_argument('--seed', type=int, default=None, help='the same seed draws the same canvases')
    parser.add_argument('--package', default='canvaslite', choices=('canvaslite', 'celery'))
    parser.add_argument('--plain', action='store_true', help='no faults, errbacks, retries or replacements')
    parser.add_argument('--eager', action='store_true', help='in this process, with task_always_eager')
    parser.add_argument('--batch', type=int, default=100, help='how many are sent at once')
    parser.add_argument('--shrink', type=int, default=1, help='how many failures are made small and shown')
    parser.add_argument('--only', type=int, default=None, help='run only the canvas of that number')
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(2**31) if given.seed is None else given.seed
    wanted = Wanted(given.depth, faults=not given.plain and not given.eager, restless=not given.plain)
    drawn = [draw_plan(random.Random(f'{seed}/{number}'), wanted) for number in range(given.count)]
    drawn = drawn if given.only is None else [drawn[given.only]]
    plans = [plan for plan, _ in drawn]
    with tempfile.TemporaryDirectory(prefix='random-canvases-') as folder:
        settings = settings_of(given.broker, given.backend, folder)
        if given.eager:
            settings['task_always_eager'] = True
        project = Project(given.package, settings, f'{folder}/record')
        recorded, began = Recorded(project.record), time.monotonic()
        if given.eager:
            cases = check_eagerly(project, plans)
            for case in [case for case in cases if case.verdict != RIGHT][:given.shrink]:
                print(report_of(case))
            return report(cases, began, seed)
        with worker_of(project, given.pool):
            began = time.monotonic()
            cases = check(project, plans, recorded, given.batch)
            status = report(cases, began, seed)
            failed = [number for number, case in enumerate(cases) if case.verdict != RIGHT]
            failed.sort(key=lambda number: len(cases[number].code))
            for number in failed[:given.shrink]:
                case = shrink(project, recorded, wanted, drawn[number][1], cases[number].verdict)
                print(f'\nCanvas {number}, made small, is {report_of(case or cases[number])}', flush=True)
            for number in failed[given.shrink:given.shrink + 10]:
                print(f'\nCanvas {number} is {report_of(cases[number])}')
            delete_queue(project)
    return status


def report(cases: list[Any], began: float, seed: int) -> int:
    """Print how many are not right, in one line; 1 if there are any."""
    verdicts = Counter(case.verdict for case in cases)
    said = ', '.join(f'{verdicts[fault]} {fault}' for fault in FAULTS)
    print(f'{len(cases)} canvases: {said}; {time.monotonic() - began:.1f} s, seed {seed}', flush=True)
    return int(verdicts[RIGHT] != len(cases))


def delete_queue(project: Project) -> None:
    """Leave nothing on the broker."""
    with project.app.connection_for_write() as connection:
        connection.default_channel.queue_delete(project.app.conf.task_default_queue)


if __name__ == '__main__':
    sys.exit(main())
