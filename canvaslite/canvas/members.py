"""`LazyMembers`: the members of a canvas that was given a generator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ('LazyMembers', 'as_members', 'count_at_most', 'maybe_unroll_group')


class LazyMembers(list[Any]):
    """A list that is filled from an iterable when somebody looks at it.

    Looking at the first members takes no more than those and the one after; anything else takes all.
    It is a list, so that serializers and type checks see one.
    """

    def __init__(self, source: Iterable[Any]) -> None:
        super().__init__()
        self._source: Iterator[Any] | None = iter(source)

    def fill(self, count: int | None = None) -> LazyMembers:
        """Take members from the source until `count` are here, or all of them."""
        source = self._source
        while source is not None and (count is None or super().__len__() < count):
            try:
                super().append(next(source))
            except StopIteration:
                source = self._source = None
        return self

    def __iter__(self) -> Iterator[Any]:
        self.fill()
        return super().__iter__()

    def __reversed__(self) -> Iterator[Any]:
        self.fill()
        return super().__reversed__()

    def __len__(self) -> int:
        self.fill()
        return super().__len__()

    def __bool__(self) -> bool:
        self.fill(1)
        return super().__len__() > 0

    def __contains__(self, item: Any) -> bool:
        self.fill()
        return super().__contains__(item)

    def __getitem__(self, index: Any) -> Any:
        # One more than asked for, so that a list of one member is known to be one.
        self.fill(index + 2 if isinstance(index, int) and index >= 0 else None)
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.fill()
        super().__setitem__(index, value)

    def __eq__(self, other: object) -> bool:
        self.fill()
        if isinstance(other, LazyMembers):
            other.fill()
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: Any) -> list[Any]:
        return [*self, *other]

    def __radd__(self, other: Any) -> list[Any]:
        return [*other, *self]

    def append(self, item: Any) -> None:
        self.fill()
        super().append(item)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return list, (list(iter(self)),)

    def __repr__(self) -> str:
        return repr(list(iter(self)))


def as_members(source: Any) -> Any:
    """`source` as a list of members: a generator's are taken later."""
    if isinstance(source, LazyMembers):
        return source
    return list(source) if isinstance(source, (list, tuple)) else LazyMembers(source)


def count_at_most(members: Any, limit: int) -> int:
    """Number of members, but no more than `limit`: does not take all of a generator's."""
    if isinstance(members, LazyMembers):
        members.fill(limit)
        return min(list.__len__(members), limit)
    return min(len(members), limit)


def maybe_unroll_group(group: Any) -> Any:
    """The only member of a group of one; any other group as it is."""
    try:
        return group.tasks[0] if count_at_most(group.tasks, 2) == 1 else group
    except TypeError:  # members that cannot be counted
        return group
