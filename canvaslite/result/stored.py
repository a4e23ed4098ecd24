"""The form in which results are stored and sent: ``((id, parent), members)``, `members` None for a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from canvaslite.current import app_or_current

__all__ = ('Callback', 'Meta', 'OnInterval', 'OnMessage', 'ResultBase', 'ResultTuple', 'result_from_tuple')

ResultTuple = tuple[tuple[Any, Any], Any]
#: What a store knows of a task.
Meta = dict[str, Any]
#: Arguments of `get`: called with an id and its value, with each state that arrives, and now and then.
Callback = Callable[[str, Any], Any] | None
OnMessage = Callable[[Meta], Any] | None
OnInterval = Callable[[], Any] | None

#: Each parent nests the stored form deeper by two, and serializers of all kinds give up at about a thousand.
MAX_STORED_PARENTS = 200


class ResultBase:
    """Base of all results."""

    #: Id of the task or group; None for a set without one.
    id: Any = None
    #: Result of what came before in a chain.
    parent: Any = None
    #: The members of a set; None for a task.
    results: Any = None

    def ancestors(self) -> Iterator[Any]:
        """The parent, its parent, and so on."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def as_tuple(self, parents: int | None = None) -> ResultTuple:
        """The result with its parents (at most so many), as data."""
        stored: Any = None
        for node in reversed([self, *islice(self.ancestors(), parents)]):
            members = node.results
            stored = ((node.id, stored), None if members is None else [member.as_tuple() for member in members])
        return stored  # type: ignore[no-any-return]

    def as_stored_tuple(self) -> ResultTuple:
        """`as_tuple` for a serializer: with no more parents than one can nest."""
        return self.as_tuple(MAX_STORED_PARENTS)


def result_from_tuple(stored: Any, app: Any = None) -> Any:
    """The result that `as_tuple` was made of; a result is returned as it is."""
    if isinstance(stored, ResultBase):
        return stored
    app = app_or_current(app)
    line = []
    while stored is not None and not isinstance(stored, ResultBase):
        named, members = stored
        id_, stored = named if isinstance(named, (list, tuple)) else (named, None)
        line.append((id_, members))
        stored = stored or None
    parent: Any = stored
    for id_, members in reversed(line):
        if members is None:
            parent = app.AsyncResult(id_, parent=parent)
        else:
            parent = app.GroupResult(id_, [result_from_tuple(member, app) for member in members], parent=parent)
    return parent
