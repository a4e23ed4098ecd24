"""Results as files of a folder: ``file:///var/lib/results``. The folder may be shared by machines.

A file is written beside its place and moved there, so that nobody reads half of one. Chords are joined in a folder of
their own beside the results, under a lock on a file (where the system has ``fcntl``; elsewhere by a polling task).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any, TypeVar
from urllib.parse import quote, unquote

from kombu.utils.encoding import bytes_to_str, ensure_bytes
from kombu.utils.uuid import uuid

from canvaslite.backends.base import KeyValueStoreBackend
from canvaslite.backends.chords import Part
from canvaslite.backends.recordjoin import ChordHead, ChordRecord, RecordJoin
from canvaslite.exceptions import ImproperlyConfigured

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

__all__ = ('FilesystemBackend',)

T = TypeVar('T')

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


class FolderRecord(ChordRecord):
    """A chord as a folder: ``head``, ``body`` (what it is to be, and the header's ids), a file for each slot."""

    __slots__ = ('_backend', '_folder', '_group_id')

    def __init__(self, backend: FilesystemBackend, group_id: str) -> None:
        self._backend = backend
        self._group_id = group_id
        self._folder = JOIN_PREFIX + quote(group_id, safe='')

    @property
    def path(self) -> str:
        """Where the folder is."""
        return self._backend._filename(self._folder)

    def _keep(self, name: str, value: Any) -> None:
        self._backend.set(f'{self._folder}/{name}', self._backend.encode(value))

    def _find(self, name: str) -> Any:
        return self._backend.decode(self._backend.get(f'{self._folder}/{name}'))

    def read(self) -> ChordHead | None:
        head = self._find('head')
        return None if head is None else ChordHead(*head)

    def begin(self, head: ChordHead, callback: Mapping[str, Any], ids: list[str]) -> None:
        self.clear()
        self._keep('body', [callback, ids])
        self._keep('head', list(head))

    def write(self, head: ChordHead) -> None:
        self._keep('head', list(head))

    def add(self, part: Part) -> None:
        name = f'part-{quote(part.task_id, safe="")}:{"" if part.place is None else part.place}'
        if not os.path.exists(f'{self.path}/{name}'):
            self._keep(name, [part.task_id, part.place, part.state, part.result])

    def count(self) -> int:
        return len(self._slots())

    def parts(self) -> list[Part]:
        return [Part(self._group_id, *self._find(name)) for name in self._slots()]

    def ids(self) -> list[str]:
        return list((self._find('body') or (None, ()))[1])

    def clear(self) -> None:
        for name in (*self._slots(), 'body'):
            self._backend.delete(f'{self._folder}/{name}')

    def _slots(self) -> list[str]:
        return [name for name in os.listdir(self.path) if name.startswith('part-')]


class FolderJoin(RecordJoin):
    """Chords in folders."""

    def __init__(self, backend: FilesystemBackend, expires: float | None) -> None:
        super().__init__(expires)
        self.backend = backend

    def open(self, group_id: str, size: int | None, callback: Mapping[str, Any], task_ids: Sequence[str]) -> None:
        """A chord begins: its folder is made."""
        os.makedirs(FolderRecord(self.backend, group_id).path, exist_ok=True)
        super().open(group_id, size, callback, task_ids)

    def step(self, group_id: str, do: Callable[..., T], *args: Any) -> T:
        """``do(record, *args)`` while no other process has the lock on the folder."""
        record = FolderRecord(self.backend, group_id)
        try:
            lock = os.open(f'{record.path}/lock', os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            # There is no such chord, and so nobody can change it.
            return do(record, *args)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return do(record, *args)
        finally:
            os.close(lock)

    def cleanup(self, now: float) -> None:
        """Remove the folders of the chords that nobody misses any more."""
        for name in os.listdir(self.backend.path):
            if name.startswith(JOIN_PREFIX):
                self.step(unquote(name[len(JOIN_PREFIX):]), self._remove, now)

    def _remove(self, record: FolderRecord, now: float) -> None:
        head = record.read()
        if head is not None and head.deadline is not None and head.deadline < now:
            shutil.rmtree(record.path, ignore_errors=True)
