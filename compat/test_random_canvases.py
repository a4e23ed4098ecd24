"""Canvases drawn at random mean what they say, on every store, pool and kind of broker, and in the caller's process.

`compat.random_canvases` draws, runs and compares them; a failure prints the code of the smallest canvas that was found.
The canvases are the same in each run, so that a change is what fails it; `CANVASLITE_SEED` draws others.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from compat.random_canvases.__main__ import settings_of
from compat.random_canvases.drawing import Wanted, draw_plan
from compat.random_canvases.project import Project
from compat.random_canvases.running import RIGHT, Recorded, check, check_eagerly, worker_of
from compat.random_canvases.shrinking import report_of, shrink
from tests.contract.conftest import *  # noqa: F403  (the stores' URLs)

SEED = os.environ.get('CANVASLITE_SEED', '1')
#: Store, pool and broker, and how many canvases.
PLACES = [
    ('redis', 'prefork', 'amqp', 200),
    ('sqlite', 'prefork', 'amqp', 60),
    ('postgresql', 'threads', 'amqp', 60),
    ('mysql', 'prefork', 'amqp', 60),
    ('file', 'solo', 'redis', 40),
    ('memory', 'threads', 'memory', 60),
    ('memory', 'solo', 'amqp', 40),
    ('rpc', 'prefork', 'amqp', 60),
    ('memcached', 'threads', 'amqp', 60),
    ('redis', 'threads', 'redis', 60),
]


def drawn(count: int, wanted: Wanted, seed: str) -> list[tuple[object, list[int]]]:
    return [draw_plan(random.Random(f'{seed}/{number}'), wanted) for number in range(count)]


@pytest.mark.parametrize(('store', 'pool', 'broker', 'count'), PLACES)
def test_random_canvases_mean_what_they_say(
    request: pytest.FixtureRequest, tmp_path: Path, store: str, pool: str, broker: str, count: int
) -> None:
    backend = request.getfixturevalue(f'{store}_url')
    urls = {'amqp': 'broker_url', 'redis': 'redis_url'}
    url = request.getfixturevalue(urls[broker]) if broker in urls else f'{broker}://'
    wanted = Wanted(depth=4)
    plans = drawn(count, wanted, f'{SEED}/{store}/{pool}/{broker}')
    project = Project('canvaslite', settings_of(url, backend, str(tmp_path)), str(tmp_path / 'record'))
    recorded = Recorded(project.record)
    try:
        with worker_of(project, pool):
            cases = check(project, [plan for plan, _ in plans], recorded)
            failed = [number for number, case in enumerate(cases) if case.verdict != RIGHT]
            if failed:
                number = min(failed, key=lambda number: len(cases[number].code))
                case = shrink(project, recorded, wanted, plans[number][1], cases[number].verdict) or cases[number]
                pytest.fail(f'{len(failed)} of {count} (seed {SEED}), the first of them made small: {report_of(case)}')
    finally:
        project.app.close()


def test_random_canvases_have_the_same_value_in_the_callers_process(tmp_path: Path) -> None:
    settings = {**settings_of('memory://', 'cache+memory://', str(tmp_path)), 'task_always_eager': True}
    project = Project('canvaslite', settings, str(tmp_path / 'record'))
    plans = [plan for plan, _ in drawn(500, Wanted(depth=4, faults=False), f'{SEED}/eager')]
    failed = [case for case in check_eagerly(project, plans) if case.verdict != RIGHT]
    project.app.close()
    assert not failed, report_of(min(failed, key=lambda case: len(case.code)))
