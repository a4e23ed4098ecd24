"""Drawing plans: all choices are made by one function, so that `random` as well as hypothesis may make them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from compat.random_canvases.meaning import Meaning
from compat.random_canvases.plans import ERRBACKS, MAPS, Plan

#: ``choose(n)``: a number below `n`. 0 is the plainest choice: what is shrunk tends to it.
Choose = Callable[[int], int]
#: Called with what draws a part: says which choices belong together.
Nest = Callable[[Callable[[], Plan]], Plan]

#: Limits of one canvas: tasks that it is drawn with, and characters of its value and of what its tasks are given.
MOST_TASKS = 28
LARGEST = 30_000


@dataclass(frozen=True)
class Wanted:
    """What is to be drawn."""

    depth: int = 4
    #: Whether tasks may fail, and errbacks be linked.
    faults: bool = True
    #: Whether tasks may be retried or replace themselves.
    restless: bool = True


class Drawer:
    """Draws one canvas."""

    def __init__(self, choose: Choose, wanted: Wanted, nest: Nest = lambda draw: draw()) -> None:
        self.choose = choose
        self.nest = nest
        self.wanted = wanted
        self.names = 0
        self.faults = False

    def canvas(self) -> Plan:
        """A whole canvas."""
        self.faults = self.wanted.faults and self.choose(2) == 1
        plan = self.node(self.wanted.depth)
        if self.one_in(8) and not plan.trip:
            plan = replace(plan, trip='freezing')
        return plan

    def one_in(self, many: int) -> bool:
        """Whether something that is seldom is the case."""
        return self.choose(many) == many - 1

    def name(self) -> str:
        self.names += 1
        return f't{self.names}'

    def pick(self, *options: str) -> str:
        return options[self.choose(len(options))]

    def node(self, depth: int, header: bool = False, follows: bool = False) -> Plan:
        """Anything; `header`: a member of a header; `follows`: something comes after it in its chain."""
        return self.nest(lambda: self._node(depth, header, follows))

    def _node(self, depth: int, header: bool, follows: bool) -> Plan:
        if depth <= 0 or self.names >= MOST_TASKS:
            return self.dress(self.task(depth, header or follows), depth)
        kind = self.pick('task', 'task', 'chain', 'group', 'chord', 'chain', 'chord', 'group', 'map')
        draw: Any = {'task': lambda: self.task(depth, header or follows), 'chain': lambda: self.chain(depth),
                     'group': lambda: self.group(depth), 'chord': lambda: self.chord(depth), 'map': self.map}[kind]
        return self.dress(draw(), depth)

    def task(self, depth: int, may_ignore: bool = False) -> Plan:
        """One task."""
        kinds = ['mark'] * 7 + ['nothing']
        if self.wanted.restless:
            kinds += ['again', 'become' if depth > 0 else 'mark']
        if self.faults:
            kinds += ['fail', self.pick('fail', 'exhaust', 'reject', 'ignore' if may_ignore else 'fail')]
        kind, name = self.pick(*kinds), self.name()
        if kind == 'become':
            return Plan(kind, name, body=self.node(depth - 1), count=self.choose(2))
        return Plan(kind, name, count=1 + self.choose(2) if kind == 'again' else 0)

    def map(self) -> Plan:
        """A map, starmap or chunks."""
        called = ['mark', 'mark', 'again' if self.wanted.restless else 'mark', 'fail' if self.faults else 'mark']
        kind, spelling = self.pick('map', 'starmap', 'chunks'), self.pick(*called)
        return Plan(kind, self.name(), count=1 + self.choose(4), spelling=spelling)

    def chain(self, depth: int) -> Plan:
        """A chain of one to four steps."""
        count = (2, 3, 4, 1)[self.choose(4)]
        steps = [self.step(depth, place < count - 1) for place in range(count)]
        if (count == 1 and steps[0].kind not in ('chord', 'mark')) or all(map(_is_empty, steps)):
            steps = [Plan('mark', self.name())]
        if _is_empty(steps[-1]) and any(node.kind == 'ignore' for step in steps for node in step.nodes()):
            steps.append(Plan('mark', self.name()))  # what raises Ignore would be the end, and stay as it is
        spelling = self.pick('call', 'pipe', 'list', 'generator', 'right')
        if spelling in ('pipe', 'right') and any(map(_is_empty, steps)):
            spelling = 'call'  # `group([]) | t` is a chord without header
        return Plan('chain', parts=tuple(steps), spelling=spelling)

    def step(self, depth: int, follows: bool) -> Plan:
        if self.one_in(24):
            return Plan('group', self.name(), spelling=self.pick('list', 'generator') if not follows else 'list')
        return self.node(depth - 1, follows=follows)

    def members(self, depth: int, header: bool) -> tuple[Plan, ...]:
        return tuple(self.node(depth - 1, header=header) for _ in range((2, 3, 1, 4)[self.choose(4)]))

    def group(self, depth: int) -> Plan:
        """A group of one to four members."""
        return Plan('group', self.name(), parts=self.members(depth, False),
                    spelling=self.pick('list', 'arguments', 'generator'))

    def chord(self, depth: int) -> Plan:
        """A chord, sometimes without header."""
        members = () if self.one_in(16) else self.members(depth, True)
        body = self.node(depth - 1)
        spelling = self.pick('list', 'pipe', 'group', 'generator', 'generator group', 'body')
        if spelling == 'pipe' and (not members or _is_one(body)):
            spelling = 'list'  # a group of one beside `|` is its member
        return Plan('chord', self.name(), parts=members, body=body, spelling=spelling)

    def dress(self, plan: Plan, depth: int) -> Plan:
        """`plan` with links, errbacks, partial arguments and so on."""
        if _is_empty(plan):
            return plan
        links, errbacks = self.links(plan, depth), self.errbacks(depth)
        partial = (self.name(),) if plan.kind not in MAPS and self.one_in(12) else ()
        return replace(plan, links=links, errbacks=errbacks, partial=partial, stamped=self.one_in(16),
                       immutable=self.one_in(10),
                       trip=self.pick('clone', 'json', 'dict', 'pickle') if self.one_in(10) else '')

    def links(self, plan: Plan, depth: int) -> tuple[Plan, ...]:
        if not self.one_in(10):
            return ()
        first = last = plan
        while first.kind == 'group' and first.parts:
            first = first.parts[0]
        while last.kind in ('chain', 'chord'):
            last = last.body or next(step for step in reversed(last.parts) if not _is_empty(step))
        # Whether a group of one at the end is its member, whose value a link gets, is said when it is sent.
        if _is_empty(first) or (last is not plan and _is_one(last)):
            return ()
        return tuple(self.harmless(depth) for _ in range(1 + self.choose(2)))

    def errbacks(self, depth: int) -> tuple[Plan, ...]:
        if not (self.faults and self.one_in(5)):
            return ()
        kind = self.pick(*ERRBACKS, 'canvas')
        if kind == 'canvas':
            return (self.harmless(depth),)
        return (Plan(kind, self.name(), immutable=self.one_in(6) and kind != 'told_all'),)

    def harmless(self, depth: int) -> Plan:
        """A small canvas that does not fail."""
        faults, self.faults = self.faults, False
        try:
            return self.node(min(depth - 1, self.choose(3)))
        finally:
            self.faults = faults


def _is_empty(plan: Plan) -> bool:
    return plan.kind == 'group' and not plan.parts


def _is_one(plan: Plan) -> bool:
    return (plan.kind == 'group' and len(plan.parts) < 2) or (plan.kind == 'chunks' and plan.count < 3)


def fits(plan: Plan) -> bool:
    """Whether its tasks are given no more than is reasonable."""
    meaning = Meaning()
    outcome = meaning.send(plan)
    given = sum(len(inputs) * count for (_, inputs), count in meaning.runs.items())
    return given + len(repr(outcome)) < LARGEST and len(json.dumps(repr(plan))) < LARGEST


def draw_plan(generator: random.Random, wanted: Wanted) -> tuple[Plan, list[int]]:
    """A plan, and the choices that lead to it."""
    while True:
        choices: list[int] = []

        def choose(below: int, choices: list[int] = choices) -> int:
            choices.append(generator.randrange(below))
            return choices[-1]

        plan = Drawer(choose, wanted).canvas()
        if fits(plan):
            return plan, choices


@st.composite
def plans(draw: Any, wanted: Wanted) -> Plan:
    """Plans as a strategy: each choice is one of hypothesis's, so the choices of `draw_plan` are such a plan's."""
    drawer = Drawer(lambda below: draw(st.integers(0, below - 1)), wanted)
    drawer.nest = lambda part: draw(_part(drawer, part))
    return drawer.canvas()


@st.composite
def _part(draw: Any, drawer: Drawer, part: Callable[[], Plan]) -> Plan:
    """What `part` draws, as a strategy of its own: hypothesis tries to put a part in the place of what it is in."""
    before, drawer.choose = drawer.choose, lambda below: draw(st.integers(0, below - 1))
    try:
        return part()
    finally:
        drawer.choose = before
