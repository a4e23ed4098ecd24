"""`Plan`: a canvas as data, and as the Python code that builds it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

#: What a task of the check does: see `project`.
TASKS = ('mark', 'nothing', 'fail', 'again', 'exhaust', 'reject', 'ignore', 'become')
#: Tasks that only errbacks are.
ERRBACKS = ('told_id', 'told_all', 'told_bound')
#: One job that calls a task for several items, and `chunks`, which is a group of such jobs.
MAPS = ('map', 'starmap', 'chunks')


@dataclass(frozen=True)
class Plan:
    """One node of a canvas: a task, a map, or a composite of other plans."""

    kind: str
    #: What its runs are recorded as; unique in the canvas.
    name: str = ''
    #: Steps of a chain, members of a group or of a chord's header.
    parts: tuple[Plan, ...] = ()
    #: What follows a chord's header, or what a task replaces itself with.
    body: Plan | None = None
    #: How often it is retried; how many items a map has; whether a replacement is given the task's own input.
    count: int = 0
    #: How it is written; the task that a map calls.
    spelling: str = ''
    partial: tuple[str, ...] = ()
    links: tuple[Plan, ...] = ()
    errbacks: tuple[Plan, ...] = ()
    stamped: bool = False
    immutable: bool = False
    #: What happens to it before it is used: copied, or written and read.
    trip: str = ''

    def nodes(self) -> Iterator[Plan]:
        """Itself and all plans in it."""
        yield self
        for part in (*self.parts, *filter(None, [self.body]), *self.links, *self.errbacks):
            yield from part.nodes()

    def items(self) -> list[str]:
        """Names of a map's calls."""
        return [f'{self.name}.{place}' for place in range(self.count)]

    def jobs(self) -> tuple[Plan, ...]:
        """The starmaps that chunks are a group of: two calls each."""
        names = self.items()
        return tuple(Plan('starmap', name=json.dumps(names[at:at + 2]), spelling=self.spelling)
                     for at in range(0, len(names), 2))

    def calls(self) -> list[str]:
        """Names of a map's calls, also for one that `jobs` made."""
        return json.loads(self.name) if self.name.startswith('[') else self.items()

    def __repr__(self) -> str:
        said = [f'{field.name}={getattr(self, field.name)!r}' for field in fields(self)[1:]
                if getattr(self, field.name) != field.default]
        return f'Plan({", ".join([repr(self.kind), *said])})'


def prefixed(plan: Plan, prefix: str) -> Plan:
    """The plan with `prefix` before all names, so that canvases can be told apart."""
    def all_of(plans: tuple[Plan, ...]) -> tuple[Plan, ...]:
        return tuple(prefixed(part, prefix) for part in plans)

    return replace(plan, name=prefix + plan.name, parts=all_of(plan.parts), links=all_of(plan.links),
                   errbacks=all_of(plan.errbacks), partial=tuple(prefix + value for value in plan.partial),
                   body=prefixed(plan.body, prefix) if plan.body else None)


# -- as code ------------------------------------------------------------------------------------------------------

def code_of(plan: Plan) -> str:
    """The expression that builds the canvas, in the namespace of a `project.Project`."""
    text = _CODE.get(plan.kind, _code_of_task)(plan)
    if plan.partial:
        text = f'{_operand(text)}.clone({plan.partial!r})'
    for errback in plan.errbacks:
        text = f'{_operand(text)}.on_error({code_of(errback)})'
    if plan.links:
        text = f'linked({", ".join([text, *map(code_of, plan.links)])})'
    if plan.stamped:
        text = f'{_operand(text)}.stamp(colour="red")'
    if plan.immutable and not text.startswith(f'{plan.kind}.si('):
        text = f'{_operand(text)}.set(immutable=True)'
    return {'': text, 'clone': f'{_operand(text)}.clone()'}.get(plan.trip, f'through_{plan.trip}({text})')


def _operand(text: str) -> str:
    return f'({text})' if ' ' in text and ' | ' in text else text


def _code_of_task(plan: Plan) -> str:
    immutable = plan.immutable and not (plan.partial or plan.links or plan.errbacks or plan.stamped)
    call = 'si' if immutable else 's'
    if plan.kind in ERRBACKS:
        return f'{plan.kind}.{call}(name={plan.name!r})'
    options = {'again': f', times={plan.count}'}.get(plan.kind, '')
    if plan.kind == 'become' and plan.body:
        options = f', by={code_of(plan.body)!r}, passes={bool(plan.count)}'
    return f'{plan.kind}.{call}({plan.name!r}{options})'


def _code_of_map(plan: Plan) -> str:
    names: Any = plan.items() if plan.kind == 'map' else [(name,) for name in plan.items()]
    size = ', 2' if plan.kind == 'chunks' else ''
    return f'{plan.spelling}.{plan.kind}({names!r}{size})'


def _code_of_chain(plan: Plan) -> str:
    steps = [code_of(step) for step in plan.parts]
    if plan.spelling == 'pipe' and len(steps) > 1:
        return '(' + ' | '.join(steps) + ')'
    if plan.spelling == 'right' and len(steps) > 2:
        return f'({steps[0]} | ({" | ".join(steps[1:])}))'
    if plan.spelling == 'generator':
        return f'chain(step for step in [{", ".join(steps)}])'
    if plan.spelling == 'list':
        return f'chain([{", ".join(steps)}])'
    return f'chain({", ".join(steps)})'


def _members(plan: Plan) -> str:
    members = '[' + ', '.join(code_of(member) for member in plan.parts) + ']'
    return f'(member for member in {members})' if 'generator' in plan.spelling else members


def _code_of_group(plan: Plan) -> str:
    if plan.spelling == 'arguments' and len(plan.parts) > 1:
        return f'group({_members(plan)[1:-1]})'
    return f'group({_members(plan)})'


def _code_of_chord(plan: Plan) -> str:
    assert plan.body is not None
    body = code_of(plan.body)
    if plan.spelling == 'pipe':
        return f'(group({_members(plan)}) | {body})'
    if 'group' in plan.spelling:
        return f'chord(group({_members(plan)}), {body})'
    return f'chord({_members(plan)}, body={body})' if plan.spelling == 'body' else f'chord({_members(plan)}, {body})'


_CODE = {'chain': _code_of_chain, 'group': _code_of_group, 'chord': _code_of_chord,
         **dict.fromkeys(MAPS, _code_of_map)}
