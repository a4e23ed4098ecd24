"""What a plan means: the value of its result, or its error, and every run of a task on the way.

This is an interpreter of plans, written from the meaning of canvases alone. It imports neither package.

- A task gets its input before its partial arguments; an immutable one gets only the latter.
- The value of a group is the list of its members' values; a group directly inside a group or header is its members.
- In a chain a group of one is its member, unless it stands before ``|``, an empty group nothing; what follows a group
  gets the list. A group that is sent and has one member that ends in a group is that group.
- A task that raises ``Ignore`` has no value: what depends on it fails, without errbacks.
- A link of a chain is its last step's, of a chord the body's, of a group (without a value) the first member's. An
  errback of a chain is each step's, of a group each member's, of a chord the body's. Each runs once for each task that
  it is linked to and that fails or, as a body, does not run as the header has failed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compat.random_canvases.plans import ERRBACKS, MAPS, Plan

#: What stands for ids, requests and errors, which cannot be known beforehand.
UNKNOWN = '#'


@dataclass(frozen=True)
class Failed:
    """A result that is an error of this type, which names the task that failed."""

    error: str
    name: str


class Many(list[Any]):
    """Outcomes of what runs side by side."""


class Meaning:
    """Interprets one plan; `runs` counts the runs of each task by its name and input."""

    def __init__(self) -> None:
        self.runs: Counter[tuple[str, str]] = Counter()

    def send(self, plan: Plan) -> Any:
        """The outcome of `plan` when it is sent as it is."""
        outcome = self.run(plan)
        is_group = plan.kind == 'group' or (
            plan.kind == 'chain' and [step.kind for step in steps_of(plan)] == ['group'])
        return outcome[0] if is_group and len(outcome) == 1 and isinstance(outcome[0], Many) else outcome

    def run(self, plan: Plan, inputs: Sequence[Any] = (), links: Sequence[Plan] = (),
            errbacks: Sequence[Plan] = ()) -> Any:
        """The outcome of `plan` with this input: a value, `Failed`, or `Many`.

        `links` and `errbacks` are those of the canvases that it is the end of, or a step of.
        """
        inputs = (*(() if plan.immutable else inputs), *plan.partial)
        links, errbacks = [*links, *plan.links], merged(errbacks, plan)
        if plan.kind == 'chain':
            return self._run_chain(units_of(steps_of(plan, dressed=False)), inputs, links, errbacks)
        if plan.kind == 'chord':
            return self._run_chord(plan, inputs, links, errbacks)
        if plan.kind in ('group', 'chunks'):
            return self._run_members(members_of(replace(plan, links=(), errbacks=())), inputs, links, errbacks)
        return self._run_task(plan, inputs, links, errbacks)

    def _run_members(self, members: Sequence[Plan], inputs: Sequence[Any], links: Sequence[Plan] = (),
                     errbacks: Sequence[Plan] = ()) -> Any:
        quiet = [silent(link) for link in links]
        return Many(self.run(member, inputs, () if place else quiet, errbacks)
                    for place, member in enumerate(members))

    def _run_chain(self, units: Sequence[Plan], inputs: Sequence[Any], links: Sequence[Plan],
                   errbacks: Sequence[Plan]) -> Any:
        if not units:
            return Many()
        outcome: Any = None
        for place, unit in enumerate(units):
            outcome = self.run(unit, inputs, links if place == len(units) - 1 else (), errbacks)
            if isinstance(outcome, Failed):
                return shape_of(units[-1], outcome)
            inputs = (outcome,)
        return outcome

    def _run_chord(self, plan: Plan, inputs: Sequence[Any], links: Sequence[Plan], errbacks: Sequence[Plan]) -> Any:
        assert plan.body is not None
        header = self._run_members(members_of(plan), inputs)
        failed = first_failed(header)
        if failed is not None:
            return self._fail_body(plan.body, Failed('ChordError', failed.name), errbacks)
        return self.run(plan.body, (as_value(header),), links, errbacks)

    def _fail_body(self, plan: Plan, failed: Failed, errbacks: Sequence[Plan]) -> Any:
        """What becomes of a body whose header has failed."""
        errbacks = merged(errbacks, plan)
        if plan.kind in ('group', 'chunks'):
            members = members_of(replace(plan, links=(), errbacks=()))
            return Many(self._fail_body(member, failed, errbacks) for member in members)
        if plan.kind == 'chord':
            assert plan.body is not None
            return self._fail_body(plan.body, failed, errbacks)
        if plan.kind == 'chain':
            units = units_of(steps_of(plan, dressed=False))
            if units:
                self._fail_body(units[0], failed, errbacks)
            return shape_of(units[-1], failed) if units else Many()
        self._call(errbacks)
        return failed

    def _run_task(self, plan: Plan, inputs: Sequence[Any], links: Sequence[Plan], errbacks: Sequence[Plan]) -> Any:
        if plan.kind in MAPS:
            value: Any = self._run_job(plan)
        elif plan.kind == 'become':
            assert plan.body is not None
            self._note(plan.name, inputs)
            return self.run(with_one_result(plan.body), inputs if plan.count else (), links, errbacks)
        else:
            value = self._do(plan.kind, plan.name, inputs, plan.count)
        if not isinstance(value, Failed):
            for link in links:
                self.run(link, (value,))
        elif value.error != 'Ignore':
            self._call(errbacks)
        return value

    def _run_job(self, plan: Plan) -> Any:
        """A map: its calls, until one fails. When one is retried, all are."""
        names = plan.calls()
        if plan.spelling == 'again':
            self._note(names[0], ())
        values = []
        for name in names:
            value = self._do('mark' if plan.spelling == 'again' else plan.spelling, name, ())
            if isinstance(value, Failed):
                return value
            values.append(value)
        return values

    def _do(self, kind: str, name: str, inputs: Sequence[Any], times: int = 0) -> Any:
        if kind == 'give':
            return inputs[0]
        for _ in range({'again': times + 1, 'exhaust': 2}.get(kind, 1)):
            self._note(name, inputs)
        if kind in ('fail', 'exhaust'):
            return Failed('ValueError', name)
        if kind == 'reject':
            return Failed('Reject', name)
        if kind == 'ignore':
            return Failed('Ignore', name)
        return None if kind == 'nothing' else [name, *inputs]

    def _call(self, errbacks: Iterable[Plan]) -> None:
        for errback in errbacks:
            # A task that takes several arguments is called with all that is known, right where the failure is handled.
            called = errback.kind in ('told_all', 'mark', 'nothing')
            told = (UNKNOWN,) * (3 if called else 1)
            if called or errback.kind in ERRBACKS:
                self._note(errback.name, (*(() if errback.immutable else told), *errback.partial))
            else:
                self.run(errback, told)

    def _note(self, name: str, inputs: Sequence[Any]) -> None:
        self.runs[name, json.dumps(as_value(list(inputs)))] += 1


def merged(errbacks: Sequence[Plan], plan: Plan) -> list[Plan]:
    """The errbacks from above and its own, each once."""
    return [*errbacks, *(errback for errback in plan.errbacks if errback not in errbacks)]


def silent(link: Plan) -> Plan:
    """A link that gets no value."""
    return replace(link, immutable=True)


def as_value(outcome: Any) -> Any:
    """An outcome as what follows is given it."""
    return [as_value(part) for part in outcome] if isinstance(outcome, list) else outcome


def first_failed(outcome: Any) -> Failed | None:
    """The first failure in order."""
    if isinstance(outcome, Failed):
        return outcome
    parts = outcome if isinstance(outcome, list) else ()
    return next(filter(None, map(first_failed, parts)), None)


# -- what runs side by side, and one after another --------------------------------------------------------------------

def dressed(plan: Plan, outer: Plan) -> Plan:
    """`plan` with the input, links and errbacks that are `outer`'s, which is a canvas that begins and ends with it."""
    return replace(begun(plan, outer), links=(*plan.links, *outer.links), errbacks=tuple(merged(plan.errbacks, outer)))


def begun(plan: Plan, outer: Plan) -> Plan:
    """`plan` with the input that is `outer`'s."""
    if plan.immutable:
        return plan
    return replace(plan, partial=(*outer.partial, *plan.partial), immutable=outer.immutable)


def members_of(plan: Plan) -> list[Plan]:
    """The members of a group, header or chunks, those of groups among them in their place."""
    flat: list[Plan] = []
    for member in plan.jobs() if plan.kind == 'chunks' else plan.parts:
        if member.kind == 'chain' and [step.kind for step in steps_of(member)] in (['group'], ['chunks']):
            member = steps_of(member)[0]  # a chain of nothing but a group is the group
        if member.kind not in ('group', 'chunks'):
            flat.append(member)
            continue
        inner = members_of(replace(member, partial=(), links=(), errbacks=(), immutable=False))
        for place, part in enumerate(inner):
            links = () if place else tuple(map(silent, member.links))
            flat.append(dressed(part, replace(member, links=links)))
    return flat


def steps_of(plan: Plan, dressed: bool = True) -> list[Plan]:
    """The steps of a chain, those of chains among them in their place, without groups of one and empty groups."""
    flat: list[Plan] = []
    before_pipe = {'pipe': 1, 'right': 2 if len(plan.parts) > 2 else 0}.get(plan.spelling, 0)
    for place, step in enumerate(plan.parts):
        # Before `|` a group is the header of a chord, however many members it has.
        flat.extend([step] if place < before_pipe and step.kind in ('group', 'chunks') else _spread(step))
    if dressed and flat:
        flat = units_of(flat)
        flat[0] = begun(flat[0], plan)
        flat[-1] = replace(flat[-1], links=(*flat[-1].links, *plan.links))
        flat = [replace(step, errbacks=tuple(merged(step.errbacks, plan))) for step in flat]
    return flat


def _spread(step: Plan) -> list[Plan]:
    if step.kind == 'chain':
        return steps_of(step)
    members = step.jobs() if step.kind == 'chunks' else step.parts
    if step.kind in ('group', 'chunks') and len(members) <= 1:
        quiet = replace(step, links=tuple(map(silent, step.links)))
        return [inner for member in members for inner in _spread(dressed(member, quiet))]
    return [step]


def units_of(steps: Sequence[Plan]) -> list[Plan]:
    """Steps, with what follows a group as the body of a chord."""
    units: list[Plan] = []
    for step in steps:
        if units and ends_in_group(units[-1]):
            units[-1] = joined(units[-1], step)
        else:
            units.append(step)
    return units


def ends_in_group(plan: Plan) -> bool:
    """Whether its outcome is `Many`."""
    if plan.kind == 'chord':
        assert plan.body is not None
        return ends_in_group(plan.body)
    if plan.kind == 'chain':
        units = units_of(steps_of(plan))
        return not units or ends_in_group(units[-1])
    return plan.kind in ('group', 'chunks')


def joined(plan: Plan, following: Plan) -> Plan:
    """`plan`, which ends in a group, with `following` run once, on the list."""
    if plan.kind == 'chord':
        assert plan.body is not None
        errbacks = tuple(merged(plan.body.errbacks, plan))
        body = joined(replace(plan.body, links=(*plan.body.links, *plan.links), errbacks=errbacks), following)
        return replace(plan, body=body, links=(), errbacks=())
    if plan.kind == 'chain':
        return Plan('chain', parts=(*steps_of(plan), following))
    return Plan('chord', parts=(plan,), body=following)


def with_one_result(plan: Plan) -> Plan:
    """What replaces a task: a group at its end is joined to one list, which is the value of a chain for its links."""
    if not ends_in_group(plan):
        return plan
    if plan.kind == 'chain':
        *before, last = units_of(steps_of(plan, dressed=False)) or [Plan('group')]
        return replace(plan, parts=(*before, joined(last, Plan('give'))), spelling='')
    return joined(plan, Plan('give'))


def shape_of(plan: Plan, failed: Failed) -> Any:
    """The outcome of `plan` when it is not run as something before it has failed."""
    if plan.kind in ('group', 'chunks'):
        return Many(shape_of(member, failed) for member in members_of(plan))
    if plan.kind == 'chord':
        assert plan.body is not None
        return shape_of(plan.body, failed)
    if plan.kind == 'chain':
        units = units_of(steps_of(plan))
        return shape_of(units[-1], failed) if units else Many()
    return failed
