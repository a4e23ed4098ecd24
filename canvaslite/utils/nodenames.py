"""Names of processes: ``name@host``."""

from __future__ import annotations

import os
import socket
from functools import lru_cache

__all__ = ('anon_nodename', 'gethostname')


@lru_cache(maxsize=1)
def gethostname() -> str:
    """This host's name, asked for once."""
    return socket.gethostname()


def anon_nodename(hostname: str | None = None, prefix: str = 'gen') -> str:
    """Name of a process that is not a worker: what the ``origin`` of a task message says."""
    return f'{prefix}{os.getpid()}@{hostname or gethostname()}'
