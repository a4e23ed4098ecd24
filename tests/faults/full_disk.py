"""``python -m tests.faults.full_disk``: the disk with the results is full for 6 s, twice, under a stream of canvases.

The disk is a tmpfs of 64 MB that is mounted for it, which takes root. Of each store: what became of the canvases, as
`stream` counts them (those that the caller could not send are refused), and how many lines the worker logged.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.site import Site
from tests.faults.stream import Outcome, Stream

#: Seconds for which the disk is full.
FULL = 6.0
STORES = {'files': 'file://{}/results', 'sqlite': 'db+sqlite:///{}/results.sqlite'}


class CannotMount(Exception):
    """No file system can be mounted here."""


class Disk:
    """A file system of 64 MB."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._ballast = folder, folder / 'ballast'

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Leave not a byte."""
        with open(self._ballast, 'wb', buffering=0) as ballast:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while ballast.write(bytes(size)):
                        pass
        try:
            yield
        finally:
            self._ballast.unlink()

    def fill(self, seconds: float = FULL) -> None:
        """Be full for so long."""
        with self.full():
            time.sleep(seconds)


@contextlib.contextmanager
def small_disk() -> Iterator[Disk]:
    """Raises `CannotMount`."""
    with tempfile.TemporaryDirectory() as folder:
        mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', folder], text=True,
                                 capture_output=True)
        if mounted.returncode:
            raise CannotMount(f'a full disk is a tmpfs, which cannot be mounted here (are you root?): '
                              f'{mounted.stderr.strip()}')
        try:
            yield Disk(Path(folder))
        finally:
            subprocess.run(['umount', '-l', folder], check=True)


def try_full(
    broker: str, package: str, store: str, late: bool, rounds: int = 2, seconds: float = FULL
) -> tuple[Outcome, list[str]]:
    """What became of a stream, and the warnings and errors of its worker. Raises `CannotMount`."""
    with small_disk() as disk:
        (disk.folder / 'results').mkdir()
        backend = STORES[store].format(disk.folder)
        with Site(broker, backend, package, task_acks_late=late, task_reject_on_worker_lost=late) as site:
            outcome = Stream(site).run(lambda: disk.fill(seconds), rounds)
            (worker,) = site.workers
            assert worker.process.poll() is None, worker.output
            worker.stop()
            return outcome, [line for line in worker.lines if not line.startswith('[') or ': INFO/' not in line]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--broker', required=True)
    parser.add_argument('--package', default='canvaslite', help='or celery')
    parser.add_argument('--store', action='append', choices=STORES, help='both by default')
    parser.add_argument('--acks', action='append', choices=['early', 'late'], help='both by default')
    given = parser.parse_args()
    clean = True
    for store, acks in itertools.product(given.store or STORES, given.acks or ['early', 'late']):
        try:
            outcome, lines = try_full(given.broker, given.package, store, acks == 'late')
        except CannotMount as exc:
            print(exc)
            return 2
        for what in [*outcome.lost[:5], *outcome.wrong[:5]]:
            print(f'lost or wrong: {what}')
        tracebacks = sum(line.startswith('Traceback') for line in lines)
        print(f'{given.package}: {store}, acknowledged {acks}: {outcome}; {len(lines)} lines logged, '
              f'{tracebacks} tracebacks', flush=True)
        clean &= outcome.is_clean
    return 0 if clean else 1


if __name__ == '__main__':
    raise SystemExit(main())
