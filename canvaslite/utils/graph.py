"""A directed graph of things that depend on each other."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator
from typing import Any

__all__ = ('CycleError', 'DependencyGraph')


class CycleError(Exception):
    """The graph goes in a circle, so that nothing comes first."""


class DependencyGraph:
    """Nodes and, for each, those it leads to. `formatter` is accepted for compatibility.

    `it`: pairs ``(node, nodes it leads to)``.
    """

    def __init__(self, it: Iterable[tuple[Hashable, Iterable[Hashable]]] | None = None, formatter: Any = None) -> None:
        self.adjacent: dict[Any, list[Any]] = {}
        if it is not None:
            self.update(it)

    def add_arc(self, obj: Hashable) -> None:
        """Add a node."""
        self.adjacent.setdefault(obj, [])

    def add_edge(self, A: Hashable, B: Hashable) -> None:
        """Lead from node `A` to `B`."""
        self.adjacent[A].append(B)

    def connect(self, graph: DependencyGraph) -> None:
        """Take over the nodes of another graph."""
        self.adjacent.update(graph.adjacent)

    def update(self, it: Iterable[tuple[Hashable, Iterable[Hashable]]]) -> None:
        """Add pairs ``(node, nodes it leads to)``."""
        pairs = [(obj, list(ends)) for obj, ends in it]
        for obj, _ in pairs:
            self.add_arc(obj)
        for obj, ends in pairs:
            self.adjacent[obj].extend(ends)

    def edges(self) -> Iterator[Any]:
        """The nodes that lead somewhere."""
        return (obj for obj, ends in self.adjacent.items() if ends)

    def valency_of(self, obj: Hashable) -> int:
        """How many edges are reached from `obj`."""
        total, waiting = 0, [obj]
        while waiting:
            ends = self.adjacent.get(waiting.pop(), [])
            total += len(ends)
            waiting.extend(ends)
        return total

    def topsort(self) -> list[Any]:
        """The nodes in an order in which each comes after all that it leads to. Raises `CycleError`."""
        led_to = Counter(end for ends in self.adjacent.values() for end in ends)
        ready = deque(node for node in self.adjacent if not led_to[node])
        ordered = []
        while ready:
            node = ready.popleft()
            ordered.append(node)
            for end in self.adjacent.get(node, ()):
                led_to[end] -= 1
                if not led_to[end]:
                    ready.append(end)
        if any(count > 0 for count in led_to.values()):
            raise CycleError('the graph goes in a circle')
        ordered.reverse()
        return ordered

    def to_dot(self, fh: Any) -> None:
        """Write the graph in the language of Graphviz to the file `fh`."""
        lines = ['digraph dependencies {']
        for node, ends in self.adjacent.items():
            lines.append(f'    "{node}"')
            lines.extend(f'    "{node}" -> "{end}"' for end in ends)
        fh.write('\n'.join([*lines, '}', '']))

    def items(self) -> Iterable[tuple[Any, list[Any]]]:
        """Nodes with those they lead to."""
        return self.adjacent.items()

    iteritems = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.adjacent)

    def __getitem__(self, node: Hashable) -> list[Any]:
        return self.adjacent[node]

    def __len__(self) -> int:
        return len(self.adjacent)

    def __contains__(self, obj: Hashable) -> bool:
        return obj in self.adjacent

    def __repr__(self) -> str:
        return '\n'.join(f'{node} -> {", ".join(map(str, ends))}' for node, ends in self.adjacent.items())
