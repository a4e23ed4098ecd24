"""`Pidfile`: says which process is the worker, and that there is one."""

from __future__ import annotations

import atexit
import contextlib
import os


class PidfileTaken(Exception):
    """Another living process holds the file."""


class Pidfile:
    """A file with the process's id in it, there while the process lives."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._held = False

    def acquire(self) -> None:
        """Write the file. One that a dead process left is replaced. Raises `PidfileTaken`, or `OSError`."""
        while not self._held:
            try:
                with open(self.path, 'x') as file:
                    os.fchmod(file.fileno(), 0o644)
                    file.write(f'{os.getpid()}\n')
                self._held = True
            except FileExistsError:
                holder = self._read()
                if holder is not None and holder != os.getpid() and _is_alive(holder):
                    raise PidfileTaken(f'the pidfile {self.path} is held by process {holder}') from None
                with contextlib.suppress(FileNotFoundError):  # somebody else was faster
                    os.unlink(self.path)
        atexit.register(self.release)

    def _read(self) -> int | None:
        try:
            with open(self.path) as file:
                return int(file.read().strip())
        except (OSError, ValueError):  # gone, or not a pidfile: nobody holds it
            return None

    def release(self) -> None:
        """Remove the file, if it is ours."""
        if self._held and self._read() == os.getpid():
            self._held = False
            with contextlib.suppress(OSError):  # removed by hand
                os.unlink(self.path)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as exc:
        return isinstance(exc, PermissionError)  # it lives, as somebody else's
    return True
