"""Starting the workers and the sides, and what they tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from compat.differential.compare import Comparison, compare, report
from tests.workers import WorkerProcess

ROOT = Path(__file__).parents[2]
PROJECT = 'compat.differential.project'


class Servers(NamedTuple):
    """Servers of one side: its virtual host (traced), the Redis database of its results, and that of its spies."""

    broker: str
    backend: str
    spy: str


class Side:
    """One package with its worker, performing all scenarios."""

    def __init__(self, package: str, servers: Servers, folder: Path) -> None:
        self.name = package
        self.folder = folder
        self.env = {
            'CANVAS_PACKAGE': package, 'BROKER': servers.broker, 'BACKEND': servers.backend, 'SPY': servers.spy,
            'PYTHONPATH': str(ROOT), 'C_FORCE_ROOT': '1',
        }
        self.output = folder / f'{package}.json'
        self.worker = WorkerProcess(
            [sys.executable, '-m', package, '-A', PROJECT, 'worker', '-c', '2', '-n', 'spied@%h', '-l', 'INFO'],
            env=self.env, cwd=folder)
        self.sender: subprocess.Popen[bytes] | None = None

    def start(self, names: Sequence[str]) -> None:
        """Start to perform the scenarios, once the worker is ready."""
        self.worker.await_line(r'\bready\.$', timeout=60)
        self.started = time.monotonic()
        self.sender = subprocess.Popen([sys.executable, '-m', 'compat.differential.side', str(self.output), *names],
                                       env={**os.environ, **self.env, 'SENDING': '1'}, cwd=self.folder,
                                       stdout=self.output.with_suffix('.log').open('w'), stderr=subprocess.STDOUT)

    def finish(self, timeout: float) -> dict[str, Any]:
        """The records, when all is done. Raises `RuntimeError` when the sending process failed."""
        assert self.sender is not None
        if self.sender.wait(timeout):
            raise RuntimeError(f'{self.name} ended with status {self.sender.returncode}:\n'
                               f'{self.output.with_suffix(".log").read_text()[-4000:]}')
        self.seconds = time.monotonic() - self.started
        return json.loads(self.output.read_text())  # type: ignore[no-any-return]

    def stop(self) -> None:
        """End its processes."""
        if self.sender is not None and self.sender.poll() is None:
            self.sender.kill()
            self.sender.wait(10)
        self.worker.kill()


def run(servers: Mapping[str, Servers], folder: Path, names: Sequence[str] = (), timeout: float = 300.0,
        say: Callable[[str], None] = print) -> Comparison:
    """Perform the scenarios with both packages at the same time, compare, and say what was found."""
    sides = {package: Side(package, servers[package], folder) for package in servers}
    try:
        for side in sides.values():
            side.start(names)
        records = {package: side.finish(timeout) for package, side in sides.items()}
    finally:
        for side in sides.values():
            side.stop()
    comparison = compare(records['celery'], records['canvaslite'], whole=not names)
    say(report(comparison, {side.name: side.seconds for side in sides.values()}, len(records['celery'])))
    return comparison
