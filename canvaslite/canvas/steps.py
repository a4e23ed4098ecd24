"""The rules of ``|``: which canvas comes of one canvas followed by another.

- A chain stands for its steps, chunks for their group, a group of one for its member, an empty group for nothing.
- A group followed by something is a chord.
- What follows a chord belongs to its body, except where it can as well stand beside it: the list of steps stays flat
  that way, however many groups and tasks alternate.

``chain(a, b, c)`` and ``a | b | c`` go through the same rules. Nothing that the caller holds is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from canvaslite.canvas.members import (
    LazyMembers,
    ends_in_group,
    is_empty_group,
    is_signature,
    is_single,
    keeps_options,
    unroll_groups,
)


@dataclass(slots=True)
class Steps:
    """Steps of a chain being built.

    The first `owned` of them are held by no one but canvases; `shared` says that another canvas holds them too.
    While `bare`, the result is not a chain but its only step: what began as a group or a chord.
    """

    steps: list[Any]
    owned: int = 0
    shared: bool = False
    bare: bool = False

    def add(self, other: Any) -> None:
        """Let `other` follow. Raises `TypeError` when it has a step that is no signature."""
        pending = [other]
        while pending:
            step = unroll_groups(pending.pop(), sent=False)
            if not is_signature(step):
                raise TypeError(f'a chain is made of signatures, not of {type(step).__name__}: {step!r}')
            if step.KIND == 'chain':
                self._leave_bare_chord()
                pending.extend(reversed(step.unchain_tasks()))
            elif not is_empty_group(step):
                self._place(step)

    def _place(self, step: Any) -> None:
        last = self.steps[-1] if self.steps else None
        if last is None:
            self.steps.append(step)
            self.bare = step.KIND == 'group' and not is_open(step)
        elif unroll_groups(last, sent=False) is not last:
            self.settle_last()
            self._place(step)
        elif last.KIND == 'group' and not is_open(last):
            self._replace_last(make_chord(last, step))
        elif last.KIND == 'chord' and belongs_to_body(last, step):
            if step.KIND == 'group' and not is_single(step):
                self._leave_bare_chord()
            self._replace_last(extend_body(last, step))
        else:
            self.bare = False
            self.steps.append(step)

    def settle_last(self) -> None:
        """Apply the rules to the last step, of a chain whose steps were taken as they were given."""
        if self.steps and is_signature(self.steps[-1]) and self.steps[-1].KIND in ('group', 'chain'):
            last = self.steps.pop()
            self.owned = min(self.owned, len(self.steps))
            self.add(last)
            self.bare = self.bare and last.KIND == 'group' and not is_empty_group(last)

    def _replace_last(self, step: Any) -> None:
        self.steps[-1] = step
        self.owned = min(self.owned, len(self.steps) - 1)

    def _leave_bare_chord(self) -> None:
        self.bare = self.bare and self.steps[-1].KIND != 'chord'

    def build(self, chain_class: Any, app: Any) -> Any:
        """The canvas."""
        if self.bare:
            return self.steps[0]
        return chain_class.of_steps(self.steps, app, self.owned, self.shared)


def compose(left: Any, right: Any) -> Any:
    """The canvas of `left` followed by `right`; NotImplemented when `right` is no signature."""
    if not is_signature(right):
        return NotImplemented
    left = left.group() if left.KIND == 'chunks' else left
    if left.KIND == 'group':
        return _follow_group(left, right)
    if is_empty_group(right):
        return left
    if left.KIND == 'chain':
        steps = Steps(*left.lend_steps())
        steps.settle_last()
        chain_class: Any = type(left)
    else:
        steps = Steps([left], bare=left.KIND == 'chord')
        chain_class = left.TYPES['chain']
    steps.add(right)
    return steps.build(chain_class, left._app)


def _follow_group(group: Any, right: Any) -> Any:
    if is_empty_group(right):
        # A generator that turns out to be empty was meant to have members: keep the shape that it would have had.
        return make_chord(group, right) if isinstance(right['kwargs']['tasks'], LazyMembers) else group
    if right.KIND == 'chain' and not right['kwargs']['tasks']:
        return group
    if not keeps_options(group):
        return make_chord(group, unroll_groups(right, sent=False))
    steps = Steps([group])
    steps.add(right)
    return steps.build(group.TYPES['chain'], group._app)


def is_open(group: Any) -> bool:
    """Whether only when it is sent one can say how `group` leads into what follows it."""
    return is_single(group) or keeps_options(group)


def fold_chain(operands: Sequence[Any], chain_class: Any) -> Any:
    """What ``a | b | c`` gives for ``a, b, c``, each but the last copied: the last stays the caller's to link to."""
    steps = Steps([])
    for operand in operands[:-1]:
        steps.add(operand if not is_signature(operand) or operand.KIND == 'chain' else operand.clone())
    steps.owned = len(steps.steps)
    if operands:
        steps.add(operands[-1])
        steps.owned = min(steps.owned, max(0, len(steps.steps) - 1))
    return steps.build(chain_class, None)


def make_chord(header: Any, body: Any) -> Any:
    """The chord of a group and what follows it."""
    if is_signature(body) and is_single(body):  # which would be a list, as a body
        body = header.TYPES['chain'].of_steps([body], header._app, 0, False)
    return header.TYPES['chord'](header, body=body, app=header._app)


def extend_body(chord: Any, step: Any) -> Any:
    """A chord like `chord` in which `step` follows the body."""
    outer = [chord]
    while (body := outer[-1].body) is not None and body.KIND == 'chord' and belongs_to_body(body, step):
        outer.append(body)
    if body is not None:
        body = body.group() if body.KIND == 'chunks' else body
        # A group of one that is a body is a list for what follows: it does not stand beside ``|`` itself.
        step = make_chord(body, step) if body.KIND == 'group' else compose(body, step)
    for sig in reversed(outer):
        step = sig.with_body(step)
    return step


def belongs_to_body(chord: Any, step: Any) -> bool:
    """Whether `step`, following `chord`, goes into its body; else it stands beside the chord."""
    # Beside a chord whose body ends in a group, the step would run once for each member of that group.
    return bool(step.KIND == 'task' or is_single(step) or chord.body is None or ends_in_group(chord.body, sent=False)
                or (step.KIND == 'group' and chord.body.KIND == 'chord'))
