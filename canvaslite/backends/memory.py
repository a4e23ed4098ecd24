"""This process's memory as a result store: values, the join of chords, and waiting for both."""

from __future__ import annotations

import os
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from canvaslite.backends.base import BaseResultConsumer
from canvaslite.backends.chords import Part
from canvaslite.backends.codec import Meta
from canvaslite.backends.recordjoin import ChordHead, ChordRecord, RecordJoin

__all__ = ('Memory', 'MemoryConsumer', 'MemoryJoin', 'memory')

T = TypeVar('T')

#: How often, in writes, the memory looks for what has expired.
WRITES_BETWEEN_SWEEPS = 1000


class Memory:
    """Keys and values, chords and who waits, for all threads of this process. Values expire after their seconds."""

    def __init__(self) -> None:
        self.values: dict[bytes, tuple[Any, float | None]] = {}
        self.chords: dict[str, MemoryRecord] = {}
        self.consumers: weakref.WeakSet[MemoryConsumer] = weakref.WeakSet()
        self._begin()

    def _begin(self) -> None:
        #: Held while anything is read or changed; told of every change.
        self.changed = threading.Condition(threading.RLock())
        self.watchers: list[MemoryConsumer] = []
        self.forked = False
        self._writes = 0

    def on_after_fork(self) -> None:
        """Begin anew in a child: the parent's locks may be held by threads that are not here."""
        self._begin()
        self.forked = True
        for consumer in list(self.consumers):
            consumer.on_after_fork()

    def get(self, key: bytes) -> Any:
        """The value, None if there is none or it has expired."""
        value, until = self.values.get(key, (None, None))
        return None if until is not None and until < time.monotonic() else value

    def set(self, key: bytes, value: Any, expires: float | None) -> None:
        """Keep the value and tell who waits for it."""
        if self.forked:
            self.forked = False
            warnings.warn('result_backend cache+memory: a result was stored in a child process, where no other process '
                          'sees it; use the pool solo or threads, or another store such as db+sqlite:///results.sqlite',
                          UserWarning, stacklevel=2)
        with self.changed:
            self.values[key] = (value, time.monotonic() + expires if expires else None)
            self._writes += 1
            if self._writes >= WRITES_BETWEEN_SWEEPS:
                self.sweep()
            for watcher in self.watchers:
                watcher.notice(key)
            self.changed.notify_all()

    def delete(self, key: bytes) -> None:
        """Remove the value."""
        with self.changed:
            self.values.pop(key, None)

    def incr(self, key: bytes) -> int:
        """Add one to a number; what is not there counts as 0."""
        with self.changed:
            number = int(self.get(key) or 0) + 1
            self.values[key] = (number, self.values.get(key, (None, None))[1])
            return number

    def touch(self, key: bytes, expires: float | None) -> None:
        """Have the value expire `expires` seconds from now."""
        with self.changed:
            if key in self.values:
                self.values[key] = (self.values[key][0], time.monotonic() + expires if expires else None)

    def sweep(self) -> None:
        """Remove what has expired."""
        with self.changed:
            self._writes = 0
            now, today = time.monotonic(), time.time()
            for key in [key for key, (_, until) in self.values.items() if until is not None and until < now]:
                del self.values[key]
            for group_id, record in list(self.chords.items()):
                if record.head is not None and record.head.deadline is not None and record.head.deadline < today:
                    del self.chords[group_id]


class MemoryRecord(ChordRecord):
    """A chord in memory."""

    __slots__ = ('_body', '_parts', 'head')

    def __init__(self) -> None:
        self.head: ChordHead | None = None
        #: What the body is to be, and the header's ids.
        self._body: tuple[Mapping[str, Any], list[str]] = ({}, [])
        self._parts: dict[tuple[str, int | None], Part] = {}

    def read(self) -> ChordHead | None:
        return self.head

    def begin(self, head: ChordHead, callback: Mapping[str, Any], ids: list[str]) -> None:
        self.clear()
        self.head, self._body = head, (callback, ids)

    def write(self, head: ChordHead) -> None:
        self.head = head

    def add(self, part: Part) -> None:
        self._parts.setdefault((part.task_id, part.place), part)

    def count(self) -> int:
        return len(self._parts)

    def parts(self) -> list[Part]:
        return list(self._parts.values())

    def ids(self) -> list[str]:
        return self._body[1]

    def clear(self) -> None:
        self._body, self._parts = ({}, []), {}


class MemoryJoin(RecordJoin):
    """Chords in memory."""

    def __init__(self, memory: Memory, expires: float | None) -> None:
        super().__init__(expires)
        self.memory = memory

    def step(self, group_id: str, do: Callable[..., T], *args: Any) -> T:
        """``do(record, *args)`` while no other thread touches the memory."""
        with self.memory.changed:
            record = self.memory.chords.get(group_id) or MemoryRecord()
            done = do(record, *args)
            if record.head is not None:
                self.memory.chords[group_id] = record
            return done


class MemoryConsumer(BaseResultConsumer):
    """Waiting for what other threads store."""

    def __init__(self, backend: Any, memory: Memory) -> None:
        super().__init__(backend)
        self.memory = memory
        self._keys: dict[bytes, str] = {}
        self._noticed: deque[str] = deque()
        memory.consumers.add(self)

    def notice(self, key: bytes) -> None:
        """Something was stored under `key`. Called with the memory's lock held."""
        task_id = self._keys.get(key)
        if task_id is not None:
            self._noticed.append(task_id)

    def subscribe(self, task_ids: Collection[str]) -> None:
        """Be told of these tasks from now on."""
        with self.memory.changed:
            for task_id in task_ids:
                self._keys[self.backend.get_key_for_task(task_id)] = task_id
            if self not in self.memory.watchers:
                self.memory.watchers.append(self)

    def unsubscribe(self, task_ids: Collection[str]) -> None:
        """Be told of these tasks no longer."""
        with self.memory.changed:
            for task_id in task_ids:
                self._keys.pop(self.backend.get_key_for_task(task_id), None)
            if not self._keys and self in self.memory.watchers:
                self.memory.watchers.remove(self)

    def read(self, timeout: float) -> Iterable[Meta]:
        """Wait until another thread stores what is waited for."""
        with self.memory.changed:
            if not self._noticed:
                self.memory.changed.wait_for(lambda: bool(self._noticed), timeout)
            noticed, self._noticed = self._noticed, deque()
        return self.look(set(noticed)) if noticed else ()

    def reset(self) -> None:
        """Forget who was waited for."""
        self._keys.clear()
        self._noticed.clear()


#: One for all apps of this process.
memory = Memory()
os.register_at_fork(after_in_child=memory.on_after_fork)
