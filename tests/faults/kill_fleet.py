"""``python -m tests.faults.kill_fleet``: kill a process at every step of a chord that Celery's worker runs one half of.

As `kill_chords`, with two workers: ours, and a Celery worker with a queue of its own, for the tasks at 1 and 3.
``--who`` is ``child`` or ``worker`` (ours), ``celery-child`` or ``celery-worker``.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable
from typing import Any

from canvaslite import chord
from tests.faults.kill_chords import Lane, sweep
from tests.workers import WorkerProcess

#: Seconds by which one half of the header is slower.
LATER = 0.3
CANVASES = ('ours last', 'Celery last', 'Celery last, and the body', 'sent by Celery')


class FleetLane(Lane):
    """A worker of ours and one of Celery's."""

    def __init__(self, broker: str, backend: str, late: bool) -> None:
        super().__init__(broker, backend, late)
        self.their_queue = f'{self.queue}-celery'
        self.their_worker: WorkerProcess | None = None
        self.their_app = importlib.import_module('celery').Celery(
            self.queue, broker=broker, backend=backend, set_as_current=False)

    def ensure_worker(self) -> None:
        super().ensure_worker()
        self.their_worker = self._ensure(self.their_worker, 'celery', self.their_queue)

    def await_workers(self) -> None:
        super().await_workers()
        self.await_value(self._named(self.app, 'part', self.their_queue, 0).apply_async())

    def close(self) -> None:
        if self.their_worker is not None:
            self.their_worker.kill()
        with self.app.connection_for_write() as connection:
            connection.default_channel.queue_delete(self.their_queue)
        self.their_app.close()
        super().close()

    def send(self, canvas: Any) -> Any:
        return self.app.AsyncResult(canvas.apply_async().id)

    @staticmethod
    def _named(app: Any, name: str, queue: str, *args: Any) -> Any:
        return app.signature(f'tests.apps.mortal.{name}', args=args).set(queue=queue)

    def canvases(self) -> dict[str, tuple[Callable[[], Any], Any]]:
        return {name: ((lambda name=name: self._chord(name)), [0, 1, 2, 3]) for name in CANVASES}

    def _chord(self, name: str) -> Any:
        theirs_last, by_celery = 'Celery last' in name, 'sent' in name
        app, make = (self.their_app, importlib.import_module('celery').chord) if by_celery else (self.app, chord)
        header = [
            self._named(app, 'part', self.their_queue if place % 2 else self.queue, place,
                        LATER * (bool(place % 2) == theirs_last)) for place in range(4)]
        return make(header, self._named(app, 'body', self.their_queue if 'body' in name else self.queue))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--broker', required=True)
    parser.add_argument('--backend', required=True, help='Redis')
    parser.add_argument('--who', choices=['child', 'worker', 'celery-child', 'celery-worker'], default='celery-child')
    parser.add_argument('--lanes', type=int, default=4)
    parser.add_argument('--canvas', action='append', choices=CANVASES, help='all by default')
    given = parser.parse_args()
    tally = sweep(given.broker, given.backend, given.who, names=given.canvas or CANVASES, lanes=given.lanes,
                  make_lane=FleetLane)
    return tally.report(f'half of it Celery, {given.who}')


if __name__ == '__main__':
    os.environ.setdefault('MORTAL', '/nowhere')
    raise SystemExit(main())
