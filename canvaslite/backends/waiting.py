"""How `get` waits: by looking again and again, or by being told.

`SyncBackendMixin` looks, soon at first and then ever more seldom. `AsyncBackendMixin` is told: a `BaseResultConsumer`
holds one subscription for the whole process. Any number of threads may wait; one of them at a time reads, and hands
out what it has read to the others.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from kombu.utils.encoding import bytes_to_str

from canvaslite import states
from canvaslite.backends.codec import Meta
from canvaslite.exceptions import ImproperlyConfigured, TimeoutError
from canvaslite.result import ResultSet

__all__ = ('AsyncBackendMixin', 'BaseResultConsumer', 'SyncBackendMixin')

#: Seconds between two looks: at first, by what factor it grows, and at most (or less, if `interval` says so).
FIRST_PAUSE, PAUSE_GROWTH, LONGEST_PAUSE = 0.002, 1.4, 0.5

#: Seconds after which a waiting thread wakes to call `on_interval` and to see whether it may read.
TURN = 1.0


class SyncBackendMixin:
    """Waiting by looking. A store may override `_get_task_metas_for` so that one look sees many results."""

    is_async = False

    #: Seconds between two looks, at most; a store where looking is cheap may say less.
    longest_pause = LONGEST_PAUSE

    def iter_native(self, result: Any, timeout: float | None = None, interval: float | None = 0.5,
                    no_ack: bool = True, on_message: Callable[[Meta], Any] | None = None,
                    on_interval: Callable[[], Any] | None = None) -> Iterator[tuple[str, Any]]:
        """``(id, meta)`` of each member of a `ResultSet` as it becomes ready; ``(id, members)`` of a nested set."""
        self._ensure_not_eager()  # type: ignore[attr-defined]
        nested, ids = split_members(result)
        yield from nested
        yield from self.get_many(ids, timeout=timeout, interval=interval, no_ack=no_ack, on_message=on_message,
                                 on_interval=on_interval)

    def get_many(self, task_ids: Iterable[str], timeout: float | None = None, interval: float | None = 0.5,
                 no_ack: bool = True, on_message: Callable[[Meta], Any] | None = None,
                 on_interval: Callable[[], Any] | None = None, max_iterations: int | None = None,
                 READY_STATES: Collection[str] = states.READY_STATES) -> Iterator[tuple[str, Meta]]:
        """``(id, meta)`` of each task as it becomes ready, looking at most every `interval` seconds.

        Stops after `max_iterations` looks. Raises `TimeoutError` after `timeout` seconds.
        """
        missing = {bytes_to_str(task_id) for task_id in task_ids}
        pauses = Pauses(timeout, interval, self.longest_pause)
        looks = 0
        while missing:
            metas = self.get_task_metas(missing)  # type: ignore[attr-defined]
            for task_id, meta in metas.items():
                if meta['status'] in READY_STATES:
                    missing.discard(task_id)
                    if on_message is not None:
                        on_message(meta)
                    yield task_id, meta
            looks += 1
            if not missing or (max_iterations and looks >= max_iterations):
                return
            if on_interval is not None:
                on_interval()
            pauses.sleep()

    def wait_for_pending(self, result: Any, timeout: float | None = None, interval: float | None = 0.5,
                         no_ack: bool = True, on_message: Callable[[Meta], Any] | None = None,
                         on_interval: Callable[[], Any] | None = None,
                         callback: Callable[[str, Any], Any] | None = None, propagate: bool = True) -> Any:
        """Wait for an `AsyncResult`; return its value or raise its error."""
        self._ensure_not_eager()  # type: ignore[attr-defined]
        if on_message is not None:
            raise ImproperlyConfigured(f'result_backend: {type(self).__name__} does not support on_message')
        meta = self.wait_for(result.id, timeout=timeout, interval=interval, on_interval=on_interval, no_ack=no_ack)
        if meta:
            result._maybe_set_cache(meta)
            return result.maybe_throw(propagate=propagate, callback=callback)
        return None

    def wait_for(self, task_id: str, timeout: float | None = None, interval: float | None = 0.5, no_ack: bool = True,
                 on_interval: Callable[[], Any] | None = None) -> Meta:
        """Wait for a task; return its meta. Raises `TimeoutError` after `timeout` seconds."""
        pauses = Pauses(timeout, interval, self.longest_pause)
        while True:
            meta: Meta = self.get_task_meta(task_id)  # type: ignore[attr-defined]
            if meta['status'] in states.READY_STATES:
                return meta
            if on_interval is not None:
                on_interval()
            pauses.sleep()

    def add_pending_result(self, result: Any, weak: bool = False) -> Any:
        """Nothing to do: a polled store finds out when it is asked."""
        return result

    def remove_pending_result(self, result: Any) -> Any:
        """Nothing to do."""
        return result


class Pauses:
    """The pauses between looks: short at first, growing to `interval`, and never beyond `timeout` seconds in all."""

    __slots__ = ('deadline', 'longest', 'pause', 'timeout')

    def __init__(self, timeout: float | None, interval: float | None, longest: float = LONGEST_PAUSE) -> None:
        self.timeout = timeout
        self.deadline = None if timeout is None else time.monotonic() + timeout
        self.longest = longest if interval is None else min(interval, longest)
        self.pause = min(FIRST_PAUSE, self.longest)

    def sleep(self) -> None:
        """Sleep for the next pause. Raises `TimeoutError` if there is no time left."""
        pause = self.pause
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f'The operation timed out after {self.timeout} s.')
            pause = min(pause, left)
        time.sleep(pause)
        self.pause = min(self.pause * PAUSE_GROWTH, self.longest)


def split_members(result: Any) -> tuple[list[tuple[str, Any]], set[str]]:
    """The nested sets among the members of a `ResultSet` as ``(id, members)``, and the ids of the others."""
    nested = [(member.id, member.results) for member in result.results if isinstance(member, ResultSet)]
    return nested, {member.id for member in result.results if not isinstance(member, ResultSet)}


class _Wait:
    """One thread's wait: what it waits for, and what has come for it."""

    __slots__ = ('inbox', 'missing')

    def __init__(self, missing: set[str]) -> None:
        self.missing = missing
        self.inbox: deque[Meta] = deque()


class BaseResultConsumer:
    """Waiting by being told, for any number of threads.

    A store writes `subscribe`, `unsubscribe`, `read` and `reset`. `subscribe` and `unsubscribe` are called with the
    lock held; `read` by one thread at a time, without it, while other threads may subscribe.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self._waits: dict[str, list[_Wait]] = {}
        #: Results with `then` callbacks: they are told whenever anybody reads.
        self._listening: dict[str, weakref.WeakSet[Any]] = {}
        self._kept: dict[str, set[Any]] = {}
        self._renew_locks()
        _consumers.add(self)

    def _renew_locks(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._reading = False

    # -- what a store writes -----------------------------------------------------------------------------------

    def subscribe(self, task_ids: Collection[str]) -> None:
        """Be told of these tasks from now on."""
        raise TypeError(f'{type(self).__name__} cannot subscribe')

    def unsubscribe(self, task_ids: Collection[str]) -> None:
        """Be told of these tasks no longer."""
        raise TypeError(f'{type(self).__name__} cannot unsubscribe')

    def read(self, timeout: float) -> Iterable[Meta]:
        """Wait at most `timeout` seconds; return the metas (with ``task_id``) that have come, if any.

        A store whose connection is lost connects and subscribes again (`subscriptions`), and returns what `look` finds.
        """
        raise TypeError(f'{type(self).__name__} cannot read')

    def reset(self) -> None:
        """Forget the connection without speaking on it: it may belong to a parent process."""

    # -- given -------------------------------------------------------------------------------------------------------

    def subscriptions(self) -> list[str]:
        """The ids that somebody waits for."""
        return list({*self._waits, *self._listening, *self._kept})

    def look(self, task_ids: Collection[str]) -> Iterable[Meta]:
        """The metas that the store has of those tasks already."""
        metas = self.backend.get_task_metas(task_ids)
        for task_id, meta in metas.items():
            meta.setdefault('task_id', task_id)
        return metas.values()  # type: ignore[no-any-return]

    def on_after_fork(self) -> None:
        """Start anew in a child process: its parent's threads and connection are not its own."""
        self._waits.clear()
        self._renew_locks()
        self.reset()

    def collect(self, task_ids: Iterable[str], timeout: float | None = None,
                on_interval: Callable[[], Any] | None = None,
                on_message: Callable[[Meta], Any] | None = None) -> Iterator[tuple[str, Meta]]:
        """``(id, meta)`` of each task as it becomes ready.

        `on_message` also gets the metas of states that are not final. Raises `TimeoutError` after `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        wait = _Wait({bytes_to_str(task_id) for task_id in task_ids})
        if not wait.missing:
            return
        ids = list(wait.missing)
        try:
            self._begin(wait, ids)
            for meta in self.look(ids):
                wait.inbox.append(meta)
            while True:
                while wait.inbox:
                    meta = wait.inbox.popleft()
                    if on_message is not None:
                        on_message(meta)
                    if meta['status'] in states.READY_STATES and meta['task_id'] in wait.missing:
                        wait.missing.discard(meta['task_id'])
                        yield meta['task_id'], meta
                if not wait.missing:
                    return
                self._wait_turn(wait, deadline, timeout)
                if on_interval is not None and not wait.inbox:
                    on_interval()
        finally:
            self._end(wait, ids)

    def _begin(self, wait: _Wait, ids: list[str]) -> None:
        with self.changed:
            new = [task_id for task_id in ids if not self._is_awaited(task_id)]
            for task_id in ids:
                self._waits.setdefault(task_id, []).append(wait)
            if new:
                self.subscribe(new)

    def _end(self, wait: _Wait, ids: list[str]) -> None:
        with self.changed:
            idle = []
            for task_id in ids:
                waits = self._waits.get(task_id)
                if waits is None or wait not in waits:
                    continue
                waits.remove(wait)
                if not waits:
                    del self._waits[task_id]
                    if not self._is_awaited(task_id):
                        idle.append(task_id)
            if idle:
                self.unsubscribe(idle)

    def _is_awaited(self, task_id: str) -> bool:
        return task_id in self._waits or task_id in self._listening or task_id in self._kept

    def _wait_turn(self, wait: _Wait, deadline: float | None, timeout: float | None) -> None:
        turn = TURN
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f'The operation timed out after {timeout} s.')
            turn = min(turn, left)
        with self.changed:
            if wait.inbox:
                return
            if self._reading:
                self.changed.wait(turn)
                return
            self._reading = True
        metas: Iterable[Meta] = ()
        try:
            metas = self.read(turn)
        finally:
            with self.changed:
                self._reading = False
                listeners = [pair for meta in metas for pair in self._deliver(meta)]
                self.changed.notify_all()
        for result, meta in listeners:
            result._maybe_set_cache(meta)

    def _deliver(self, meta: Meta) -> list[tuple[Any, Meta]]:
        task_id = meta['task_id']
        for wait in tuple(self._waits.get(task_id, ())):
            wait.inbox.append(meta)
        if meta['status'] not in states.READY_STATES:
            return []
        return [(result, meta) for result in self._forget_listeners(task_id)]

    # -- results with callbacks ---------------------------------------------------------------------------------

    def listen(self, result: Any, weak: bool = False) -> None:
        """Tell `result` when its task is ready (it is told while anybody reads)."""
        with self.changed:
            new = not self._is_awaited(result.id)
            if weak:
                self._listening.setdefault(result.id, weakref.WeakSet()).add(result)
            else:
                self._kept.setdefault(result.id, set()).add(result)
            if new:
                self.subscribe([result.id])

    def leave(self, result: Any) -> None:
        """Undo `listen`."""
        with self.changed:
            known = result.id in self._kept or result.id in self._listening
            for registry in (self._kept, self._listening):
                results: Any = registry.get(result.id)
                if results is not None:
                    results.discard(result)
                    if not results:
                        registry.pop(result.id, None)
            if known and not self._is_awaited(result.id):
                self.unsubscribe([result.id])

    def _forget_listeners(self, task_id: str) -> list[Any]:
        return [*self._kept.pop(task_id, ()), *self._listening.pop(task_id, ())]


class AsyncBackendMixin:
    """Waiting by being told: `result_consumer` is the store's `BaseResultConsumer`."""

    is_async = True
    result_consumer: BaseResultConsumer

    def on_after_fork(self) -> None:
        """Begin anew in a child process."""
        self.result_consumer.on_after_fork()

    def iter_native(self, result: Any, timeout: float | None = None, interval: float | None = None,
                    no_ack: bool = True, on_message: Callable[[Meta], Any] | None = None,
                    on_interval: Callable[[], Any] | None = None) -> Iterator[tuple[str, Any]]:
        """``(id, meta)`` of each member of a `ResultSet` as it becomes ready; ``(id, members)`` of a nested set."""
        self._ensure_not_eager()  # type: ignore[attr-defined]
        nested, ids = split_members(result)
        yield from nested
        members = {member.id: member for member in result.results}
        for task_id in list(ids):
            if members[task_id]._cache:
                ids.discard(task_id)
                yield task_id, members[task_id]._cache
        for task_id, meta in self.result_consumer.collect(ids, timeout, on_interval, on_message):
            members[task_id]._maybe_set_cache(meta)
            yield task_id, members[task_id]._cache

    def get_many(self, task_ids: Iterable[str], timeout: float | None = None, interval: float | None = None,
                 no_ack: bool = True, on_message: Callable[[Meta], Any] | None = None,
                 on_interval: Callable[[], Any] | None = None, max_iterations: int | None = None,
                 READY_STATES: Collection[str] = states.READY_STATES) -> Iterator[tuple[str, Meta]]:
        """``(id, meta)`` of each task as it becomes ready; of those ready now, if `max_iterations` is 1."""
        ids = {bytes_to_str(task_id) for task_id in task_ids}
        if max_iterations:
            metas = self.get_task_metas(ids)  # type: ignore[attr-defined]
            yield from ((task_id, meta) for task_id, meta in metas.items() if meta['status'] in READY_STATES)
            return
        yield from self.result_consumer.collect(ids, timeout, on_interval, on_message)

    def wait_for_pending(self, result: Any, timeout: float | None = None, interval: float | None = None,
                         no_ack: bool = True, on_message: Callable[[Meta], Any] | None = None,
                         on_interval: Callable[[], Any] | None = None,
                         callback: Callable[[str, Any], Any] | None = None, propagate: bool = True) -> Any:
        """Wait for an `AsyncResult`; return its value or raise its error."""
        self._ensure_not_eager()  # type: ignore[attr-defined]
        for _, meta in self.result_consumer.collect([result.id], timeout, on_interval, on_message):
            result._maybe_set_cache(meta)
        return result.maybe_throw(callback=callback, propagate=propagate)

    def wait_for(self, task_id: str, timeout: float | None = None, interval: float | None = None, no_ack: bool = True,
                 on_interval: Callable[[], Any] | None = None) -> Meta:
        """Wait for a task; return its meta. Raises `TimeoutError` after `timeout` seconds."""
        return next(meta for _, meta in self.result_consumer.collect([task_id], timeout, on_interval))

    def add_pending_result(self, result: Any, weak: bool = False) -> Any:
        """Have `result` told when its task is ready."""
        self.result_consumer.listen(result, weak=weak)
        return result

    def remove_pending_result(self, result: Any) -> Any:
        """Undo `add_pending_result`."""
        self.result_consumer.leave(result)
        return result


_consumers: weakref.WeakSet[BaseResultConsumer] = weakref.WeakSet()


def _begin_anew() -> None:
    for consumer in list(_consumers):
        consumer.backend.on_after_fork()


os.register_at_fork(after_in_child=_begin_anew)
