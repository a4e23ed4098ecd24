"""The form in which results are stored and sent: ``((id, parent), members)``, `members` None for a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from typing import Any

from canvaslite.current import app_or_current
from canvaslite.exceptions import UnreadableResult
from canvaslite.result.tree import CanvasTree

__all__ = ('Callback', 'Meta', 'OnInterval', 'OnMessage', 'ResultBase', 'ResultTuple', 'read_children',
           'result_from_tuple', 'tasks_of')

ResultTuple = tuple[tuple[Any, Any], Any]
#: What a store knows of a task.
Meta = dict[str, Any]
#: Arguments of `get`: called with an id and its value, with each state that arrives, and now and then.
Callback = Callable[[str, Any], Any] | None
OnMessage = Callable[[Meta], Any] | None
OnInterval = Callable[[], Any] | None

#: So many parents nest in the stored form, each two levels deep: serializers of all kinds give up at about a thousand.
NESTED_PARENTS = 200


class ResultBase:
    """Base of all results."""

    #: Id of the task or group; None for a set without one.
    id: Any = None
    #: Result of what came before in a chain.
    parent: Any = None
    app: Any = None
    #: The members of a set; None for a task.
    results: Any = None

    def canvas(self) -> CanvasTree | None:
        """All of the run that this result is part of, found by its id alone; None if no record of it is kept, as of a
        single task. See `CanvasTree`."""
        return None if self.id is None else CanvasTree.find(self.id, self.app)

    def forget_run(self) -> None:
        """Remove all that is kept of the run whose result this is, if it is one's."""
        run = None if self.id is None else self.app.backend.find_canvas(self.id)
        end = None if run is None or not run.tops else run.tops[0].end
        if run is not None and end is not None and end.id == self.id:
            CanvasTree(self.app, run).refresh().forget()

    def ancestors(self) -> Iterator[Any]:
        """The parent, its parent, and so on."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def await_parent(self, follow: bool, **options: Any) -> Any:
        """Of a result that is not kept: wait for the last one before it that is, and raise its error; None."""
        before = next((before for before in self.ancestors() if not getattr(before, 'ignored', False)), None)
        if follow and before is not None:
            before.get(**options)

    def as_tuple(self, parents: int = NESTED_PARENTS, whole: bool = True) -> ResultTuple:
        """The result with its parents, as data.

        So many of these nest, as Celery has them; what came before those follows as a flat list, if `whole`.
        """
        line = [self, *islice(self.ancestors(), None if whole else parents)]
        stored: Any = None
        if len(line) > parents + 1:
            stored = {'ancestors': [node._entry(parents, whole) for node in line[parents + 1:]]}
        for node in reversed(line[:parents + 1]):
            id_, members = node._entry(parents, whole)
            stored = ((id_, stored), members)
        return stored  # type: ignore[no-any-return]

    def _entry(self, parents: int, whole: bool) -> tuple[Any, Any]:
        members = self.results
        return self.id, None if members is None else [member.as_tuple(parents // 4, whole) for member in members]

    def as_stored_tuple(self) -> ResultTuple:
        """`as_tuple` with no more parents than Celery can read."""
        return self.as_tuple(whole=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.__reduce_args__()

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        if self.parent is None:
            return self.__reduce__()
        return restore_line, ([node.__reduce__() for node in (self, *self.ancestors())],)

    def __reduce_args__(self) -> tuple[Any, ...]:
        """What the class is called with to make the same result, but without its parent."""
        return (self.results,)


def tasks_of(node: Any) -> list[Any]:
    """The results of tasks that `node` stands for: itself, or the members of a group, at any depth."""
    tasks: list[Any] = []
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if node.results is None:
            tasks.append(node)
        else:
            waiting.extend(reversed(node.results))
    return tasks


def restore_line(line: list[tuple[Any, Any]]) -> Any:
    """What a result with parents is pickled as: the first of several of which each is the parent of the one before."""
    results = [function(*args) for function, args in line]
    for result, parent in pairwise(results):
        result.parent = parent
    return results[0]


def result_from_tuple(stored: Any, app: Any = None) -> Any:
    """The result that `as_tuple` was made of; a result is returned as it is."""
    if isinstance(stored, ResultBase):
        return stored
    app = app_or_current(app)
    line: list[Any] = []
    while stored is not None and not isinstance(stored, ResultBase):
        if isinstance(stored, dict):
            line.extend(stored['ancestors'])
            break
        named, members = stored
        id_, stored = named if isinstance(named, (list, tuple)) else (named, None)
        line.append((id_, members))
        stored = stored or None
    parent: Any = None if isinstance(stored, dict) else stored
    for id_, members in reversed(line):
        if members is None:
            parent = app.AsyncResult(id_, parent=parent)
        else:
            parent = app.GroupResult(id_, [result_from_tuple(member, app) for member in members], parent=parent)
    return parent


def read_children(children: Any, task_id: str, app: Any) -> list[Any]:
    """The results that are stored as what a task has sent. Raises `UnreadableResult`."""
    try:
        return [result_from_tuple(child, app) for child in children]
    except Exception as exc:
        raise UnreadableResult(f'The children that are stored of {task_id} are no results: {children!r:.500}',
                               task_id=task_id) from exc
