"""`ResultSet`: several results as one; `GroupResult`: those of a group, with an id under which they can be saved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from functools import cached_property
from typing import Any
from weakref import proxy

from vine import Thenable, barrier, promise

from canvaslite import states
from canvaslite.current import app_or_current, get_current_app
from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.result.async_result import revoke_canvas
from canvaslite.result.blocking import assert_will_not_block
from canvaslite.result.stored import Callback, OnInterval, OnMessage, ResultBase

__all__ = ('GroupResult', 'ResultSet')


@Thenable.register
class ResultSet(ResultBase):
    """A collection of results, in order."""

    _on_ready: Any = None

    def __init__(self, results: list[Any], app: Any = None, ready_barrier: Any = None, **kwargs: Any) -> None:
        if app is not None:
            self.app = app
        self.results = results
        self._ready_barrier = ready_barrier

    # -- members ------------------------------------------------------------------------------------------------

    def add(self, result: Any) -> None:
        """Add a result, unless it is a member already."""
        if result not in self.results:
            self.results.append(result)
            # Who asks from now on waits for the new member too; who asked before does not.
            self._on_ready = self._ready_barrier = None

    def remove(self, result: Any) -> None:
        """Remove a member (a result or an id). Raises `KeyError` if it is none."""
        if isinstance(result, str):
            result = self.app.AsyncResult(result)
        try:
            self.results.remove(result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: Any) -> None:
        """Remove a result if it is a member."""
        if result in self.results:
            self.results.remove(result)

    def update(self, results: Iterable[Any]) -> None:
        """Add those that are not members yet."""
        for result in results:
            self.add(result)

    def clear(self) -> None:
        """Remove all members."""
        self.results[:] = []

    # -- what is known ------------------------------------------------------------------------------------------

    def successful(self) -> bool:
        """Whether all members have returned a value."""
        return all(result.successful() for result in self._fetched())

    def failed(self) -> bool:
        """Whether a member has failed."""
        return any(result.failed() for result in self._fetched())

    def ready(self) -> bool:
        """Whether all members have ended."""
        return all(result.ready() for result in self._fetched())

    def waiting(self) -> bool:
        """Whether a member has not ended."""
        return not self.ready()

    def completed_count(self) -> int:
        """How many members have returned a value."""
        return sum(result.successful() for result in self._fetched())

    def _fetched(self) -> list[Any]:
        """The members, after one look for all that are not known to be ready."""
        unknown = {result.id: result for result in self.results
                   if not isinstance(result, ResultSet) and not result._cache}
        if len(unknown) > 1 and self.supports_native_join:
            for task_id, meta in self.backend.get_task_metas(unknown).items():
                unknown[task_id]._maybe_set_cache(meta)
        return self.results

    def maybe_throw(self, callback: Callback = None, propagate: bool = True) -> None:
        """Raise the error of the first member that failed."""
        for result in self.results:
            result.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    def _failed_join_report(self) -> Iterator[Any]:
        return (result for result in self.results
                if (result._cache or result.backend.is_cached(result.id)) and result.state in states.PROPAGATE_STATES)

    # -- waiting --------------------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5,
            callback: Callback = None, no_ack: bool = True, on_message: OnMessage = None,
            disable_sync_subtasks: bool = True, on_interval: OnInterval = None) -> Any:
        """Wait for all members; their values in order. See `join`; uses `join_native` where the store can."""
        join = self.join_native if self.supports_native_join else self.join
        return join(timeout=timeout, propagate=propagate, interval=interval, callback=callback, no_ack=no_ack,
                    on_message=on_message, disable_sync_subtasks=disable_sync_subtasks, on_interval=on_interval)

    def join(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5,
             callback: Callback = None, no_ack: bool = True, on_message: OnMessage = None,
             disable_sync_subtasks: bool = True, on_interval: OnInterval = None) -> list[Any]:
        """Wait for the members one after the other; their values in order.

        With `callback(id, value)` the values go there, and the list is empty. `timeout` is for all together.
        Raises the first error in order (or returns it in its place, without `propagate`) and `TimeoutError`.
        """
        if disable_sync_subtasks:
            assert_will_not_block()
        if on_message is not None:
            raise ImproperlyConfigured('result_backend: this store does not support on_message')
        deadline = None if timeout is None else time.monotonic() + timeout
        values = []
        for result in self.results:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            value = result.get(timeout=left, propagate=propagate, interval=interval, no_ack=no_ack,
                               on_interval=on_interval, disable_sync_subtasks=disable_sync_subtasks)
            if callback is not None:
                callback(result.id, value)
            else:
                values.append(value)
        return values

    def join_native(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5,
                    callback: Callback = None, no_ack: bool = True, on_message: OnMessage = None,
                    on_interval: OnInterval = None, disable_sync_subtasks: bool = True) -> list[Any] | None:
        """As `join`, taking the results as they come; None if there is a `callback`."""
        if disable_sync_subtasks:
            assert_will_not_block()
        places: dict[str, list[int]] = {}
        for place, result in enumerate(self.results):
            places.setdefault(result.id, []).append(place)
        values: list[Any] = [None] * len(self.results)
        for task_id, meta in self.iter_native(timeout, interval, no_ack, on_message, on_interval):
            if isinstance(meta, list):
                value: Any = [member.get(timeout=timeout, propagate=propagate,
                                         disable_sync_subtasks=disable_sync_subtasks) for member in meta]
            else:
                value, result = meta['result'], self.results[places[task_id][0]]
                if result.ignored:  # what came before it may have failed
                    for kept in (result, self):
                        kept.await_parent(propagate, timeout=timeout, disable_sync_subtasks=disable_sync_subtasks)
                if propagate and meta['status'] in states.PROPAGATE_STATES:
                    member = copy(result)
                    member.parent = member.parent or self.parent
                    failed = member._failed_parent()  # as when one result is awaited: the error that tells why
                    error = value if failed is None else failed.result
                    raise error if isinstance(error, BaseException) else Exception(error)
            if callback is not None:
                callback(task_id, value)
            for place in places[task_id]:
                values[place] = value
        return None if callback is not None else values

    def iter_native(self, timeout: float | None = None, interval: float = 0.5, no_ack: bool = True,
                    on_message: OnMessage = None, on_interval: OnInterval = None) -> Iterator[tuple[str, Any]]:
        """``(id, meta)`` of the members as they become ready."""
        return self.backend.iter_native(self, timeout=timeout, interval=interval,  # type: ignore[no-any-return]
                                        no_ack=no_ack, on_message=on_message, on_interval=on_interval)

    @property
    def on_ready(self) -> Any:
        """A promise that is fulfilled with this set when all members are known to be ready."""
        if self._on_ready is None:
            self._on_ready = promise(args=(proxy(self),))
            full = self._ready_barrier
            if full is None:
                full = barrier()
                for result in self.results:
                    full.add(result)
                full.finalize()
            full.then(self._on_ready)
        return self._on_ready

    def then(self, callback: Callable[[Any], Any], on_error: Any = None, weak: bool = False) -> Any:
        """Call `callback(result_set)` when all members are known to be ready."""
        return self.on_ready.then(callback, on_error)

    # -- acting on the tasks --------------------------------------------------------------------------------------

    def forget(self) -> None:
        """Remove the results of all members from the store."""
        for result in self.results:
            result.forget()

    def revoke(self, connection: Any = None, terminate: bool = False, signal: str | None = None, wait: bool = False,
               timeout: float | None = None, canvas: bool = False) -> None:
        """Tell all workers not to run these tasks. See `AsyncResult.revoke`."""
        revoke_canvas(self, canvas, connection=connection, timeout=timeout, terminate=terminate, signal=signal,
                      reply=wait)

    # -- as a value -----------------------------------------------------------------------------------------------

    @property
    def supports_native_join(self) -> bool | None:
        """Whether the store fetches many results in one look; None for an empty set."""
        return self.results[0].supports_native_join if self.results else None

    @cached_property
    def app(self) -> Any:
        """The app of the members."""
        return self.results[0].app if self.results else get_current_app()

    @property
    def backend(self) -> Any:
        """The store of the members."""
        return self.app.backend

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ResultSet):
            return other.results == self.results
        return NotImplemented

    def __repr__(self) -> str:
        return f'<{type(self).__name__}: [{", ".join(result.id for result in self.results)}]>'


class GroupResult(ResultSet):
    """The results of the group `id`; `parent` is the result of what came before it in a chain."""

    def __init__(self, id: str | None = None, results: list[Any] | None = None, parent: Any = None,
                 **kwargs: Any) -> None:
        self.id = id
        self.parent = parent
        super().__init__(results if results is not None else [], **kwargs)

    def forget(self) -> None:
        """Remove the results of all members from the store, and what is kept of the chord whose header they are; of a
        run's result all that is kept of the run."""
        self.forget_run()
        super().forget()
        self.backend.forget_chord(self.id)

    def save(self, backend: Any = None) -> Any:
        """Keep the group in the store, so that `restore` finds it by its id."""
        return (backend or self.app.backend).save_group(self.id, self)

    def delete(self, backend: Any = None) -> None:
        """Remove the saved group; the members' results stay."""
        (backend or self.app.backend).delete_group(self.id)

    @classmethod
    def restore(cls, id: str, backend: Any = None, app: Any = None) -> GroupResult | None:
        """The group that was saved under `id`, or None."""
        bound = None if isinstance(cls.app, cached_property) else cls.app  # an app's own class knows its app
        app = app_or_current(app if app is not None else bound)
        return (backend or app.backend).restore_group(id)  # type: ignore[no-any-return]

    @property
    def children(self) -> list[Any]:
        """The members."""
        return self.results

    def __reduce_args__(self) -> tuple[Any, ...]:
        return self.id, self.results

    def __bool__(self) -> bool:
        return bool(self.id or self.results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return bool(other.id == self.id and other.results == self.results and other.parent == self.parent)
        if isinstance(other, str):
            return bool(other == self.id)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f'<{type(self).__name__}: {self.id} [{", ".join(result.id for result in self.results)}]>'
