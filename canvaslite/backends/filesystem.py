"""Results as files of a folder: ``file:///var/lib/results``. The folder may be shared by machines.

A file is written beside its place and moved there, so that nobody reads half of one. Chords are joined in a folder of
their own beside the results, under a lock on a file.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import quote, unquote
from zlib import crc32

from kombu.utils.encoding import bytes_to_str, ensure_bytes
from kombu.utils.uuid import uuid

from canvaslite import wire
from canvaslite.backends.base import KeyValueStoreBackend
from canvaslite.backends.canvases import CanvasStore, Found, Spans
from canvaslite.backends.chords import Opening, Outbox, Part
from canvaslite.backends.recordjoin import OVER, RUN_PREFIX, ChordHead, ChordRecord, RecordJoin
from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.result.nodes import CanvasRecord

T = TypeVar('T')

#: Locks for keeping results: who looks whether one is final, and replaces it, is alone with it.
LOCKS = 16
#: Begins the name of a file that is being written; and how old it is when nobody writes it any more, in seconds.
UNFINISHED_PREFIX, UNFINISHED_KEPT = '.writing-', 3600.0
#: Errors of a disk that is full, or of a server of files that is away: what failed may work later.
AWAY = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE})


class FilesystemBackend(KeyValueStoreBackend):
    """Results as files of ``file:///path``. Raises `ImproperlyConfigured` where nothing can be written to that folder.
    """

    thread_safe = True
    celery_polls = True
    supports_result_compression = True
    longest_pause = 0.2

    join: FolderJoin
    canvases: FolderCanvases

    def __init__(self, url: str | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, url=url, **kwargs)
        self.path = (url or '').replace('file://localhost/', 'file:///', 1).partition('://')[2]
        if not self.path:
            raise ImproperlyConfigured('result_backend: the file backend needs a folder; write file:///path/to/folder')
        try:
            name = f'.canvaslite-{uuid()}'
            self.set(name, b'')
            self.delete(name)
        except OSError as exc:
            raise ImproperlyConfigured(f'result_backend: cannot write to the folder {self.path} ({exc.strerror}); '
                                       'make it, or correct its permissions or the URL') from exc
        self.join = FolderJoin(self, self.chord_expires)
        self.canvases = FolderCanvases(self)

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), 'url': self.url, 'expires': self.expires})

    def _filename(self, key: Any) -> str:
        return f'{self.path}/{bytes_to_str(key)}'

    def get(self, key: Any) -> bytes | None:
        try:
            with open(self._filename(key), 'rb') as file:
                return file.read()
        except FileNotFoundError:
            return None

    def set(self, key: Any, value: Any) -> None:
        """Write the file; who reads it meanwhile sees the old one."""
        unfinished = self._filename(f'{UNFINISHED_PREFIX}{uuid()}')
        try:
            with open(unfinished, 'wb') as file:
                file.write(ensure_bytes(value))
            os.replace(unfinished, self._filename(key))
        except BaseException:
            with suppress(OSError):  # it may not even exist
                os.unlink(unfinished)
            raise

    def _replace(self, task_id: str, payload: Any, state: str) -> None:
        name = self._filename(f'.lock-{crc32(task_id.encode()) % LOCKS}')
        with _locked(os.open(name, os.O_RDWR | os.O_CREAT, 0o666)):
            super()._replace(task_id, payload, state)

    def delete(self, key: Any) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._filename(key))

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Whether there may be space again later."""
        return isinstance(exc, OSError) and exc.errno in AWAY

    def cleanup(self) -> None:
        """Remove the files that have expired, the chords that ended, and what was never finished."""
        self.canvases.cleanup()
        results = (bytes_to_str(self.task_keyprefix), bytes_to_str(self.group_keyprefix))
        now = time.time()
        for name in os.listdir(self.path):
            if name.startswith(wire.JOIN_PREFIX):
                self.join.step(unquote(name.removeprefix(wire.JOIN_PREFIX)), _remove_expired, now)
                continue
            if not name.startswith((UNFINISHED_PREFIX, *results)):
                continue
            kept = UNFINISHED_KEPT if name.startswith(UNFINISHED_PREFIX) else self.expires
            with suppress(FileNotFoundError):  # another cleanup, or `forget`, was faster
                if kept and os.stat(self._filename(name)).st_mtime < now - kept:
                    os.unlink(self._filename(name))


class FolderRecord(ChordRecord):
    """A chord as a folder: ``head``, and a file for each slot."""

    def __init__(self, backend: FilesystemBackend, group_id: str) -> None:
        self._backend = backend
        self._group_id = group_id
        self._folder = wire.JOIN_PREFIX + quote(group_id, safe='')
        #: Where the folder is.
        self.path = backend._filename(self._folder)

    def _keep(self, name: str, value: Any) -> None:
        self._backend.set(f'{self._folder}/{name}', self._backend.encode(value))

    def _find(self, name: str) -> Any:
        return self._backend.decode(self._backend.get(f'{self._folder}/{name}'))

    def read(self) -> ChordHead | None:
        head = self._find('head')
        return None if head is None else ChordHead(*head)

    def begin(self, head: ChordHead, outbox: Outbox) -> None:
        self.clear()
        self.keep(outbox)
        self.write(head)

    def write(self, head: ChordHead) -> None:
        self._keep('head', list(head))

    def outbox(self) -> Outbox | None:
        callback, said = self._backend.get(f'{self._folder}/callback'), self._find('slots')
        return None if callback is None or said is None else Outbox(callback, [*map(tuple, said[0])], said[1])

    def keep(self, outbox: Outbox) -> None:
        self._backend.set(f'{self._folder}/callback', outbox.callback)
        self._keep('slots', [outbox.slots, outbox.opened])

    def add(self, part: Part) -> None:
        name = f'part-{quote(part.task_id, safe="")}:{"" if part.place is None else part.place}'
        if not os.path.exists(f'{self.path}/{name}'):
            self._keep(name, [part.task_id, part.place, part.state, part.result])

    def count(self) -> int:
        return len(self._slots())

    def parts(self) -> list[Part]:
        return [Part(self._group_id, *self._find(name)) for name in self._slots()]

    def clear(self) -> None:
        for name in ('callback', 'slots', *self._slots()):
            self._backend.delete(f'{self._folder}/{name}')

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _slots(self) -> list[str]:
        return [name for name in os.listdir(self.path) if name.startswith('part-')]


class FolderJoin(RecordJoin):
    """Chords in folders."""

    def __init__(self, backend: FilesystemBackend, expires: float | None) -> None:
        super().__init__(expires, backend.app.conf)
        self.backend = backend

    def open(self, chord: Opening) -> None:
        os.makedirs(FolderRecord(self.backend, chord.group_id).path, exist_ok=True)
        super().open(chord)

    def take_run(self, task_id: str, attempt: str, seconds: float) -> str:
        os.makedirs(FolderRecord(self.backend, RUN_PREFIX + task_id).path, exist_ok=True)
        return super().take_run(task_id, attempt, seconds)

    def due(self, now: float, limit: int) -> Sequence[str]:
        found = []
        for name in os.listdir(self.backend.path):
            if name.startswith(wire.JOIN_PREFIX):
                group_id = unquote(name.removeprefix(wire.JOIN_PREFIX))
                # Without the lock: whoever then looks at the chord has it.
                head = FolderRecord(self.backend, group_id).read()
                if head is not None and head.state != OVER and head.due <= now and head.home == self.home:
                    found.append((head.due, group_id))
        return [group_id for _, group_id in sorted(found)[:limit]]

    def step(self, group_id: str, do: Callable[..., T], *args: Any) -> T:
        """``do(record, *args)`` while no other process has the lock on the folder."""
        record = FolderRecord(self.backend, group_id)
        try:
            lock = os.open(f'{record.path}/lock', os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            # There is no such chord, and so nobody can change it.
            return do(record, *args)
        with _locked(lock):
            return do(record, *args)


class FolderCanvases(CanvasStore):
    """Records of canvases: for each span of time a file, in which a line is the id of a run and a record of it."""

    def __init__(self, backend: FilesystemBackend) -> None:
        self._backend, self._spans = backend, Spans(backend.expires)

    def keep(self, record: CanvasRecord) -> None:
        with self._alone():
            known = (self._run_of(self._read(), task_id) for task_id in record.within)
            run = (next(filter(None, known), None) or record.run.encode())
            with open(self._path(self._spans.now()), 'ab', buffering=0) as file:
                begin, line = file.tell(), run + b'\t' + record.data + b'\n'
                if file.write(line) < len(line):  # what is half there would spoil the line after it
                    file.truncate(begin)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def find(self, task_id: str) -> Found | None:
        lines = self._read()
        run = self._run_of(lines, task_id)
        return None if run is None else (run.decode(), [
            line.partition(b'\t')[2] for _, those in reversed(lines) for line in those if line.startswith(run + b'\t')])

    def drop(self, run: str, ids: Sequence[str]) -> None:
        with self._alone():
            for name, lines in self._read():
                left = [line + b'\n' for line in lines if not line.startswith(run.encode() + b'\t')]
                if len(left) < len(lines):
                    self._backend.set(name, b''.join(left))

    def cleanup(self) -> None:
        """Remove the files of the spans that have expired."""
        known = {self._name(span) for span in self._spans.known()}
        for name in os.listdir(self._backend.path):
            if name.startswith(wire.CANVAS_PREFIX) and name not in known:
                self._backend.delete(name)

    def _alone(self) -> AbstractContextManager[None]:
        return _locked(os.open(self._backend._filename('.lock-canvases'), os.O_RDWR | os.O_CREAT, 0o666))

    def _name(self, span: int) -> str:
        return f'{wire.CANVAS_PREFIX}{span}'

    def _path(self, span: int) -> str:
        return self._backend._filename(self._name(span))

    def _read(self) -> list[tuple[str, list[bytes]]]:
        """The lines of each file, of the newest first."""
        found = ((name, self._backend.get(name)) for name in map(self._name, self._spans.known()))
        return [(name, data.splitlines()) for name, data in found if data]

    @staticmethod
    def _run_of(lines: list[tuple[str, list[bytes]]], task_id: str) -> bytes | None:
        named = json.dumps(task_id).encode()
        return next((line.partition(b'\t')[0] for _, those in lines for line in reversed(those) if named in line), None)


@contextmanager
def _locked(file: int) -> Iterator[None]:
    """Alone with the open file, which is closed in the end."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _remove_expired(record: FolderRecord, now: float) -> None:
    head = record.read()
    if head is None:  # whoever was to begin it died
        over = os.stat(record.path).st_mtime < now - UNFINISHED_KEPT
    else:
        over = head.state == OVER and head.due < now
    if over:
        record.remove()
