"""`AsyncResult`: the state and the value of one task; `EagerResult`: those of one that was called here and now."""

from __future__ import annotations

import time
import types
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from importlib import import_module
from itertools import pairwise
from typing import Any, Generic

from vine import Thenable, promise

from canvaslite import states
from canvaslite.current import app_or_current
from canvaslite.exceptions import IncompleteStream, TaskRevokedError, TimeoutError
from canvaslite.result.blocking import assert_will_not_block
from canvaslite.result.stored import Callback, Meta, OnInterval, OnMessage, ResultBase, read_children, tasks_of
from canvaslite.result.tree import CanvasTree
from canvaslite.utils.graph import DependencyGraph
from canvaslite.utils.typevars import R

__all__ = ('AsyncResult', 'EagerResult', 'revoke_canvas')

#: Seconds between two looks at what came before in the chain, while waiting.
PARENTS_INTERVAL = 1.0


class _Stored:
    """A property: what the store says of the task under that name, or None."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    def __get__(self, result: Any, owner: type[Any] | None = None) -> Any:
        return self if result is None else result._get_task_meta().get(self._name)


@Thenable.register
class AsyncResult(ResultBase, Generic[R]):
    """What is known of the task `id`. Nothing is looked up until it is asked for.

    A ready result is kept; until then each question looks again.
    """

    TimeoutError = TimeoutError

    app: Any = None
    #: The store to ask.
    backend: Any = None
    #: True if the task's result is not stored (``ignore_result``): `get` returns None when what came before has ended.
    ignored: bool = False
    _cache: Meta | None = None
    _on_ready: Any = None
    #: Results of the tasks before this one, without a parent and once they were asked for.
    _before: list[Any] | None = None

    def __init__(self, id: str, backend: Any = None, task_name: str | None = None, app: Any = None,
                 parent: Any = None) -> None:
        if id is None:
            raise ValueError('AsyncResult needs the id of a task, not None')
        self.app = app_or_current(app if app is not None else self.app)
        self.id = id
        self.backend = backend if backend is not None else self.app.backend
        if parent is not None:
            self.parent = parent

    # -- waiting ------------------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5, no_ack: bool = True,
            follow_parents: bool = True, callback: Callback = None, on_message: OnMessage = None,
            on_interval: OnInterval = None, disable_sync_subtasks: bool = True) -> R:
        """Wait until the task is ready; return its value, or raise its error.

        `timeout`: seconds to wait at most, then `TimeoutError`. `propagate`: if false, an error is returned, not
        raised. `follow_parents`: raise the error of the first parent that failed instead. `interval`: longest pause
        between two looks, for stores that cannot notify. Inside a task this raises `RuntimeError`, unless
        `disable_sync_subtasks` is false or within `allow_join_result`.
        """
        if self.ignored:
            return self.await_parent(propagate and follow_parents, timeout=timeout, interval=interval,
                                     on_interval=on_interval, disable_sync_subtasks=disable_sync_subtasks)
        if disable_sync_subtasks:
            assert_will_not_block()
        follow = follow_parents and propagate and self.parent is not None
        if follow and (failed := self._failed_parent(look=False)) is not None:
            failed.maybe_throw()
        if follow_parents and propagate:
            on_interval = partial(self._watch_parents, [time.monotonic()], on_interval)
        try:
            if self._cache:
                return self.maybe_throw(propagate=propagate, callback=callback)
            return self.backend.wait_for_pending(
                self, timeout=timeout, interval=interval, on_interval=on_interval, no_ack=no_ack,
                propagate=propagate, callback=callback, on_message=on_message)
        except Exception:
            # Nobody was told of a parent's error but through this one: it is the error that tells why.
            failed = self._failed_parent() if follow else None
            if failed is None:
                raise
        return failed.maybe_throw()

    wait = get

    def _watch_parents(self, looked_at: list[float], on_interval: OnInterval) -> None:
        now = time.monotonic()
        if now - looked_at[0] >= PARENTS_INTERVAL:
            looked_at[0] = now
            try:
                failed = self._failed_parent()
            except Exception as exc:
                if not self.backend.exception_safe_to_retry(exc):
                    raise
                failed = None  # the store is away: what is waited for is as well
            if failed is not None:
                failed.maybe_throw()
        if on_interval is not None:
            on_interval()

    def _failed_parent(self, look: bool = True) -> Any:
        """The first task before this one that is known to have failed, or None; `look` asks the store, in one go."""
        tasks = self._tasks_before(look)
        unknown = [task.id for task in tasks if not task._cache] if look else []
        metas = self.backend.get_task_metas(unknown) if unknown else {}
        for task in tasks:
            meta = task._cache or task._maybe_set_cache(metas.get(task.id))
            if meta and meta['status'] in states.PROPAGATE_STATES:
                return task
        return None

    def _tasks_before(self, look: bool) -> list[Any]:
        """What came before, as far as the parents say it; of a result made of an id alone, as far as the store does."""
        if self.parent is not None:
            return [task for node in reversed(list(self.ancestors())) for task in tasks_of(node)]
        if self._before is None and look:
            run = self.backend.find_canvas(self.id)
            node = None if run is None else run.nodes.get(self.id)
            self._before = [self.app.AsyncResult(task.id) for task in (node.before() if node is not None else ())]
        return self._before or []

    def maybe_throw(self, propagate: bool = True, callback: Callback = None) -> Any:
        """Raise the task's error if it failed (and `propagate`), else return its value."""
        meta = self._cache or self._get_task_meta()
        value = meta['result']
        if propagate and meta['status'] in states.PROPAGATE_STATES:
            self.throw(value, self._to_remote_traceback(meta.get('traceback')))
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw

    def throw(self, exc: Any = None, tb: types.TracebackType | None = None, propagate: bool = True) -> None:
        """Raise `exc`, after telling the `on_error` callbacks of `then`."""
        if not isinstance(exc, BaseException):
            exc = Exception(exc)
        if self._on_ready is not None:
            self._on_ready.throw(exc, tb, propagate)
        elif propagate:
            raise exc.with_traceback(tb) if tb is not None else exc

    def _to_remote_traceback(self, tb: str | None) -> types.TracebackType | None:
        if not tb or not self.app.conf.task_remote_tracebacks:
            return None
        try:
            tblib = import_module('tblib')
        except ImportError:  # optional: without it there is only the text of the traceback
            return None
        return tblib.Traceback.from_string(tb).as_traceback()  # type: ignore[no-any-return]

    @property
    def on_ready(self) -> Any:
        """A promise that is fulfilled with this result when it is known to be ready."""
        if self._on_ready is None:
            self._on_ready = promise()
            if self._cache and self._cache['status'] in states.READY_STATES:
                self._on_ready(self)
        return self._on_ready

    def then(self, callback: Callable[[Any], Any], on_error: Any = None, weak: bool = False) -> Any:
        """Call `callback(result)` when the task is known to be ready, which is noticed while something waits."""
        if self._cache is None:
            self.backend.add_pending_result(self, weak=weak)
        return self.on_ready.then(callback, on_error)

    # -- what is known -------------------------------------------------------------------------------------------

    def _get_task_meta(self) -> Meta:
        if self._cache is None:
            return self._maybe_set_cache(self.backend.get_task_meta(self.id))  # type: ignore[return-value]
        return self._cache

    def _maybe_set_cache(self, meta: Meta | None) -> Meta | None:
        if meta and self._cache is None and meta['status'] in states.READY_STATES:
            meta = self._set_cache(self.backend.meta_from_decoded(meta))
            if self._on_ready is not None:
                self.backend.remove_pending_result(self)
                self._on_ready(self)
        return meta

    def _set_cache(self, meta: Meta) -> Meta:
        children = meta.get('children')
        if children:
            meta = {**meta, 'children': read_children(children, self.id, self.app)}
        self._cache = meta
        return meta

    @property
    def state(self) -> str:
        """PENDING (unknown), STARTED, RETRY, FAILURE, SUCCESS, REVOKED, or a state of the task's own."""
        return self._get_task_meta()['status']  # type: ignore[no-any-return]

    status = state

    @property
    def result(self) -> Any:
        """The return value; of a failed task the exception; of another state what was stored with it."""
        return self._get_task_meta()['result']

    info = result

    traceback = _Stored('The traceback of a failed task, as text.')
    children = _Stored('Results of what the task has sent.')
    # What follows needs ``result_extended``.
    name = _Stored('Name of the task.')
    args = _Stored('Arguments of the task.')
    kwargs = _Stored('Keyword arguments of the task.')
    worker = _Stored('Name of the worker that ran the task.')
    retries = _Stored('How often the task was retried.')
    queue = _Stored('Routing key that the task came by.')

    @property
    def date_done(self) -> datetime | None:
        """When the task ended."""
        done = self._get_task_meta().get('date_done') or None
        if not isinstance(done, str):
            return done
        return datetime.fromisoformat(done[:-1] + '+00:00' if done.endswith('Z') else done)

    @property
    def task_id(self) -> str:
        """Same as `id`."""
        return self.id  # type: ignore[no-any-return]

    @task_id.setter
    def task_id(self, id: str) -> None:
        self.id = id

    @property
    def root(self) -> Any:
        """The first result of the chain that this one is part of."""
        return [self, *self.ancestors()][-1]

    def exists(self) -> bool:
        """Whether the store knows the task; a PENDING one may be waiting, or never have been sent."""
        return self.backend.task_result_exists(self.id)  # type: ignore[no-any-return]

    def ready(self) -> bool:
        """Whether the task has ended."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Whether the task has returned a value."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Whether the task has failed."""
        return self.state == states.FAILURE

    @property
    def supports_native_join(self) -> bool:
        """Whether many such results can be fetched in one look."""
        return self.backend.supports_native_join  # type: ignore[no-any-return]

    # -- the tree of results -------------------------------------------------------------------------------------

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """``(parent, result)`` of all results of the run that this one is part of, from the first on, breadth first.

        Raises `IncompleteStream` at one that is not ready, unless `intermediate`.
        """
        found: dict[str | None, Any] = {}
        links: set[tuple[str | None, str | None]] = set()
        run = self.backend.find_canvas(self.id)
        after: dict[str | None, list[Any]] = {} if run is None else CanvasTree(self.app, run).arcs()
        # Without a record a chord's body is known by its parent alone, and so looked for last.
        line = pairwise((None, *self._lineage())) if run is None else ((None, first) for first in after[None])
        for start in line:
            waiting = deque(() if start[1].id in found else (start,))
            while waiting:
                parent, node = waiting.popleft()
                link = (None if parent is None else parent.id), node.id
                if link in links:
                    continue
                links.add(link)
                found.setdefault(node.id, node)
                yield (None if parent is None else found[parent.id]), node
                waiting.extend((node, following) for following in after.get(node.id, ()))
                if node.ready():
                    waiting.extend((node, child) for child in node.children or ())
                elif not intermediate:
                    raise IncompleteStream()

    def _lineage(self) -> list[Any]:
        """The first result of the run, and those that lead from it to this one, as far as they or the store know."""
        # By id: a task that was retried, or replaced by a canvas, comes of itself.
        line = {node.id: node for node in (self, *self.ancestors())}
        node = next(reversed(line.values()))
        while node.results is None and (parent_id := node._get_task_meta().get('parent_id')) and parent_id not in line:
            node = self.app.AsyncResult(parent_id)
            if node.state == states.PENDING:
                break  # nothing is kept of it: it ignores its result, say, or that has expired
            line[parent_id] = node
        return list(reversed(line.values()))

    def collect(self, intermediate: bool = False, **kwargs: Any) -> Iterator[tuple[Any, Any]]:
        """``(result, value)`` of all that `iterdeps` finds, waiting for each; `kwargs` go to `get`.

        Of a task that sent a group of tasks, each of which sent one that returns a number:

        >>> [value for _, value in result.collect() if isinstance(value, int)]
        [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
        """
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**kwargs)

    def get_leaf(self) -> Any:
        """The value of the last result of the run."""
        value = None
        for _, node in self.iterdeps():
            value = node.get()
        return value

    def build_graph(self, intermediate: bool = False, formatter: Any = None) -> DependencyGraph:
        """The results of the run as a graph, from each to what it sent."""
        graph = DependencyGraph(formatter=formatter)
        for parent, node in self.iterdeps(intermediate=intermediate):
            graph.add_arc(node)
            if parent is not None:
                graph.add_edge(parent, node)
        return graph

    @property
    def graph(self) -> DependencyGraph:
        """`build_graph()`."""
        return self.build_graph()

    def as_list(self) -> list[str]:
        """The ids of this result and its parents."""
        return [self.id, *(node.id for node in self.ancestors())]

    # -- acting on the task ----------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Remove the results of this task and its parents from the store; of a run's last task (what the call has
        returned, or a result made of its id) all that is kept of the run."""
        node: Any = self
        self.forget_run()
        while isinstance(node, AsyncResult):
            node._forget_self()
            node = node.parent
        if node is not None:
            node.forget()

    def _forget_self(self) -> None:
        self._cache = None
        self.backend.remove_pending_result(self)
        self.backend.forget(self.id)

    def revoke(self, connection: Any = None, terminate: bool = False, signal: str | None = None, wait: bool = False,
               timeout: float | None = None, canvas: bool = False) -> None:
        """Tell all workers not to run the task, nor anything else of the canvas that ends in it; with `terminate`, to
        kill (by `signal`) the processes that run any of it.

        A result made of an id alone stands for that task; with `canvas` for the whole run that it is part of. Chords
        end at once: their bodies are REVOKED. `wait`: wait for the workers' replies, at most `timeout` seconds.
        """
        revoke_canvas(self, canvas, connection=connection, terminate=terminate, signal=signal, reply=wait,
                      timeout=timeout)

    def revoke_by_stamped_headers(self, headers: dict[str, Any], connection: Any = None, terminate: bool = False,
                                  signal: str | None = None, wait: bool = False, timeout: float | None = None) -> None:
        """Tell all workers not to run tasks with these stamps."""
        self.app.control.revoke_by_stamped_headers(headers, connection=connection, terminate=terminate,
                                                   signal=signal, reply=wait, timeout=timeout)

    # -- as a value ----------------------------------------------------------------------------------------------------

    __class_getitem__: Any = classmethod(types.GenericAlias)

    def __str__(self) -> str:
        return str(self.id)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f'<{type(self).__name__}: {self.id}>'

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return bool(other.id == self.id)
        if isinstance(other, str):
            return bool(other == self.id)
        return NotImplemented

    def __copy__(self) -> AsyncResult:
        return self.__class__(self.id, self.backend, None, self.app, self.parent)

    def __reduce_args__(self) -> tuple[Any, ...]:
        return self.id, self.backend


class EagerResult(AsyncResult[R]):
    """What ``Task.apply`` returns: it is ready from the start, and no store knows of it."""

    supports_native_join = False

    def __init__(self, id: str, ret_value: Any, state: str, traceback: str | None = None,
                 name: str | None = None) -> None:
        self.id = id
        self._result = ret_value
        self._state = state
        self._traceback = traceback
        self._name = name

    @property
    def _cache(self) -> dict[str, Any]:  # type: ignore[override]
        return {'task_id': self.id, 'result': self._result, 'status': self._state, 'traceback': self._traceback,
                'name': self._name}

    def get(self, timeout: float | None = None, propagate: bool = True,  # type: ignore[override]
            disable_sync_subtasks: bool = True, **kwargs: Any) -> R:
        """The return value, at once; raises the task's error if it failed."""
        if disable_sync_subtasks:
            assert_will_not_block()
        if propagate and self._state in states.PROPAGATE_STATES:
            raise self._result if isinstance(self._result, Exception) else Exception(self._result)
        if self._state == states.SUCCESS or self._state in states.PROPAGATE_STATES:
            return self._result
        return None  # type: ignore[return-value]

    wait = get  # type: ignore[assignment]

    def ready(self) -> bool:
        """True."""
        return True

    def forget(self) -> None:
        """Nothing is stored."""

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """Turn the result into that of a revoked task; the task itself has run."""
        self._state = states.REVOKED
        self._result = TaskRevokedError('revoked')
        self._traceback = None

    def __reduce_args__(self) -> tuple[Any, ...]:
        return self.id, self._result, self._state, self._traceback, self._name

    def __copy__(self) -> EagerResult:
        return self.__class__(*self.__reduce_args__())


def revoke_canvas(end: Any, whole: bool = False, **options: Any) -> None:
    """Revoke all tasks of the canvas whose result is `end`, also those that they send, and end its chords; `whole`: all
    of the run that `end` is part of."""
    tree = end.canvas() if whole else None
    if tree is not None:
        tree.revoke(**options)
        return
    tasks: dict[str, None] = {}
    first: list[str] = []
    groups: list[Any] = []
    waiting, is_canvas = [end], end.parent is not None
    while waiting:
        node = waiting.pop()
        if node.results is None:
            tasks[node.id] = None
        else:
            groups.append(node)
            waiting.extend(reversed(node.results))
            is_canvas = is_canvas or any(member.parent is not None for member in node.results)
        if node.parent is not None:
            waiting.append(node.parent)
        elif node.results is None:
            first.append(node.id)
    if is_canvas:
        options['root_ids'] = first
    control = end.app.control
    control.revoke(list(tasks) if is_canvas or end.results is not None else end.id, **options)
    for group in groups:
        if group.id is not None and group is not end:
            end.app.backend.abort_chord(group.id, 'revoked')
