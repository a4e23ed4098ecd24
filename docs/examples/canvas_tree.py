"""`CanvasTree`: a canvas drawn as a text tree, each step with its state.

It pairs a signature with the result of its call: the signature knows the names and arguments, the result the ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from canvaslite import states

#: Longest text shown for a step's arguments.
ARGUMENTS_WIDTH = 48


class Node:
    """One step, or one canvas with the steps below it."""

    __slots__ = ('children', 'label', 'result', 'state')

    def __init__(self, label: str, children: Sequence[Node] = (), result: Any = None) -> None:
        self.label = label
        self.children = list(children)
        #: The task's `AsyncResult`; None for a canvas, which has no state of its own.
        self.result = result
        self.state = states.PENDING

    def refresh(self) -> None:
        """Ask the result store, unless the state is final already."""
        if self.result is not None and self.state not in states.READY_STATES:
            self.state = self.result.state


class CanvasTree:
    """The steps of `signature` with the states of `result`, the value of its ``apply_async()``."""

    def __init__(self, signature: Any, result: Any) -> None:
        self.root, _ = _pair(signature, result)

    def steps(self) -> Iterator[Node]:
        """Every task of the canvas, in the order of the drawing."""
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            if node.result is not None:
                yield node
            waiting.extend(reversed(node.children))

    def refresh(self) -> Counter[str]:
        """Read the states; returns how many steps are in each."""
        counted: Counter[str] = Counter()
        for node in self.steps():
            node.refresh()
            counted[node.state] += 1
        return counted

    def lines(self) -> list[str]:
        """The drawing with the states last read, one line a step."""
        drawn: list[str] = []
        waiting = [(self.root, '', '')]
        while waiting:
            node, first, rest = waiting.pop()
            state = f'{node.state:<8} ' if node.result is not None else ''
            drawn.append(f'{first}{state}{node.label}')
            below = [(child, rest + '├─ ', rest + '│  ') for child in node.children[:-1]]
            below += [(child, rest + '└─ ', rest + '   ') for child in node.children[-1:]]
            waiting.extend(reversed(below))
        return drawn

    def __str__(self) -> str:
        return '\n'.join(self.lines())


def _pair(signature: Any, result: Any) -> tuple[Node, Any]:
    """The node of `signature` whose result is `result`, and the result of what comes before it."""
    kind = signature.get('subtask_type')
    if kind == 'chain':
        return _pair_chain(signature, result)
    if kind == 'chord':
        body, before = _pair(signature.body, result)
        header, before = _pair_group(_members(signature.tasks), before)
        return Node('chord', [header, body]), before
    if kind == 'group':
        return _pair_group(_members(signature.tasks), result)
    return Node(_describe_call(signature), result=result), getattr(result, 'parent', None)


def _pair_chain(signature: Any, result: Any) -> tuple[Node, Any]:
    nodes: list[Node] = []
    for step in reversed(signature.tasks):
        node, result = _pair(step, result)
        nodes.append(node)
    return Node('chain', nodes[::-1]), result


def _pair_group(members: Sequence[Any], result: Any) -> tuple[Node, Any]:
    results = getattr(result, 'results', None) or [None] * len(members)
    nodes = [_pair(member, of_member)[0] for member, of_member in zip(members, results, strict=False)]
    return Node('group', nodes), getattr(result, 'parent', None)


def _members(tasks: Any) -> Sequence[Any]:
    return tasks.tasks if hasattr(tasks, 'tasks') and not isinstance(tasks, (list, tuple)) else list(tasks)


def _describe_call(signature: Any) -> str:
    arguments = [repr(value) for value in signature.args]
    arguments += [f'{name}={value!r}' for name, value in signature.kwargs.items()]
    shown = ', '.join(arguments)
    if len(shown) > ARGUMENTS_WIDTH:
        shown = shown[: ARGUMENTS_WIDTH - 1] + '…'
    return f'{signature.task.rpartition(".")[2]}({shown})'
