"""memcached as a result store, through pymemcache or pylibmc.

It cannot count parts and keep them in one step, so that chords are joined by the polling task. Celery counts with
``incr`` there: chords that it has published are counted with it.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from kombu.utils.encoding import bytes_to_str, ensure_bytes

from canvaslite.backends import chords
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
        self.servers, self.options = servers, dict(options)
        self.connect()
        _clients.add(self)

    def connect(self) -> None:
        """Begin with new connections. Those from before a fork belong to the parent."""
        self.client = _make_client(self.servers, self.options)

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

    def on_chord_part_return(self, request: Any, state: str, result: Any, **kwargs: Any) -> None:
        """Count a part of a chord that Celery has published; the last one has the body sent."""
        if not request.group:
            return
        count = self.client.incr(self.get_key_for_chord(request.group))
        if count is None:
            # Ours: a task polls for it.
            return
        header = self.restore_group(request.group)
        if header is not None and count == (request.chord.get('chord_size') or len(header)):
            chords.send_unlock_task(self, header, self.app.signature(request.chord), countdown=0)


_clients: weakref.WeakSet[Memcached] = weakref.WeakSet()


def _connect_anew() -> None:
    for client in list(_clients):
        client.connect()


os.register_at_fork(after_in_child=_connect_anew)
