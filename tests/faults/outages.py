"""``python -m tests.faults.outages``: take the result store, or the broker, away for 8 s at every step of a chord.

The worker of `tests/apps/mortal.py` reaches them through a wire that is cut, and refuses connections, from the n-th
thing on that it sends to either. A chord is lost if its value does not come, wrong if it fails, doubled if its body
runs twice. Afterwards every process of the worker must work, and none of its messages may be forgotten.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from tests.faults.kill_chords import Lane, Tally, sweep
from tests.integration.wires import Wire

PORTS = {'redis': 6379, 'db+postgresql': 5432, 'amqp': 5672}
#: Seconds for which the server is away.
AWAY = 8.0
#: Processes of a worker, and its prefetch count.
PROCESSES, PREFETCH = 2, 8


class OutageLane(Lane):
    """A worker that loses its `server` (``store`` or ``broker``) for a while."""

    def __init__(self, broker: str, backend: str, late: bool, server: str, away: float = AWAY) -> None:
        super().__init__(broker, backend, late)
        self.away = away
        name = {'store': 'BACKEND', 'broker': 'BROKER'}[server]
        parts = urlsplit(self.env[name])
        self.wire = Wire(parts.port or PORTS[parts.scheme])
        netloc = f'{parts.netloc.rpartition("@")[0]}@127.0.0.1:{self.wire.port}'.removeprefix('@')
        self.env[name] = parts._replace(netloc=netloc).geturl()

    def run(self, name: str, n: int, when: str, who: str, tally: Tally) -> bool:
        (self.folder / 'answered').unlink(missing_ok=True)
        over = threading.Event()
        outage = threading.Thread(target=self._take_away, args=(over,))
        outage.start()
        try:
            happened = super().run(name, n, when, who, tally)
        finally:
            over.set()
            outage.join()
            (self.folder / 'answered').touch()  # a step may have come after the end of the chord
        if happened:
            tally.wrong += [f'{name}: {when} step {n}: {fault}' for fault in self.check()]
        return happened

    def _take_away(self, over: threading.Event) -> None:
        """When the step is reached, cut the wire and let the step go on."""
        while not (self.folder / 'killed').exists() or (self.folder / 'armed').exists():
            if over.wait(0.005):
                return
        self.wire.cut()
        (self.folder / 'answered').touch()
        time.sleep(self.away)
        self.wire.mend()

    def check(self) -> list[str]:
        """What is wrong with the worker now that all is back."""
        faults = []
        name = f'meet-{time.monotonic_ns()}'
        met = [self.app.signature('tests.apps.mortal.meet', args=(PROCESSES, name)).apply_async()
               for _ in range(PROCESSES)]
        if [self.await_value(result) for result in met] != [True] * PROCESSES:
            faults.append('not all processes work')
        # More than the prefetch count, so that a message that nobody answered would show in how many are there.
        for result in [self.app.signature('tests.apps.mortal.part', args=(n,)).apply_async()
                       for n in range(2 * PREFETCH)]:
            self.await_value(result)
        host = f'celery@{self.queue}'
        inspect = self.app.control.inspect(destination=[host], timeout=10, limit=1)
        held = self.await_nothing_held()
        if held:
            faults.append(f'still held: {held}')
        count = (inspect.stats() or {}).get(host, {}).get('prefetch_count')
        if count != PREFETCH:
            faults.append(f'prefetch count is {count}')
        return faults

    def close(self) -> None:
        """Also see that nothing is left in the queue once the worker has let go of what it did not answer."""
        if self.worker is not None and self.worker.process.poll() is None:
            self.worker.stop()
            with self.app.connection_for_write() as connection:
                left = connection.default_channel.queue_declare(self.queue, passive=True).message_count
            assert left == 0, f'{left} messages were never answered'
        self.wire.cut()
        super().close()

    def _count_runs(self, label: str, tally: Tally, body_id: str) -> None:
        """Nobody dies: the body runs once."""
        runs = self.folder / 'runs'
        times = [line for line in (runs.read_text().splitlines() if runs.exists() else ())
                 if line.startswith(f'begin {body_id}')]
        if len(times) > 1:
            tally.doubled.append(f'{label}: {len(times)} times')


def outages(broker: str, backend: str, server: str, names: Any = ('plain', 'chord in the header'), lanes: int = 4,
            steps: Any = None, away: float = AWAY) -> Tally:
    """Take `server` away at every step (or at the given ones) of the chords."""
    return sweep(broker, backend, 'nobody', True, names, lanes, steps, partial(OutageLane, server=server, away=away))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--broker', required=True)
    parser.add_argument('--backend', required=True)
    parser.add_argument('--server', choices=['store', 'broker'], default='store', help='which one goes away')
    parser.add_argument('--lanes', type=int, default=4)
    given = parser.parse_args()
    tally = outages(given.broker, given.backend, given.server, lanes=given.lanes)
    return tally.report(f'{given.server} of {given.backend.partition(":")[0]} away')


if __name__ == '__main__':
    os.environ.setdefault('MORTAL', '/nowhere')
    raise SystemExit(main())
