"""Result stores: where results are kept, joined and awaited.

`by_url` turns the ``result_backend`` setting into a store. A store writes the few methods named at the top of
`backends.base`; everything else (encoding, failures, joins, waiting) is given.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from kombu.utils.imports import symbol_by_name

from canvaslite.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from canvaslite.backends.base import Backend

__all__ = ('BACKEND_ALIASES', 'by_name', 'by_url')

#: Caches that are memcached.
MEMCACHED = ('memcached', 'memcache', 'pylibmc')
#: Scheme of a ``result_backend`` URL (or its whole value, where there is no ``://``): the class of the store.
BACKEND_ALIASES = {
    **dict.fromkeys(('redis', 'rediss', 'socket'), 'canvaslite.backends.redis:RedisBackend'),
    'sentinel': 'canvaslite.backends.redis:SentinelBackend',
    'rediscluster': 'canvaslite.backends.redis:ClusterBackend', 'rpc': 'canvaslite.backends.rpc:RPCBackend',
    **dict.fromkeys(('db', 'database'), 'canvaslite.backends.database:DatabaseBackend'),
    **dict.fromkeys(('cache', 'memory'), 'canvaslite.backends.cache:CacheBackend'),
    **dict.fromkeys(MEMCACHED, 'canvaslite.backends.memcached:MemcachedBackend'),
    'file': 'canvaslite.backends.filesystem:FilesystemBackend',
    'disabled': 'canvaslite.backends.disabled:DisabledBackend',
}

#: Entry point group in which packages announce stores of their own, by scheme.
ENTRY_POINT_GROUP = 'celery.result_backends'


def by_name(name: str | type[Any] | None) -> type[Backend]:
    """The class with that alias, entry point or path ``package.module:Class``. Raises `ImproperlyConfigured`."""
    if isinstance(name, type):
        return name
    name = name or 'disabled'
    announced = (entry.value for entry in entry_points(group=ENTRY_POINT_GROUP) if entry.name == name)
    target = BACKEND_ALIASES.get(name) or next(announced, name)
    try:
        found = symbol_by_name(target)
        if not isinstance(found, type):
            raise ValueError(f'{target} is not a class')
    except ImproperlyConfigured:
        raise
    except (ImportError, AttributeError, ValueError) as exc:
        raise ImproperlyConfigured(
            f'result_backend: no result backend is called {name!r} ({exc}); '
            f"use one of {', '.join(sorted(BACKEND_ALIASES))}, or 'package.module:Class'") from exc
    return found


def by_url(url: Any, app: Any) -> Backend:
    """The store that `url` (the ``result_backend`` setting) asks for, made for `app`.

    `url` is ``scheme://…``, ``scheme+rest://…`` (the store gets ``rest://…``), an alias, a dotted class path,
    a class, or a store that exists already. Raises `ImproperlyConfigured`.
    """
    if url is not None and not isinstance(url, (str, type)):
        return url  # type: ignore[no-any-return]
    if url == 'cache' and str(app.conf.cache_backend).startswith(MEMCACHED):
        url = app.conf.cache_backend
    if not isinstance(url, str) or '://' not in url:
        return by_name(url)(app=app, url=None)
    scheme, location = url.partition('://')[0], url
    if '+' in scheme:
        scheme, location = url.split('+', 1)
    if scheme == 'cache' and location.startswith(MEMCACHED):
        scheme = location.partition('://')[0]
    return by_name(scheme)(app=app, url=location)
