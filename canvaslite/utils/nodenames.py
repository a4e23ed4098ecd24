"""Names of processes: ``name@host``."""

from __future__ import annotations

import os
import re
import socket
from functools import lru_cache
from typing import Any

from kombu import Exchange, Queue

from canvaslite.wire import WORKER_DIRECT_EXCHANGE, WORKER_DIRECT_SUFFIX


@lru_cache(maxsize=1)
def gethostname() -> str:
    """This host's name, asked for once."""
    return socket.gethostname()


def anon_nodename(hostname: str | None = None, prefix: str = 'gen') -> str:
    """Name of a process that is not a worker: what the ``origin`` of a task message says."""
    return f'{prefix}{os.getpid()}@{hostname or gethostname()}'


def host_format(pattern: str, host: str | None = None, name: str | None = None, **more: str) -> str:
    """`pattern` with ``%h`` (host and domain), ``%n`` (host, or `name`), ``%d`` (domain) and ``%%`` filled in; `more`
    by their letters."""
    host = host or gethostname()
    short, _, domain = host.partition('.')
    known = {'h': host, 'n': name or short, 'd': domain, '%': '%', **more}
    return re.sub('%(.)', lambda found: known.get(found.group(1), found.group()), pattern)


def default_nodename(hostname: str | None) -> str:
    """The node name of a worker: `hostname`, which may be a name, a host, ``name@host`` or a pattern of these."""
    name, _, host = (hostname or '').rpartition('@')
    return host_format(f'{name or "celery"}@{host or gethostname()}')


def node_format(pattern: str, nodename: str) -> str:
    """The name of a file of a worker: as `host_format`, ``%n`` the name in `nodename` and ``%p`` all of it. ``%i`` and
    ``%I``, Celery's number of a process, are those of the main one, for the others write to the same file."""
    name, _, host = nodename.rpartition('@')
    return host_format(pattern, host, name, p=nodename, i='0', I='')


def worker_direct(hostname: Any) -> Any:
    """The queue that only the worker of this node name consumes from. A `kombu.Queue` is returned as it is."""
    if isinstance(hostname, Queue):
        return hostname
    return Queue(f'{hostname}{WORKER_DIRECT_SUFFIX}', Exchange(WORKER_DIRECT_EXCHANGE), hostname)
