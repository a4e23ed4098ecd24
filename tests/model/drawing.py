"""Schedules that are drawn from a seed: where none is to be made smaller they are had faster than from hypothesis."""

from __future__ import annotations

import random

from tests.model.world import ACTIONS, PLANS, Lab, World

#: Of a chord that some version of Celery helps to run: the plans in which it keeps what the model demands.
PEERS_IN = {'5.7': ('flat', 'streamed', 'chained'), '5.6': ('flat',)}


def random_schedule(lab: Lab, seed: int, longest: int = 80) -> World:
    """Run one schedule. Raises `world.Violation`."""
    draw = random.Random(seed)
    world = World(lab, draw.choice(PLANS), requeues=draw.random() < 0.6)
    for _ in range(draw.randrange(longest)):
        world.act((draw.choice(ACTIONS), draw.randrange(60)))
    world.finish()
    return world
