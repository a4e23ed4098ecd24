"""That an atomic step is one: real processes, all at once, at one chord after another.

The model lets one process after another do its steps. Whether a store does a step alone is seen only here.
"""

from __future__ import annotations

import multiprocessing
import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from canvaslite import Celery, states
from canvaslite.backends.chords import CLAIMED, Opening, Part

fork = multiprocessing.get_context('fork')

PROCESSES, CHORDS, SLOTS = 8, 12, 6


@pytest.fixture
def make_store(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """Make an app on the store of that name."""
    def make(name: str) -> Any:
        url = request.getfixturevalue(f'{name}_url')
        return Celery('stress', set_as_current=False, broker='memory://', backend=url)

    return make


def hammer(app: Any, parts: list[Part], seed: int, begin: Any, found: Any) -> None:
    """Return each part twice in an order of one's own, and say what was claimed."""
    mine = parts * 2
    random.Random(seed).shuffle(mine)
    join, claimed = app.backend.join, []
    begin.wait(30)
    for part in mine:
        report = join.part(part._replace(result=f'{part.result} of {seed}'))
        if report.status == CLAIMED:
            values = report.parts if report.parts is not None else join.parts(report.claim)
            claimed.append((part.group_id, [value.result for value in values]))
            assert join.finish(report.claim)
    found.put(claimed)


@pytest.mark.parametrize('store', ['redis', 'sqlite', 'postgresql', 'mysql', 'file', 'memcached'])
def test_of_processes_that_return_all_parts_twice_and_at_once_one_has_the_claim(
        store: str, make_store: Callable[[str], Any]) -> None:
    app = make_store(store)
    chords = [str(uuid.uuid4()) for _ in range(CHORDS)]
    parts = []
    for group_id in chords:
        ids = [str(uuid.uuid4()) for _ in range(SLOTS)]
        app.backend.join.open(Opening(group_id, SLOTS, {}, b'', [(task_id, place) for place, task_id in enumerate(ids)],
                                      None))
        parts += [Part(group_id, task_id, place, states.SUCCESS, place) for place, task_id in enumerate(ids)]
    begin, found = fork.Barrier(PROCESSES), fork.Queue()
    workers = [fork.Process(target=hammer, args=(app, parts, seed, begin, found)) for seed in range(PROCESSES)]
    for worker in workers:
        worker.start()
    claimed = [claim for _ in workers for claim in found.get(timeout=60)]
    for worker in workers:
        worker.join(60)
    app.close()

    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    assert sorted(group_id for group_id, _ in claimed) == sorted(chords)
    for _, values in claimed:
        assert [value.split()[0] for value in values] == [str(place) for place in range(SLOTS)]
