"""What a process may want to say about itself to the system: its title, and with whom it dies."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import sys
from typing import Any

try:
    import grp
except ImportError:  # Windows
    grp = None  # type: ignore[assignment]
try:
    import setproctitle  # type: ignore[import-not-found]
except ImportError:  # optional
    setproctitle = None

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15


def _prctl(option: int, value: Any) -> None:
    if sys.platform.startswith('linux'):
        with contextlib.suppress(OSError, AttributeError):  # no libc by that name, or a sandbox: a wish, not a need
            ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def set_process_title(title: str) -> None:
    """Show `title` in ``ps`` and ``top``: all of it with the package setproctitle, else its first 15 characters."""
    if setproctitle is not None:
        setproctitle.setproctitle(title)
    else:
        _prctl(_PR_SET_NAME, title.encode('utf-8', 'replace')[:15])


def die_with_parent(signum: int = signal.SIGKILL) -> None:
    """Have the system send this process `signum` when its parent ends (Linux only)."""
    parent = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, int(signum))
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), signum)


def is_privileged() -> bool:
    """Whether this process may do anything: as root, or in a group whose members become that."""
    if not hasattr(os, 'getuid'):
        return False
    if 0 in (os.getuid(), os.geteuid()):
        return True
    names = set()
    for gid in (os.getgid(), os.getegid()):
        with contextlib.suppress(KeyError):  # a group without a name
            names.add(grp.getgrgid(gid).gr_name)
    return not names.isdisjoint(('sudo', 'wheel'))


def reseed_random() -> None:
    """Give a forked process random numbers of its own."""
    random.seed()
    numpy = sys.modules.get('numpy')
    if numpy is not None:
        numpy.random.seed()
