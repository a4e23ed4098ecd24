"""Whatever dies, comes twice or comes late: every chord joins exactly once, on every store.

`world` says what a schedule is and what is demanded of it. MODEL_SCHEDULES=2000 in the environment runs as many per
store, drawn anew each time; without it there are a few, always the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model import mutants
from tests.model.drawing import PEERS_IN, random_schedule
from tests.model.world import ACTIONS, PLANS, Action, Lab, Plan, Violation, World

WANTED = int(os.environ.get('MODEL_SCHEDULES') or 0)
#: Schedules for each store: those that are slower get fewer.
SCHEDULES = {'memory': 250, 'file': 100, 'atomic': 100, 'redis': 120, 'memcached': 25, 'sqlite': 50, 'postgresql': 15,
             'mysql': 15, 'rpc': 6}
#: Schedules within which a mutant must be found out.
BUDGET = 400

actions = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 59)), max_size=80)


def profile(schedules: int) -> Callable[[Any], Any]:
    """How hypothesis runs: the same each time, unless more is wanted."""
    return settings(max_examples=WANTED or schedules, derandomize=not WANTED, database=None, deadline=None,
                    suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize('store', SCHEDULES)
def test_a_chord_joins_exactly_once_whatever_happens_to_its_processes(store: str, make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(store)

    @profile(SCHEDULES[store])
    @given(st.sampled_from(PLANS), actions, st.booleans())
    def run(plan: Plan, story: list[Action], requeues: bool) -> None:
        world = World(lab, plan, requeues=requeues)
        for action in story:
            world.act(action)
        world.finish()

    run()


@pytest.mark.parametrize('version', ['5.7', '5.6'])
def test_a_chord_joins_where_celery_runs_a_half_of_it(version: str, make_lab: Callable[..., Lab]) -> None:
    lab = make_lab('redis')

    @profile(60)
    @given(st.sampled_from([plan for plan in PLANS if plan.name in PEERS_IN[version]]), actions)
    def run(plan: Plan, story: list[Action]) -> None:
        world = World(lab, plan, (version,))
        for action in story:
            world.act(action)
        world.finish()

    run()


def crash_points(lab: Lab, plan: Plan, deaths: dict[int, str], requeues: bool) -> World:
    """One schedule in which nothing else happens but that processes die at those steps."""
    world = World(lab, plan, requeues=requeues)
    world.deaths = dict(deaths)
    world.settle()
    reached = world.steps
    world.finish()
    world.steps = reached
    return world


def deaths_of(steps: int, every: int) -> list[dict[int, str]]:
    """Every crash point, and every pair of them, of a schedule of so many steps; or one of so many of these."""
    # With the first death there are a few steps more.
    pairs = [{one: first, other: second} for one in range(1, steps + 1) for other in range(one, steps + 12)
             for first, second in (('kill', 'kill'), ('kill', 'crash'), ('crash', 'crash'))]
    return pairs[::every]


@pytest.mark.parametrize(('store', 'every'), [('memory', 1), ('redis', 10), ('file', 20), ('sqlite', 40),
                                              ('postgresql', 80), ('atomic', 1000), ('rpc', 200)])
def test_a_chord_joins_exactly_once_at_every_pair_of_crash_points(store: str, every: int, make_lab: Callable[..., Lab]
                                                                  ) -> None:
    lab = make_lab(store)
    steps = crash_points(lab, PLANS[0], {}, True).steps
    assert steps > 10
    for deaths in deaths_of(steps, 1 if WANTED and store != 'atomic' else every):
        crash_points(lab, PLANS[0], deaths, 'crash' in deaths.values())


def hunt(lab: Lab) -> Iterator[Callable[[], World]]:
    """Schedules, to be run until one breaks a promise: those in which nothing happens or one process dies, others."""
    yield partial(crash_points, lab, PLANS[0], {}, True)
    for step in range(1, 40):
        yield partial(crash_points, lab, PLANS[0], {step: 'crash'}, True)
    for seed in range(BUDGET):
        yield partial(random_schedule, lab, seed)


@pytest.mark.parametrize(('store', 'mutant'), [
    pytest.param(store, mutant, id=f'{store}: {name}') for (store, name), mutant in mutants.ALL.items()])
def test_the_model_finds_out_a_join_that_is_broken_by(store: str, mutant: Callable[[], AbstractContextManager[Any]],
                                                      make_lab: Callable[..., Lab]) -> None:
    lab = make_lab(store)
    tried: list[Callable[[], World]] = []
    with mutant(), pytest.raises(Violation):
        for schedule in hunt(lab):
            tried.append(schedule)
            schedule()
    tried[-1]()  # and the join as it is keeps what was demanded
