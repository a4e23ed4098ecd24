"""Results and chords in memcached: ``cache+memcached://host:port;host2:port/``.

memcached keeps what fits into its memory. A server that restarts has lost everything, and one that is full drops what
was not used for longest; docs/settings.md says what holds then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any
from zlib import crc32

from kombu.exceptions import EncodeError
from kombu.utils.encoding import bytes_to_str, ensure_bytes

from canvaslite import states, wire
from canvaslite.backends import chords
from canvaslite.backends.base import KeyValueStoreBackend
from canvaslite.backends.canvases import CanvasStore, Found
from canvaslite.backends.keyjoin import KeyValueJoin
from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.result.nodes import CanvasRecord

try:
    from pymemcache.client.base import PooledClient
    from pymemcache.exceptions import MemcacheServerError, MemcacheUnexpectedCloseError
except ImportError as missing:
    raise ImproperlyConfigured('result_backend: memcached needs pymemcache; '
                               "pip install 'canvaslite[memcache]'") from missing

__all__ = ('MemcachedBackend',)

DEFAULT_PORT = 11211
#: Options of the client where ``cache_backend_options`` does not say otherwise; times are in seconds.
OPTIONS = {'connect_timeout': 5.0, 'timeout': 10.0, 'no_delay': True}
#: Seconds from which on memcached takes a time to live for a date.
LONGEST_RELATIVE = 30 * 86400
#: Characters of a key.
LONGEST_KEY = 250


class Memcached:
    """The servers: each key is at one of them, also while that one is away. See `keyjoin.AtomicStore`."""

    def __init__(self, servers: Sequence[tuple[str, int]], options: Mapping[str, Any]) -> None:
        self._servers, self._options = servers, options
        self._process: int | None = None
        self._of_process: list[Any] = []
        self._clients()

    def _clients(self) -> list[Any]:
        if self._process != os.getpid():  # a child must not speak on its parent's connections
            try:
                self._of_process = [PooledClient(server, **self._options) for server in self._servers]
            except TypeError as exc:
                raise ImproperlyConfigured(
                    f"cache_backend_options: {exc}; the options are those of pymemcache's PooledClient") from exc
            self._process = os.getpid()
        return self._of_process

    def close(self) -> None:
        """Close the idle connections; they are made again when needed."""
        for client in self._clients():
            client.close()

    def _at(self, key: str) -> tuple[Any, str]:
        safe, clients = _safe(key), self._clients()
        return clients[crc32(safe.encode()) % len(clients)], safe

    def _by_server(self, keys: Collection[str]) -> Iterator[tuple[Any, dict[str, str]]]:
        """Each server, with its keys: what memcached is told and what they are."""
        shares: dict[int, tuple[Any, dict[str, str]]] = {}
        for key in keys:
            client, safe = self._at(key)
            shares.setdefault(id(client), (client, {}))[1][safe] = key
        return iter(shares.values())

    def get_many(self, keys: Collection[str]) -> dict[str, bytes]:
        return {share[safe]: value for client, share in self._by_server(keys)
                for safe, value in client.get_many(list(share)).items()}

    def get_token(self, key: str) -> tuple[bytes | None, Any]:
        client, safe = self._at(key)
        return client.gets(safe)  # type: ignore[no-any-return]

    def set_many(self, values: Mapping[str, bytes], seconds: int) -> None:
        for client, share in self._by_server(values):
            self._keep(client.set_many, {safe: values[key] for safe, key in share.items()}, seconds)

    def add(self, key: str, value: bytes, seconds: int) -> bool:
        client, safe = self._at(key)
        return bool(self._keep(client.add, safe, value, seconds))

    def cas(self, key: str, value: bytes, token: Any, seconds: int) -> bool:
        client, safe = self._at(key)
        return bool(self._keep(client.cas, safe, value, token, seconds))

    def append(self, key: str, value: bytes) -> bool:
        client, safe = self._at(key)
        return bool(self._keep(client.append, safe, value, 0))

    def count(self, key: str, change: int) -> int | None:
        client, safe = self._at(key)
        changed = (client.decr if change < 0 else client.incr)(safe, abs(change))
        return None if changed is None else int(changed)

    def delete_many(self, keys: Collection[str]) -> None:
        for client, share in self._by_server(keys):
            client.delete_many(list(share), noreply=False)

    def _keep(self, operation: Any, *args: Any) -> Any:
        *values, seconds = args
        until = int(time.time()) + seconds if seconds > LONGEST_RELATIVE else seconds
        try:
            return operation(*values, expire=until, noreply=False)
        except MemcacheServerError as exc:
            if b'too large' in ensure_bytes(str(exc)):
                raise EncodeError('A value is larger than memcached takes (1 MB by default): start memcached with a '
                                  'larger item size, as with -I 16m, or choose another result_backend') from exc
            raise


def _safe(key: str) -> str:
    """The key, or for one that memcached does not take its hash."""
    if len(key) < LONGEST_KEY and key.isascii() and key.isprintable() and ' ' not in key:
        return key
    return sha256(key.encode()).hexdigest()


class MemcachedBackend(KeyValueStoreBackend):
    """Results in memcached. Raises `ImproperlyConfigured` for servers or ``cache_backend_options`` that cannot be."""

    thread_safe = True
    supports_autoexpire = True
    supports_native_join = True
    supports_result_compression = True
    longest_pause = 0.2

    join: KeyValueJoin

    def __init__(self, app: Any, expires: Any = None, url: str | None = None, **kwargs: Any) -> None:
        super().__init__(app, expires=expires, url=url or app.conf.cache_backend, **kwargs)
        conf = app.conf
        self.store = Memcached(_read_servers(self.url or ''), {**OPTIONS, **(conf.cache_backend_options or {})})
        self.retry_by_default()  # a connection may have idled too long
        self.canvases = MemcachedCanvases(self)
        kept = max(self.chord_expires or 0, (chords.longest_open(conf) or 0) + chords.DONE_KEPT)
        self.join = KeyValueJoin(self, _Retried(self), self.chord_expires, int(kept))

    def get(self, key: Any) -> Any:
        return self.mget([key])[0]

    def mget(self, keys: Any) -> Any:
        names = [bytes_to_str(key) for key in keys]
        found = self.store.get_many(names)
        return [found.get(name) for name in names]

    def set(self, key: Any, value: Any) -> Any:
        self.store.set_many({bytes_to_str(key): ensure_bytes(value)}, int(self.expires or 0))

    def _replace(self, task_id: str, payload: Any, state: str) -> None:
        key, kept = bytes_to_str(self.get_key_for_task(task_id)), int(self.expires or 0)
        while True:
            found, token = self.store.get_token(key)
            if found is None:
                if self.store.add(key, ensure_bytes(payload), kept):
                    return
            elif (states.is_final(self._state_in(found), state)
                  or self.store.cas(key, ensure_bytes(payload), token, kept)):
                return

    def delete(self, key: Any) -> Any:
        self.store.delete_many([bytes_to_str(key)])

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """Whether memcached may answer later."""
        return isinstance(exc, (OSError, MemcacheUnexpectedCloseError))

    def close(self) -> None:
        """Close the idle connections; they are made again when needed."""
        self.store.close()

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), 'url': self.url, 'expires': self.expires})


class _Retried:
    """The store, each of whose operations is tried again while it is away."""

    def __init__(self, backend: MemcachedBackend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._backend.store, name)
        return lambda *args: self._backend._ensure_retryable(operation, *args)


class MemcachedCanvases(CanvasStore):
    """Records of canvases: a value with those of a run, one in a line, and one for each id that names the run."""

    def __init__(self, backend: MemcachedBackend) -> None:
        self._store, self._tried = backend.store, _Retried(backend)
        self._prefix = backend._global_keyprefix() + wire.CANVAS_PREFIX
        self._kept = int(backend.expires or 0)

    def _run_of(self, ids: Sequence[str]) -> str | None:
        found = self._store.get_many([f'{self._prefix}{task_id}' for task_id in ids])
        return next((found[key].decode() for key in (f'{self._prefix}{task_id}' for task_id in ids) if key in found),
                    None)

    def keep(self, record: CanvasRecord) -> None:
        run = self._run_of(record.within) if record.within else None
        values = {f'{self._prefix}{task_id}': (run or record.run).encode() for task_id in (
            *record.ids, *(record.within if run is None else ()))}
        if run is None or not self._store.append(f'{self._prefix}run-{run}', b'\n' + record.data):
            values[f'{self._prefix}run-{run or record.run}'] = record.data
        self._store.set_many(values, self._kept)

    def find(self, task_id: str) -> Found | None:
        run = self._run_of([task_id])
        records = None if run is None else self._store.get_many([key := f'{self._prefix}run-{run}']).get(key)
        return None if run is None or records is None else (run, records.split(b'\n'))

    def drop(self, run: str, ids: Sequence[str]) -> None:
        self._tried.delete_many([f'{self._prefix}run-{run}', *(f'{self._prefix}{task_id}' for task_id in (run, *ids))])


def _read_servers(url: str) -> list[tuple[str, int]]:
    servers = []
    for named in url.partition('://')[2].strip('/').split(';'):
        host, _, port = named.rpartition(':') if ':' in named else (named, '', str(DEFAULT_PORT))
        if not host or not port.isdigit():
            raise ImproperlyConfigured('result_backend: memcached needs its servers; '
                                       'write cache+memcached://host:port, and several with ; between them')
        servers.append((host, int(port)))
    return servers
