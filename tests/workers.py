"""`WorkerProcess`: a worker started from the command line, whose output can be awaited."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


class WorkerProcess:
    """A process and every line that it has printed."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self.process = subprocess.Popen(
            command,
            env={**os.environ, 'PYTHONUNBUFFERED': '1', **env,
                 # The package that is tested, which need not be the one that is installed.
                 'PYTHONPATH': os.pathsep.join([*filter(None, [env.get('PYTHONPATH')]), str(ROOT)])},
            cwd=cwd,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip('\n'))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return '\n'.join(self.lines)

    def await_line(self, pattern: str, timeout: float = 60.0, count: int = 1) -> str:
        """Return the `count`-th line that matches `pattern`, once it is there."""
        matches = re.compile(pattern).search
        until = time.monotonic() + timeout
        with self._changed:
            while True:
                found = [line for line in self.lines if matches(line)]
                if len(found) >= count:
                    return found[count - 1]
                left = until - time.monotonic()
                if self._ended or left <= 0:
                    raise AssertionError(f'no line like {pattern!r} in:\n{self.output}')
                self._changed.wait(left)

    def children(self) -> list[int]:
        """Process ids of the pool's children."""
        listed = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(self.pid)], capture_output=True, text=True)
        return [int(pid) for pid in listed.stdout.split()]

    def signal(self, signum: int) -> None:
        self.process.send_signal(signum)

    def stop(self, timeout: float = 30.0) -> int:
        """Stop warmly; return the exit status."""
        self.process.terminate()
        return self.wait(timeout)

    def wait(self, timeout: float = 60.0) -> int:
        """The exit status, when it has ended and its last line is there."""
        status = self.process.wait(timeout)
        self._reader.join(5)  # unless a child of it lives on
        return status

    def kill(self) -> None:
        """End the worker and whatever it has started, now."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            self.process.wait(10)
