"""Fixing the ids of a canvas before it runs, so that whoever runs a part of it knows the others.

A chain is brought into the form in which it travels (`lay_out`): a flat list of steps, each a task or a chord, only
the last may be a group. What a caller holds keeps its shape; only copies made to be run are rebuilt.

Freezing goes through all of a canvas, which may be nested deeper than Python's stack: the method ``freezing`` of a
canvas is a generator that yields the ``freezing`` of each canvas in it and is sent its result; `drive` runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import pairwise
from typing import Any

from canvaslite.canvas.members import ends_in_group, is_empty_group, is_signature, unroll_groups, with_partials
from canvaslite.canvas.signatures import Signature, maybe_signature, own_app
from canvaslite.canvas.steps import make_chord
from canvaslite.canvas.strict import joined
from canvaslite.utils.functional import maybe_list
from canvaslite.utils.uuid import uuid
from canvaslite.wire import ACCUMULATE

Freezing = Generator[Any, Any, Any]


def lay_out(tasks: Iterable[Any], revive: Callable[[Any], Any], copy: bool, split: bool) -> list[Any]:
    """The steps of a chain as they travel, the last one first; with `copy` copies, else the signatures themselves.

    With `split` a chord keeps of a chain as its body the first step only, as each message of the header carries it;
    the others stand beside the chord.
    """
    flat = _spread(tasks, revive, copy, split)
    reversed_steps: list[Any] = []
    for step in reversed(flat):
        step = joined(step) if (copy or split) and step.KIND == 'group' else step
        if reversed_steps and ends_in_group(step):
            step = lead_into(step, reversed_steps.pop())
        reversed_steps.append(step)
    return reversed_steps


def _spread(tasks: Iterable[Any], revive: Callable[[Any], Any], copy: bool, split: bool) -> list[Any]:
    """Steps without chains, groups of one and empty groups among them; if there is nothing else, one empty group."""
    flat: list[Any] = []
    empty: Any = None
    pending = [(task, copy) for task in reversed(list(tasks))]
    while pending:
        step, copy_it = pending.pop()
        step = unroll_groups(step if is_signature(step) else revive(step))
        if step.KIND == 'chain':
            says_more = split and (step['options'] or step['args'] or step['immutable'])
            steps = step.unchain_tasks() if copy_it or says_more else step.tasks
            pending.extend((task, False) for task in reversed(steps))
        elif is_empty_group(step):
            empty = step.clone() if copy_it else step
        else:
            step = step.clone() if copy_it else step
            rest = _split_body(step) if split and step.KIND == 'chord' else None
            if rest is None:
                flat.append(step)
            else:
                pending.extend((task, False) for task in reversed((step, *rest)))
    return flat or ([empty] if empty is not None else [])


def _split_body(chord: Any) -> list[Any] | None:
    """Leave `chord`, changed in place, the first step of its body; returns the others, None if it has to stay whole."""
    body = chord.body
    if body is None or body.KIND != 'chain' or not body['kwargs']['tasks']:
        return None
    if unroll_groups(body['kwargs']['tasks'][0]).KIND == 'group':
        return None
    first, *rest = body.unchain_tasks()
    chord.body = unroll_groups(first)
    if rest:  # what is linked to the chord is linked to its end, and each step tells its errbacks
        for callback in maybe_list(chord['options'].pop('link', None)) or ():
            rest[-1].link(callback)
        for errback in maybe_list(chord['options'].get('link_error')) or ():
            for step in rest:
                step.link_error_of_chain(maybe_signature(errback, app=own_app(chord), clone=True))
    return rest


def lead_into(step: Any, following: Any) -> Any:
    """`step`, which ends in a group, maybe of one, with `following` run once, on the list of that group."""
    step = step.group() if step.KIND == 'chunks' else step
    if step.KIND == 'group':
        chord = make_chord(step, following)
        chord['kwargs']['header'] = step  # the group itself, so that its id and its members' are fixed in it
        return chord
    if step.KIND == 'chord':
        return step.with_body(lead_into(step.body, following), keep_header=True)
    *before, last = step['kwargs']['tasks']
    while is_empty_group(last):
        *before, last = before
    return step.with_steps([*before, lead_into(unroll_groups(last), following)])


def drive(freezing: Freezing) -> Any:
    """The result of a ``freezing``, and of all that it waits for."""
    running, result = [freezing], None
    while running:
        try:
            running.append(running[-1].send(result))
            result = None
        except StopIteration as stop:
            running.pop()
            result = stop.value
    return result


def freezing_steps(reversed_steps: list[Any], root_id: str | None, **of_end: Any) -> Freezing:
    """Freeze the steps that `lay_out` made, the last one with `of_end`; their results, each with its parent."""
    results: list[Any] = []
    for step in reversed_steps:
        results.append(step.freeze(root_id=root_id, **of_end) if step.KIND == 'task'
                       else (yield step.freezing(root_id=root_id, **of_end)))
        of_end = {}
    for result, before in pairwise(results):
        first_ancestor(result).parent = before
    return results


def freezing_members(members: list[Any], disposable: bool, start: int = 0, **options: Any) -> Freezing:
    """Freeze members of a group, each with its place, from `start` on; their results. `disposable` ones are used up."""
    results: list[Any] = []
    for index, member in enumerate(members, start):
        if member.KIND == 'task':
            results.append(member.freeze(group_index=index, **options))
            continue
        member._fresh = True
        if disposable:
            member._disposable = True
        results.append((yield member.freezing(group_index=index, **options)))
    return results


def first_ancestor(result: Any) -> Any:
    """The result at the beginning of what `result` comes from."""
    while result.parent is not None:
        result = result.parent
    return result


def flatten_members(members: Iterable[Any], revive: Callable[[Any], Any], copy: bool,
                    limit: int | None = None) -> list[Any]:
    """The members with groups (and chunks) among them replaced by theirs, in order; empty chains are left out.

    Where a group has a `limit`, its members have the option `window`, the same for all: a name, and the (lowest) limit.
    """
    flat: list[Any] = []
    pending: list[tuple[Iterator[Any], Any, Any, Any]] = [(iter(members), _window(None, limit), (), {})]
    while pending:
        within, window, args, kwargs = pending[-1]
        for member in within:
            if not is_signature(member):
                member = revive(member)
            elif copy and member.KIND == 'task':
                member = member.clone()
            if member.KIND == 'group' or member.KIND == 'chunks':
                inner = member.group() if member.KIND == 'chunks' else member
                limit = inner['options'].get('max_concurrency')
                pending.append((iter(inner['kwargs']['tasks']), _window(window, limit), *inner.partials(args, kwargs)))
                break
            if member.KIND == 'chain' and not member['kwargs']['tasks']:
                continue
            flat.append(with_partials(member.clone() if copy and member.KIND != 'task' else member, args, kwargs))
            if window is not None:
                flat[-1] = member = with_one_result(flat[-1])
                member['options']['window'] = window
        else:
            pending.pop()
    return flat


def _window(outer: list[Any] | None, limit: int | None) -> list[Any] | None:
    if outer is None:
        return [uuid(), limit] if limit else None
    outer[1] = min(outer[1], limit or outer[1])
    return outer


def with_one_result(sig: Any) -> Any:
    """`sig` with a group at its end joined to one list, so that one task ends it."""
    return lead_into(sig, Signature(ACCUMULATE, (), {'index': 0}, app=own_app(sig))) if ends_in_group(sig) else sig


def add_header(sig: Any, name: str, value: str) -> None:
    """Add a header to the message of the task that ends `sig`."""
    while sig.KIND in ('chain', 'chord'):
        sig = sig.body if sig.KIND == 'chord' else sig['kwargs']['tasks'][-1]
    sig['options']['headers'] = {**(sig['options'].get('headers') or {}), name: value}


def bind_end(sig: Any, group_id: str | None, chord: Any) -> None:
    """Make the tasks in which `sig` ends members of a chord, or of none when `chord` is None."""
    pending = [sig]
    while pending:
        sig = pending.pop()
        if sig.KIND == 'chain':
            pending.extend(sig['kwargs']['tasks'][-1:])
        elif sig.KIND == 'chord':
            pending.extend(filter(None, [sig.body]))
        elif chord is None:
            sig['options'].pop('chord', None)
        else:
            sig['options']['chord'] = chord
            sig['options'].setdefault('group_id', group_id)
        if sig.KIND == 'group':
            pending.extend(sig['kwargs']['tasks'])
