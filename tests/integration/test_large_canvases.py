"""Long chains, large chords and deep nestings on a real worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import canvaslite
from canvaslite import chain, chord, group


def cpu_seconds(pids: list[int]) -> float:
    """CPU time that these processes have used."""
    ticks = 0
    for pid in pids:
        with open(f'/proc/{pid}/stat') as file:
            fields = file.read().rpartition(')')[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf('SC_CLK_TCK')


@pytest.mark.alone
def test_a_step_of_a_long_chain_costs_its_children_little_more_than_one_of_a_short_chain(
        project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    worker = start_project_worker()
    children = worker.children()

    def run(links: int, times: int) -> float:
        before = cpu_seconds(children)
        results = [chain(*[project.add.s(1) for _ in range(links)]).apply_async((0,)) for _ in range(times)]
        assert [result.get(timeout=120) for result in results] == [links] * times
        return cpu_seconds(children) - before

    run(10, 10)
    short, long = run(10, 100), run(1000, 1)
    # Decoding and encoding all the rest at each step makes it 10 times as much.
    assert long < 4 * short


def test_a_chord_of_5000_joins(project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    start_project_worker()
    result = chord((project.add.s(number, 1) for number in range(5000)), project.total.s()).apply_async()
    assert result.get(timeout=120) == sum(range(1, 5001))


@pytest.mark.parametrize('wrap', [
    lambda p, inner: chord([inner, p.add.s(1)], p.total.s()),
    lambda p, inner: chain(p.add.s(1), group([inner, p.add.s(1)]), p.total.s()),
    lambda p, inner: chord([p.add.s(1)], chain(p.total.s(), inner)),
], ids=['in headers', 'in groups of chains', 'in bodies'])
def test_a_canvas_nested_100_deep_has_its_value(
        wrap: Callable[..., Any], project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    start_project_worker()
    canvas = project.add.s(1)
    for _ in range(100):
        canvas = wrap(project, canvas)
    expected = canvas.apply((0,)).get()
    assert canvas.apply_async((0,)).get(timeout=120) == expected


def test_a_group_after_a_long_chain_carries_its_rest_to_the_body(
        project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    start_project_worker()
    steps: list[canvaslite.Signature] = [project.add.s(1) for _ in range(60)]
    steps[30:30] = [group([project.add.s(1), project.add.s(1)]), project.total.s()]
    assert chain(*steps).apply_async((0,)).get(timeout=60) == 2 * 31 + 30
