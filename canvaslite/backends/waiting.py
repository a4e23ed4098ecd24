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
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from kombu.utils.encoding import bytes_to_str

from canvaslite import states
from canvaslite.backends.codec import Meta
from canvaslite.exceptions import ImproperlyConfigured, TimeoutError
from canvaslite.result.stored import Callback, OnInterval, OnMessage

#: Seconds between two looks: at first, by what factor it grows, and at most (or less, if `interval` says so).
FIRST_PAUSE, PAUSE_GROWTH, LONGEST_PAUSE = 0.001, 1.2, 0.5

#: Seconds after which a waiting thread wakes to call `on_interval` and to see whether it may read.
TURN = 1.0


class ResultWaiting:
    """What `get` asks of a store; how it is awaited is said in `await_results`."""

    is_async = False

    def await_results(self, task_ids: Iterable[str], timeout: float | None, interval: float | None,
                      on_interval: OnInterval, on_message: OnMessage) -> Iterator[tuple[str, Meta]]:
        """``(id, meta)`` of each task as it becomes ready. Raises `TimeoutError` after `timeout` seconds."""
        raise TypeError(f'{type(self).__name__} cannot wait')

    def iter_native(self, result: Any, timeout: float | None = None, interval: float | None = 0.5, no_ack: bool = True,
                    on_message: OnMessage = None, on_interval: OnInterval = None) -> Iterator[tuple[str, Any]]:
        """``(id, meta)`` of each member of a `ResultSet` as it becomes ready; ``(id, members)`` of a nested set."""
        self._ensure_not_eager()  # type: ignore[attr-defined]
        members: dict[str, Any] = {}
        for member in result.results:
            if member.results is not None:
                yield member.id, member.results
            elif member._cache or member.ignored:
                yield member.id, member._cache or {'status': states.PENDING, 'result': None}
            else:
                members[member.id] = member
        for task_id, meta in () if not members else self.get_many(
                members, timeout=timeout, interval=interval, no_ack=no_ack, on_message=on_message,
                on_interval=on_interval):
            members[task_id]._maybe_set_cache(meta)
            yield task_id, members[task_id]._cache

    def wait_for_pending(self, result: Any, timeout: float | None = None, interval: float | None = 0.5,
                         no_ack: bool = True, on_message: OnMessage = None, on_interval: OnInterval = None,
                         callback: Callback = None, propagate: bool = True) -> Any:
        """Wait for an `AsyncResult`; return its value or raise its error."""
        self._ensure_not_eager()  # type: ignore[attr-defined]
        more = {} if on_message is None else {'on_message': on_message}
        meta = self.wait_for(result.id, timeout=timeout, interval=interval, no_ack=no_ack, on_interval=on_interval,
                             **more)
        if not meta:
            return None
        result._maybe_set_cache(meta)
        return result.maybe_throw(callback=callback, propagate=propagate)

    def get_many(self, task_ids: Iterable[str], timeout: float | None = None, interval: float | None = 0.5,
                 no_ack: bool = True, on_message: OnMessage = None, on_interval: OnInterval = None,
                 ) -> Iterator[tuple[str, Meta]]:
        """``(id, meta)`` of each task as it becomes ready; a store may have another way."""
        return self.await_results(task_ids, timeout, interval, on_interval, on_message)

    def wait_for(self, task_id: str, timeout: float | None = None, interval: float | None = 0.5, no_ack: bool = True,
                 on_message: OnMessage = None, on_interval: OnInterval = None) -> Meta | None:
        """What is known of the task when it is ready; a store may have another way."""
        return dict(self.await_results([task_id], timeout, interval, on_interval, on_message)).get(task_id)

    def add_pending_result(self, result: Any, weak: bool = False) -> Any:
        """Have `result` told when its task is ready; a polled store finds out when it is asked."""
        return result

    def remove_pending_result(self, result: Any) -> Any:
        """Undo `add_pending_result`."""
        return result


class SyncBackendMixin(ResultWaiting):
    """Waiting by looking. A store may override `_get_task_metas_for` so that one look sees many results."""

    #: Seconds between two looks, at most; a store where looking is cheap may say less.
    longest_pause = LONGEST_PAUSE

    def await_results(self, task_ids: Iterable[str], timeout: float | None, interval: float | None,
                      on_interval: OnInterval, on_message: OnMessage) -> Iterator[tuple[str, Meta]]:
        """``(id, meta)`` of each task as it becomes ready, looking at least every `interval` seconds."""
        if on_message is not None:
            raise ImproperlyConfigured(f'result_backend: {type(self).__name__} does not support on_message')
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, longest = FIRST_PAUSE, self.longest_pause if interval is None else min(interval, self.longest_pause)
        missing = set(task_ids)
        while missing:
            for task_id, meta in self.get_task_metas(missing).items():  # type: ignore[attr-defined]
                if meta['status'] in states.READY_STATES:
                    missing.discard(task_id)
                    yield task_id, meta
            if missing:
                if on_interval is not None:
                    on_interval()
                time.sleep(_limit_pause(min(pause, longest), deadline, timeout))
                pause *= PAUSE_GROWTH

    def meta_from_decoded(self, meta: Meta) -> Meta:
        """`meta` as those see it who ask for the result: a store may have to rebuild an exception."""
        return meta


def _limit_pause(pause: float, deadline: float | None, timeout: float | None) -> float:
    """`pause`, or the seconds that are left if they are fewer. Raises `TimeoutError` if none are."""
    if deadline is None:
        return pause
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(f'The operation timed out after {timeout} s.')
    return min(pause, left)


class _Wait:
    """One thread's wait: what it waits for, and what has come for it."""

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
        #: Those of them that nobody else needs to keep.
        self._kept: set[Any] = set()
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
        """Wait at most `timeout` seconds; return the metas (with ``task_id``) that have come, if any. A store whose
        connection is lost connects and subscribes again (`subscriptions`), and returns what `look` finds."""
        raise TypeError(f'{type(self).__name__} cannot read')

    def reset(self) -> None:
        """Forget the connection without speaking on it: it may belong to a parent process."""

    # -- given -------------------------------------------------------------------------------------------------------

    def subscriptions(self) -> list[str]:
        """The ids that somebody waits for."""
        return list({*self._waits, *self._listening})

    def look(self, task_ids: Collection[str]) -> Iterable[Meta]:
        """The metas that the store has of those tasks already."""
        metas = self.backend.get_task_metas(task_ids)
        for task_id, meta in metas.items():
            meta['task_id'] = task_id  # whatever it says itself: it was found under this one
        return metas.values()  # type: ignore[no-any-return]

    def on_after_fork(self) -> None:
        """Start anew in a child process: its parent's threads and connection are not its own."""
        self._waits.clear()
        self._renew_locks()
        self.reset()

    def collect(self, task_ids: Iterable[str], timeout: float | None = None,
                on_interval: OnInterval = None, on_message: OnMessage = None) -> Iterator[tuple[str, Meta]]:
        """``(id, meta)`` of each task as it becomes ready, `on_message` gets all. Raises `TimeoutError` after `timeout`
        seconds."""
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
            if new:  # first: it refuses what is no id, which nobody must be asked for again
                self.subscribe(new)
            for task_id in ids:
                self._waits.setdefault(task_id, []).append(wait)

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
        return task_id in self._waits or task_id in self._listening

    def _wait_turn(self, wait: _Wait, deadline: float | None, timeout: float | None) -> None:
        turn = _limit_pause(TURN, deadline, timeout)
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
        listeners = list(self._listening.pop(task_id, ()))
        self._kept.difference_update(listeners)
        return [(result, meta) for result in listeners]

    # -- results with callbacks ---------------------------------------------------------------------------------

    def listen(self, result: Any, weak: bool = False) -> None:
        """Tell `result` when its task is ready (it is told while anybody reads)."""
        with self.changed:
            if not self._is_awaited(result.id):
                self.subscribe([result.id])
            self._listening.setdefault(result.id, weakref.WeakSet()).add(result)
            if not weak:
                self._kept.add(result)

    def leave(self, result: Any) -> None:
        """Undo `listen`."""
        with self.changed:
            listening = self._listening.get(result.id)
            if listening is None:
                return
            self._kept.discard(result)
            listening.discard(result)
            if not listening:
                del self._listening[result.id]
                if not self._is_awaited(result.id):
                    self.unsubscribe([result.id])


class AsyncBackendMixin(ResultWaiting):
    """Waiting by being told: `result_consumer` is the store's `BaseResultConsumer`."""

    is_async = True
    result_consumer: BaseResultConsumer

    def on_after_fork(self) -> None:
        """Begin anew in a child process."""
        self.result_consumer.on_after_fork()

    def await_results(self, task_ids: Iterable[str], timeout: float | None, interval: float | None,
                      on_interval: OnInterval, on_message: OnMessage) -> Iterator[tuple[str, Meta]]:
        """``(id, meta)`` of each task as it becomes ready."""
        return self.result_consumer.collect(task_ids, timeout, on_interval, on_message)

    def add_pending_result(self, result: Any, weak: bool = False) -> Any:
        """Have `result` told when its task is ready, which is noticed while something waits."""
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
