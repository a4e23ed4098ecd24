"""Results in this process's memory: ``cache+memory://``.

The memory is one for all apps of a process, and only of that process: it serves the pools ``solo`` and ``threads``,
tests and eager tasks. What a prefork child stores in it nobody else sees; a warning says so.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

from kombu.utils.encoding import ensure_bytes

from canvaslite.backends.base import AsyncBackendMixin, BaseKeyValueStoreBackend, BaseResultConsumer
from canvaslite.backends.canvases import CanvasStore, Found
from canvaslite.backends.chords import Outbox, Part
from canvaslite.backends.codec import Meta
from canvaslite.backends.recordjoin import OVER, ChordHead, ChordRecord, RecordJoin
from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.result.nodes import CanvasRecord

T = TypeVar('T')

#: How often, in writes, the memory looks for what has expired.
WRITES_BETWEEN_SWEEPS = 1000


class Memory:
    """Keys and values, chords and who waits, for all threads of this process. Values expire after their seconds."""

    def __init__(self) -> None:
        self.values: dict[bytes, tuple[Any, float | None]] = {}
        self.chords: dict[str, MemoryRecord] = {}
        self.canvases: dict[str, MemoryRun] = {}
        self.begin()
        self.forked = False

    def begin(self) -> None:
        """Begin, or begin anew in a child: the parent's locks may be held by threads that are not here."""
        #: Held while anything is read or changed; told of every change.
        self.changed = threading.Condition(threading.RLock())
        self.watchers: list[MemoryConsumer] = []
        self.forked = True
        self._writes = 0

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

    def sweep(self) -> None:
        """Remove what has expired."""
        with self.changed:
            self._writes = 0
            now, today = time.monotonic(), time.time()
            for key in [key for key, (_, until) in self.values.items() if until is not None and until < now]:
                del self.values[key]
            for task_id in [task_id for task_id, run in self.canvases.items() if run.until < now]:
                del self.canvases[task_id]
            for group_id, record in list(self.chords.items()):
                if record.head is not None and record.head.state == OVER and record.head.due < today:
                    del self.chords[group_id]


class MemoryRecord(ChordRecord):
    """A chord in memory."""

    __slots__ = ('_outbox', '_parts', 'head')

    def __init__(self) -> None:
        self.head: ChordHead | None = None
        self._outbox: Outbox | None = None
        self._parts: dict[tuple[str, int | None], Part] = {}

    def read(self) -> ChordHead | None:
        return self.head

    def begin(self, head: ChordHead, outbox: Outbox) -> None:
        self.clear()
        self.head, self._outbox = head, outbox

    def write(self, head: ChordHead) -> None:
        self.head = head

    def outbox(self) -> Outbox | None:
        return self._outbox

    def keep(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def add(self, part: Part) -> None:
        self._parts.setdefault((part.task_id, part.place), part)

    def count(self) -> int:
        return len(self._parts)

    def parts(self) -> list[Part]:
        return list(self._parts.values())

    def clear(self) -> None:
        self._parts, self._outbox = {}, None

    def remove(self) -> None:
        self.clear()
        self.head = None


class MemoryJoin(RecordJoin):
    """Chords in memory."""

    def step(self, group_id: str, do: Callable[..., T], *args: Any) -> T:
        """``do(record, *args)`` while no other thread touches the memory."""
        with memory.changed:
            record = memory.chords.get(group_id) or MemoryRecord()
            done = do(record, *args)
            if record.head is not None:
                memory.chords[group_id] = record
            else:
                memory.chords.pop(group_id, None)
            return done

    def due(self, now: float, limit: int) -> Sequence[str]:
        with memory.changed:
            found = [(record.head.due, group_id) for group_id, record in memory.chords.items()
                     if record.head is not None and record.head.state != OVER and record.head.due <= now
                     and record.head.home == self.home]
        return [group_id for _, group_id in sorted(found)[:limit]]


class MemoryRun:
    """The records of one run."""

    def __init__(self, id: str) -> None:
        self.id, self.records, self.until = id, list[bytes](), float('inf')


class MemoryCanvases(CanvasStore):
    """Records of canvases in memory, for `expires` seconds."""

    def __init__(self, expires: float | None) -> None:
        self._expires = expires or float('inf')

    def keep(self, record: CanvasRecord) -> None:
        with memory.changed:
            known = (memory.canvases[task_id] for task_id in record.within if task_id in memory.canvases)
            run = next(known, None) or MemoryRun(record.run)
            run.records.append(record.data)
            run.until = time.monotonic() + self._expires
            memory.canvases.update(dict.fromkeys((*record.ids, *record.within), run))

    def find(self, task_id: str) -> Found | None:
        with memory.changed:
            run = memory.canvases.get(task_id)
            return None if run is None or run.until < time.monotonic() else (run.id, list(run.records))

    def drop(self, run: str, ids: Sequence[str]) -> None:
        with memory.changed:
            for task_id in (run, *ids):
                memory.canvases.pop(task_id, None)


class MemoryConsumer(BaseResultConsumer):
    """Waiting for what other threads store."""

    def __init__(self, backend: Any) -> None:
        super().__init__(backend)
        self._keys: dict[bytes, str] = {}
        self._noticed: deque[str] = deque()

    def notice(self, key: bytes) -> None:
        """Something was stored under `key`. Called with the memory's lock held."""
        task_id = self._keys.get(key)
        if task_id is not None:
            self._noticed.append(task_id)

    def subscribe(self, task_ids: Collection[str]) -> None:
        with memory.changed:
            for task_id in task_ids:
                self._keys[self.backend.get_key_for_task(task_id)] = task_id
            if self not in memory.watchers:
                memory.watchers.append(self)

    def unsubscribe(self, task_ids: Collection[str]) -> None:
        with memory.changed:
            for task_id in task_ids:
                self._keys.pop(self.backend.get_key_for_task(task_id), None)
            if not self._keys and self in memory.watchers:
                memory.watchers.remove(self)

    def read(self, timeout: float) -> Iterable[Meta]:
        """Wait until another thread stores what is waited for."""
        with memory.changed:
            memory.changed.wait_for(lambda: bool(self._noticed), timeout)
            noticed, self._noticed = self._noticed, deque()
        return self.look(set(noticed)) if noticed else ()

    def reset(self) -> None:
        self._keys.clear()
        self._noticed.clear()


class CacheBackend(AsyncBackendMixin, BaseKeyValueStoreBackend):
    """Results in this process's memory. `backend` is used where there is no `url`, and ``cache_backend`` without both.

    Raises `ImproperlyConfigured` for any other cache than ``memory``.
    """

    thread_safe = True
    persistent = False
    supports_autoexpire = True
    supports_native_join = True
    supports_result_compression = True

    def __init__(self, app: Any, expires: Any = None, backend: str | None = None, url: str | None = None,
                 **kwargs: Any) -> None:
        super().__init__(app, expires=expires, url=url or backend or app.conf.cache_backend, **kwargs)
        name = (self.url or '').partition('://')[0]
        if name != 'memory':
            raise ImproperlyConfigured(f'result_backend: no cache is called {name!r}; '
                                       'use cache+memory:// or cache+memcached://host:port')
        self.join = MemoryJoin(self.chord_expires, self.app.conf)
        self.canvases = MemoryCanvases(self.expires)
        self.result_consumer = MemoryConsumer(self)

    def get(self, key: Any) -> Any:
        return memory.get(key)

    def set(self, key: Any, value: Any) -> Any:
        return memory.set(key, ensure_bytes(value), self.expires)

    def _replace(self, task_id: str, payload: Any, state: str) -> None:
        with memory.changed:
            super()._replace(task_id, payload, state)

    def delete(self, key: Any) -> Any:
        with memory.changed:
            memory.values.pop(key, None)

    def cleanup(self) -> None:
        memory.sweep()

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), 'url': self.url, 'expires': self.expires})


#: One for all apps of this process.
memory = Memory()
os.register_at_fork(after_in_child=memory.begin)
