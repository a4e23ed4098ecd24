"""A directed graph of things that depend on each other."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from graphlib import TopologicalSorter
from typing import Any


class DependencyGraph(dict[Any, list[Any]]):
    """Nodes with, for each, those it leads to. `formatter` is accepted for compatibility."""

    def __init__(self, it: Iterable[tuple[Hashable, Iterable[Hashable]]] = (), formatter: Any = None) -> None:
        super().__init__((obj, list(ends)) for obj, ends in it)

    def add_arc(self, obj: Hashable) -> None:
        """Add a node."""
        self.setdefault(obj, [])

    def add_edge(self, A: Hashable, B: Hashable) -> None:
        """Lead from node `A` to `B`."""
        self[A].append(B)

    def topsort(self) -> list[Any]:
        """The nodes in an order in which each comes after all that it leads to. Raises `graphlib.CycleError`."""
        return list(TopologicalSorter(self).static_order())

    def to_dot(self, fh: Any) -> None:
        """Write the graph in the language of Graphviz to the file `fh`."""
        edges = [f'    "{node}" -> "{end}"' for node, ends in self.items() for end in ends]
        fh.write('\n'.join(['digraph dependencies {', *(f'    "{node}"' for node in self), *edges, '}', '']))
