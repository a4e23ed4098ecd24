"""What is sent is run, and what is run has its result, once, whatever happens on the road."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canvaslite import chain, chord, group

TASKS = 10_000


def results_of(app: Any, results: list[Any], timeout: float) -> list[Any]:
    return app.ResultSet(results).join_native(timeout=timeout)


def test_plain_canvases_have_their_values(project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    start_project_worker()
    add, collect, total = project.add, project.collect, project.total
    assert add.delay(2, 2).get(timeout=60) == 4
    assert chain(add.s(1, 2), add.s(3)).delay().get(timeout=60) == 6
    assert (add.s(1, 2) | add.s(3) | add.s(4)).apply_async().get(timeout=60) == 10
    assert group(add.s(i, i) for i in range(10))().get(timeout=60) == [2 * i for i in range(10)]
    assert chord((add.s(i, i) for i in range(10)), total.s())().get(timeout=60) == 90
    assert chord([chain(add.s(i, i), add.s(1)) for i in range(4)], collect.s()).delay().get(timeout=60) == [1, 3, 5, 7]
    assert (group(add.s(1, 1), add.s(2, 2)) | collect.s()).delay().get(timeout=60) == [2, 4]
    assert chain(add.s(1, 1), group(add.s(1), add.s(2)), total.s()).delay().get(timeout=60) == 7
    assert group([chain(add.s(1, 1), group(add.s(1), add.s(2)))]).delay().get(timeout=60) == [3, 4]
    assert chord([chord([add.s(1, 1), add.s(2, 2)], total.s()), add.s(1, 0)], collect.s()).delay().get(timeout=60) == [
        6,
        1,
    ]
    assert add.chunks([(i, i) for i in range(6)], 2).apply_async().get(timeout=60) == [[0, 2], [4, 6], [8, 10]]
    assert project.identity.map([1, 2, 3]).delay().get(timeout=60) == [1, 2, 3]
    assert add.starmap([(1, 2), (3, 4)]).delay().get(timeout=60) == [3, 7]


def test_ten_thousand_tasks_run_once_each_through_a_warm_shutdown_and_a_restart(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    worker, record = start_project_worker(), tmp_path / 'record'
    results = [project.record.delay(str(record), i) for i in range(TASKS // 4)]
    project.stop_worker.delay()
    results += [project.record.delay(str(record), i) for i in range(TASKS // 4, TASKS // 2)]
    assert worker.wait() == 0
    assert len(record.read_text().splitlines()) < TASKS // 2, 'it was stopped in the middle'
    results += [project.record.delay(str(record), i) for i in range(TASKS // 2, TASKS)]
    start_project_worker()
    assert results_of(project.app, results, timeout=180) == list(range(TASKS))
    assert Counter(map(int, record.read_text().splitlines())) == dict.fromkeys(range(TASKS), 1)


def test_every_result_is_there_although_all_connections_are_closed_three_times(
    project: ModuleType, start_project_worker: Callable[..., Any], rabbitmqctl: Callable[..., str]
) -> None:
    project.app.conf.broker_transport_options = {'confirm_publish': True}
    worker = start_project_worker()
    results: list[Any] = []
    closed = [threading.Event() for _ in range(3)]

    def close_connections() -> None:
        for event in closed:
            event.wait(60)
            rabbitmqctl('close_all_connections', 'the test says so')

    closing = threading.Thread(target=close_connections)
    closing.start()
    for i in range(TASKS):
        results.append(project.add.delay(i, 1))
        if i in (1000, 4000, 7000):
            closed[(1000, 4000, 7000).index(i)].set()
    closing.join(60)
    assert results_of(project.app, results, timeout=180) == [i + 1 for i in range(TASKS)]
    assert worker.process.poll() is None


def test_a_second_interrupt_stops_the_worker_at_once(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker('-c', '1')
    project.sleep.delay(60)
    worker.await_line(r'sleep\[.*received')
    worker.signal(signal.SIGINT)
    worker.await_line('[Ww]arm shutdown')
    worker.signal(signal.SIGINT)
    assert worker.wait(15) != 0, 'the exit status says that it was not a warm stop'


@pytest.mark.parametrize('pool', ['prefork', 'threads', 'solo'])
def test_a_canvas_runs_on_every_pool(pool: str, project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    start_project_worker('-P', pool)
    assert (
        chord([chain(project.add.s(i, i), project.add.s(1)) for i in range(5)], project.total.s())
        .delay()
        .get(timeout=60)
        == 25
    )
    with pytest.raises(ValueError, match='wrong'):
        project.fail.delay().get(timeout=60)
    assert project.succeed_after.delay(2).get(timeout=60) == 2


def test_the_first_tasks_of_a_header_run_while_a_generator_makes_the_others(
    project: ModuleType, start_project_worker: Callable[..., Any], tmp_path: Path
) -> None:
    start_project_worker()
    record = tmp_path / 'record'

    def header() -> Iterator[Any]:
        for number in range(4):
            if number == 2:  # the first two were not made in one moment
                until = time.monotonic() + 20
                while not record.exists():
                    assert time.monotonic() < until, 'nothing ran before the generator had ended'
                    time.sleep(0.05)
            time.sleep(0.1)
            yield chain(project.record.s(str(record), number), group(project.identity.s(), project.identity.s()))

    canvas = chord(header(), project.collect.s())
    assert canvas().get(timeout=60) == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert canvas().get(timeout=60) == [[0, 0], [1, 1], [2, 2], [3, 3]], 'the second time there is no generator left'


@pytest.mark.parametrize('body', ['a task', 'a group'])
def test_who_awaits_a_chord_gets_the_error_that_tells_why_it_failed(
    project: ModuleType, start_project_worker: Callable[..., Any], body: str
) -> None:
    start_project_worker()
    after = project.constant.si() if body == 'a task' else group(project.constant.si(), project.constant.si())
    result = chain(group(project.add.s(1, 1), project.fail.si('why')), after).apply_async()
    with pytest.raises(ValueError, match='why'):
        result.get(timeout=60)
