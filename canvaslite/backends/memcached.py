"""memcached as a result store, through pymemcache or pylibmc."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from kombu.utils.encoding import bytes_to_str, ensure_bytes

from canvaslite.backends.cache import CacheBackend
from canvaslite.backends.waiting import SyncBackendMixin
from canvaslite.exceptions import ImproperlyConfigured

try:
    from pymemcache.client.hash import HashClient  # type: ignore[import-not-found]
except ImportError:
    HashClient = None
try:
    import pylibmc  # type: ignore[import-not-found]
except ImportError:
    pylibmc = None

__all__ = ('Memcached', 'MemcachedBackend')

#: memcached takes a longer time to live for a date.
LONGEST_RELATIVE_EXPIRES = 30 * 24 * 60 * 60


class Memcached:
    """memcached through pymemcache or pylibmc, whichever is installed."""

    def __init__(self, servers: list[str], options: Mapping[str, Any]) -> None:
        if not servers:
            raise ImproperlyConfigured('result_backend: memcached needs a server; '
                                       'write cache+memcached://127.0.0.1:11211/')
        self.client = _make_client(servers, dict(options))

    def get(self, key: bytes) -> Any:
        """The value, or None."""
        return self.client.get(bytes_to_str(key))

    def get_multi(self, keys: list[bytes]) -> dict[bytes, Any]:
        """The values that there are."""
        found = self.client.get_multi([bytes_to_str(key) for key in keys])
        return {ensure_bytes(key): value for key, value in found.items()}

    def set(self, key: bytes, value: Any, expires: float | None) -> None:
        """Keep the value for `expires` seconds."""
        self.client.set(bytes_to_str(key), value, int(expires or 0))

    def delete(self, key: bytes) -> None:
        """Remove the value."""
        self.client.delete(bytes_to_str(key))

    def incr(self, key: bytes) -> Any:
        """Add one to a number that is there."""
        return self.client.incr(bytes_to_str(key), 1)

    def touch(self, key: bytes, expires: float | None) -> None:
        """Have the value expire `expires` seconds from now."""
        self.client.touch(bytes_to_str(key), int(expires or 0))


def _make_client(servers: list[str], options: dict[str, Any]) -> Any:
    if HashClient is not None:
        # A write that fails must say so, and a server that does not answer must not stop the worker.
        settings = {'default_noreply': False, 'connect_timeout': 5.0, 'timeout': 5.0, 'use_pooling': True, **options}
        for meant_for_pylibmc in ('behaviors', 'binary'):
            settings.pop(meant_for_pylibmc, None)
        return HashClient(servers, **settings)
    if pylibmc is not None:
        return pylibmc.Client(servers, **options)
    raise ImproperlyConfigured('result_backend: memcached needs a client library; pip install pymemcache (or pylibmc)')


class MemcachedBackend(SyncBackendMixin, CacheBackend):
    """Results in memcached."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.client = Memcached(self.servers, self.options)
        if self.expires and self.expires > LONGEST_RELATIVE_EXPIRES:
            warnings.warn('result_expires: memcached keeps nothing longer than 30 days; set less, or 0 for ever',
                          UserWarning, stacklevel=2)

    def mget(self, keys: Iterable[Any]) -> Any:
        return self.client.get_multi(list(keys))
