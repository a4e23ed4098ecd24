"""Results in a cache: ``cache+memory://`` (this process's memory) and ``cache+memcached://host:11211/``.

**Memory** is one for all apps of a process, and only of that process: it serves the pools ``solo`` and ``threads``,
tests and eager tasks. What a prefork child stores in it nobody else sees; a warning says so. Waiting is by
notification, and chords are joined under a lock.

**memcached** needs pymemcache or pylibmc. It forgets when it must: keep only what may be lost. Chords are joined by the
polling task ``celery.chord_unlock``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kombu.utils.encoding import ensure_bytes
from kombu.utils.imports import symbol_by_name

from canvaslite.backends.base import AsyncBackendMixin, BaseKeyValueStoreBackend
from canvaslite.backends.memory import MemoryConsumer, MemoryJoin, memory
from canvaslite.exceptions import ImproperlyConfigured

__all__ = ('CacheBackend', 'MemoryBackend')

#: Names of the caches in ``cache+name://`` and in ``cache_backend``, and their classes.
CACHES = {
    'memory': 'canvaslite.backends.cache:MemoryBackend',
    'memcache': 'canvaslite.backends.memcached:MemcachedBackend',
    'memcached': 'canvaslite.backends.memcached:MemcachedBackend',
    'pymemcache': 'canvaslite.backends.memcached:MemcachedBackend',
    'pylibmc': 'canvaslite.backends.memcached:MemcachedBackend',
}


class CacheBackend(BaseKeyValueStoreBackend):
    """Results in a cache. Making one makes a `MemoryBackend` or a `MemcachedBackend`, as the URL says.

    `backend` (``cache_backend`` if neither it nor `url` is given) is ``memory`` or ``memcached://host:port;host:port``;
    `options` are added to the setting ``cache_backend_options``. Raises `ImproperlyConfigured` for an unknown cache.
    """

    thread_safe = True
    supports_autoexpire = True
    supports_native_join = True
    supports_result_compression = True

    client: Any

    def __new__(cls, app: Any, expires: Any = None, backend: str | None = None, options: Any = None,
                url: str | None = None, **kwargs: Any) -> CacheBackend:
        if cls is not CacheBackend:
            return object.__new__(cls)
        name = _cache_url(app, url, backend).partition('://')[0]
        if name not in CACHES:
            raise ImproperlyConfigured(f'result_backend: no cache is called {name!r}; use cache+memory:// or '
                                       'cache+memcached://host:11211/')
        return object.__new__(symbol_by_name(CACHES[name]))

    def __init__(self, app: Any, expires: Any = None, backend: str | None = None,
                 options: Mapping[str, Any] | None = None, url: str | None = None, **kwargs: Any) -> None:
        super().__init__(app, expires=expires, expires_type=int, url=url, **kwargs)
        self.options = {**(app.conf.cache_backend_options or {}), **(options or {})}
        self.backend, _, servers = _cache_url(app, url, backend).partition('://')
        self.servers = [server for server in servers.rstrip('/').split(';') if server]

    def get(self, key: Any) -> Any:
        return self.client.get(key)

    def set(self, key: Any, value: Any) -> Any:
        return self.client.set(key, ensure_bytes(value), self.expires)

    def delete(self, key: Any) -> Any:
        return self.client.delete(key)

    def incr(self, key: Any) -> int:
        return self.client.incr(key)  # type: ignore[no-any-return]

    def expire(self, key: Any, value: int) -> Any:
        return self.client.touch(key, value)

    def as_uri(self, include_password: bool = False) -> str:
        """The cache and its servers."""
        return f'cache+{self.backend}://{";".join(self.servers)}'

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        url = f'{self.backend}://{";".join(self.servers)}/'
        return super().__reduce__(args, {**(kwargs or {}), 'backend': url, 'expires': self.expires,
                                         'options': self.options})


class MemoryBackend(AsyncBackendMixin, CacheBackend):
    """Results in this process's memory."""

    persistent = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.client = memory
        self.join = MemoryJoin(memory, self.chord_expires)
        self.result_consumer = MemoryConsumer(self, memory)

    def cleanup(self) -> None:
        """Remove what has expired."""
        memory.sweep()


def _cache_url(app: Any, url: str | None, backend: str | None) -> str:
    return url or backend or app.conf.cache_backend or ''
