"""``python -m tests.faults.group_stops``: TERM to the whole process group while early acknowledged tasks run.

As an init system or a container does it. A task is lost if it has not run to its end when all workers are done.
"""

from __future__ import annotations

import os
import signal
import time
from typing import NamedTuple

from tests.faults.site import Site, arguments

#: Seconds that a task takes.
SECONDS = 0.15


class Toll(NamedTuple):
    """What became of the tasks, and the exit codes of the workers that were stopped."""

    lost: list[int]
    doubled: list[int]
    exits: list[int]


def stop_groups(broker: str, backend: str, package: str, tasks: int, stops: int, signum: int = signal.SIGTERM) -> Toll:
    """Stop one worker after the other while they run that many tasks."""
    with Site(broker, backend, package) as site:
        for number in range(tasks):
            site.task('nap', number, SECONDS)
        exits = []
        for round in range(1, stops + 1):
            worker = site.start('-c', '4')
            while len(site.runs()) < tasks * round // (stops + 1):
                time.sleep(0.01)
            os.killpg(worker.pid, signum)
            exits.append(worker.wait())
        site.start('-c', '4')
        latest, known = time.monotonic(), -1
        while known < tasks and time.monotonic() < latest + 20:
            if len(site.runs()) > known:
                latest, known = time.monotonic(), len(site.runs())
            time.sleep(0.05)
        runs = site.runs()
        return Toll([n for n in range(tasks) if n not in runs], [n for n, times in runs.items() if times > 1], exits)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument('--tasks', type=int, default=400)
    parser.add_argument('--stops', type=int, default=5)
    given = parser.parse_args()
    toll = stop_groups(given.broker, given.backend, given.package, given.tasks, given.stops)
    print(f'{given.package}: {given.tasks} tasks, {given.stops} stops: {len(toll.lost)} lost, '
          f'{len(toll.doubled)} doubled, exit codes {toll.exits}')
    return 1 if toll.lost or toll.doubled else 0


if __name__ == '__main__':
    raise SystemExit(main())
