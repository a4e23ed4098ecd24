"""What runs a worker's tasks: `prefork` (processes, the default), `threads`, `solo` (the worker's own process)."""

from __future__ import annotations

from typing import Any

from kombu.utils.imports import symbol_by_name

from canvaslite.exceptions import ImproperlyConfigured

#: Class paths by name; paths, so that a pool's modules are imported only where it is used.
ALIASES = {**dict.fromkeys(('prefork', 'processes'), 'canvaslite.pools.prefork.pool:PreforkPool'),
           'threads': 'canvaslite.pools.thread:ThreadPool', 'solo': 'canvaslite.pools.solo:SoloPool'}


def pool_class(name: Any) -> Any:
    """The class of that name (one of ours, or ``module:Class``), or the class itself. Raises `ImproperlyConfigured`."""
    if not isinstance(name, str):
        return name
    if name in ALIASES:
        return symbol_by_name(ALIASES[name])
    if not {':', '.'}.intersection(name):
        raise ImproperlyConfigured(
            f'worker_pool: there is no pool {name!r}; choose one of prefork, threads, solo, or give module:Class.')
    try:
        return symbol_by_name(name)
    except (ImportError, AttributeError) as exc:
        raise ImproperlyConfigured(f'worker_pool: cannot import the pool {name!r}: {exc}') from exc
