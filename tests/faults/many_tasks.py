"""``python -m tests.faults.many_tasks``: the memory of a worker's processes over very many empty tasks.

Looked at each time that a tenth of the tasks is done; the first look is what the last is compared with.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from canvaslite import Celery
from tests.faults.site import Site, arguments

#: Messages sent at once, and how many may wait.
BURST, AHEAD = 1000, 10_000


class Look(NamedTuple):
    """After so many tasks and seconds: resident memory in MiB of the parent, and of each child."""

    tasks: int
    seconds: float
    parent: float
    children: list[float]


def resident(pid: int) -> float:
    """Resident memory of a process in MiB."""
    with open(f'/proc/{pid}/statm') as statm:
        return int(statm.read().split()[1]) / 256


def run_many(broker: str, package: str, tasks: int, *options: str) -> list[Look]:
    """Have a worker run that many, sent by our app to either package."""
    with Site(broker, None, package) as site, Celery('sender', broker=broker, set_as_current=False) as sender:
        worker = site.start(*options, '-l', 'WARNING', ready=False)
        nothing = sender.signature('tests.apps.hardy.nothing', queue=site.queue, ignore_result=True)
        looks: list[Look] = []
        begun, sent = time.monotonic(), 0
        while len(looks) < 10:
            waiting = site.waiting()
            if sent - waiting >= tasks * (len(looks) + 1) // 10 or (sent == tasks and not waiting):
                memory = [(resident(pid), pid) for pid in worker.children()[:2]]
                looks.append(Look(sent - waiting, time.monotonic() - begun, resident(worker.pid),
                                  [size for size, _ in memory]))
            if sent < tasks and waiting < AHEAD:
                for _ in range(min(BURST, tasks - sent)):
                    nothing.apply_async()
                sent += BURST
            else:
                time.sleep(0.02)
        return looks


def growth(looks: list[Look]) -> tuple[float, float]:
    """By which share parent and children are larger at the last look than at the first."""
    first, last = looks[0], looks[-1]
    return last.parent / first.parent - 1, max(last.children) / max(first.children) - 1


def main() -> int:
    parser = arguments(__doc__, backend=False)
    parser.add_argument('--tasks', type=int, default=1_000_000)
    given = parser.parse_args()
    looks = run_many(given.broker, given.package, given.tasks)
    for look in looks:
        print(f'{look.tasks:>9} tasks, {look.seconds:6.1f} s: parent {look.parent:.1f} MiB, '
              f'children {" ".join(f"{size:.1f}" for size in look.children)}')
    parent, children = growth(looks)
    print(f'{given.package}: {given.tasks} tasks: parent {parent:+.1%}, children {children:+.1%}')
    return 0 if max(parent, children) <= 0.05 else 1


if __name__ == '__main__':
    raise SystemExit(main())
