"""Results as files of a folder: ``file:///var/lib/results``. The folder may be shared by machines.

A file is written beside its place and moved there, so that nobody reads half of one. Chords are joined in a folder of
their own beside the results, under a lock on a file (where the system has ``fcntl``; elsewhere by a polling task).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any
from urllib.parse import quote, unquote

from kombu.utils.encoding import bytes_to_str, ensure_bytes
from kombu.utils.uuid import uuid

from canvaslite.backends.base import KeyValueStoreBackend
from canvaslite.backends.chords import Part
from canvaslite.backends.recordjoin import ChordHead, RecordJoin
from canvaslite.exceptions import ImproperlyConfigured

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

__all__ = ('FilesystemBackend',)

#: Begins the name of a chord's folder. Celery's cleanup must not take it for a result.
JOIN_PREFIX = 'canvaslite-join-'
#: Begins the name of a file that is being written; and how old it is when nobody writes it any more, in seconds.
UNFINISHED_PREFIX, UNFINISHED_KEPT = '.writing-', 3600.0


class FilesystemBackend(KeyValueStoreBackend):
    """Results as files.

    `url` is ``file:///path``; `open` and `unlink` do what the builtins do. Raises `ImproperlyConfigured` for a folder
    that does not exist or cannot be written to.
    """

    thread_safe = True
    supports_result_compression = True
    longest_pause = 0.2

    def __init__(self, url: str | None = None, open: Callable[..., IO[bytes]] = open,
                 unlink: Callable[[str], Any] = os.unlink, sep: str = os.sep, encoding: str | None = None,
                 *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, url=url, **kwargs)
        self.path = _find_path(url)
        self.sep = sep
        self.open = open
        self.unlink = unlink
        self._try_folder()
        if fcntl is not None:
            self.join = FolderJoin(self, self.chord_expires)

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), 'url': self.url})

    def _try_folder(self) -> None:
        try:
            name = f'.canvaslite-{uuid()}'
            self.set(name, b'')
            self.delete(name)
        except OSError as exc:
            raise ImproperlyConfigured(f'result_backend: cannot write to the folder {self.path} ({exc.strerror}); '
                                       'make it, or correct its permissions or the URL') from exc

    def _filename(self, key: Any) -> str:
        return self.path + self.sep + bytes_to_str(key)

    def get(self, key: Any) -> bytes | None:
        """What the file holds, None if there is none."""
        try:
            with self.open(self._filename(key), 'rb') as file:
                return file.read()
        except FileNotFoundError:
            return None

    def mget(self, keys: Iterable[Any]) -> list[bytes | None]:
        """What the files hold, in order."""
        return [self.get(key) for key in keys]

    def set(self, key: Any, value: Any) -> None:
        """Write the file; who reads it meanwhile sees the old one."""
        unfinished = self._filename(f'{UNFINISHED_PREFIX}{uuid()}')
        try:
            with self.open(unfinished, 'wb') as file:
                file.write(ensure_bytes(value))
            os.replace(unfinished, self._filename(key))
        except BaseException:
            with contextlib.suppress(OSError):  # it may not even exist
                self.unlink(unfinished)
            raise

    def delete(self, key: Any) -> None:
        """Remove the file, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            self.unlink(self._filename(key))

    def cleanup(self) -> None:
        """Remove the files that have expired, the chords that ended, and what was never finished."""
        now = time.time()
        prefixes = tuple(bytes_to_str(prefix) for prefix in (self.task_keyprefix, self.group_keyprefix,
                                                             self.chord_keyprefix))
        if isinstance(self.join, FolderJoin):
            self.join.cleanup(now)
        for name in os.listdir(self.path):
            if name.startswith(UNFINISHED_PREFIX):
                kept: float | None = UNFINISHED_KEPT
            elif name.startswith(prefixes):
                kept = self.expires
            else:
                continue
            with contextlib.suppress(FileNotFoundError):  # another cleanup, or `forget`, was faster
                if kept and os.stat(self._filename(name)).st_mtime < now - kept:
                    self.unlink(self._filename(name))


def _find_path(url: str | None) -> str:
    if not url or not url.startswith('file://'):
        raise ImproperlyConfigured('result_backend: the file backend needs a folder; write file:///path/to/folder')
    path = url[len('file://localhost'):] if url.startswith('file://localhost/') else url[len('file://'):]
    if not path:
        raise ImproperlyConfigured('result_backend: file:// names no folder; write file:///path/to/folder')
    # file:///C:/folder
    return path[1:] if os.name == 'nt' and path.startswith('/') else path


class FolderRecord:
    """A chord as a folder: the file ``head``, and one file for each slot. Its lock is held."""

    __slots__ = ('_backend', '_folder')

    def __init__(self, backend: FilesystemBackend, folder: str) -> None:
        self._backend = backend
        self._folder = folder

    def read(self) -> ChordHead | None:
        payload = self._backend.get(f'{self._folder}/head')
        return ChordHead(*self._backend.decode(payload)) if payload else None

    def write(self, head: ChordHead) -> None:
        self._backend.set(f'{self._folder}/head', self._backend.encode(list(head)))

    def add(self, slot: str, part: Part) -> None:
        name = f'{self._folder}/part-{quote(slot, safe="")}'
        if not os.path.exists(self._backend._filename(name)):
            self._backend.set(name, self._backend.encode([part.place, part.state, part.result]))

    def count(self) -> int:
        return len(self._slots())

    def parts(self) -> list[Part]:
        group_id = unquote(self._folder[len(JOIN_PREFIX):])
        parts = []
        for name in self._slots():
            place, state, result = self._backend.decode(self._backend.get(f'{self._folder}/{name}'))
            task_id = unquote(name[len('part-'):]).rpartition(':')[0]
            parts.append(Part(group_id, task_id, place, state, result))
        return parts

    def clear(self) -> None:
        for name in self._slots():
            self._backend.delete(f'{self._folder}/{name}')

    def _slots(self) -> list[str]:
        try:
            names = os.listdir(self._backend._filename(self._folder))
        except FileNotFoundError:
            return []
        return [name for name in names if name.startswith('part-')]


class FolderJoin(RecordJoin):
    """Chords in folders."""

    def __init__(self, backend: FilesystemBackend, expires: float | None) -> None:
        super().__init__(expires)
        self.backend = backend

    @contextmanager
    def locked(self, group_id: str, create: bool = False) -> Iterator[FolderRecord]:
        """The chord's record, while no other process has it."""
        folder = JOIN_PREFIX + quote(group_id, safe='')
        path = self.backend._filename(folder)
        record = FolderRecord(self.backend, folder)
        if create:
            os.makedirs(path, exist_ok=True)
        try:
            lock = os.open(f'{path}/lock', os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            # The store does not know the chord, and so nobody can change it.
            yield record
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield record
        finally:
            os.close(lock)

    def cleanup(self, now: float) -> None:
        """Remove the folders of the chords that nobody misses any more."""
        for name in os.listdir(self.backend.path):
            if not name.startswith(JOIN_PREFIX):
                continue
            with self.locked(unquote(name[len(JOIN_PREFIX):])) as record:
                head = record.read()
                if head is not None and head.deadline is not None and head.deadline < now:
                    shutil.rmtree(self.backend._filename(name), ignore_errors=True)
