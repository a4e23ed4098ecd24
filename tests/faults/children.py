"""``python -m tests.faults.children``: children that are stopped, stuck in C code, bloated, or killed by their task.

Of each fault: how the task ended, and after how many seconds both children of the worker took tasks again.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.faults.site import Site, arguments

#: Seconds in which a worker must have recovered.
PATIENCE = 30.0
LIMIT = 2


def await_value(result: Any, seconds: float = PATIENCE) -> str:
    """What came of a call, in a word."""
    try:
        return repr(result.get(timeout=seconds))
    except Exception as exc:
        return 'nothing' if type(exc).__name__ == 'TimeoutError' else type(exc).__name__


def pids_of(site: Site) -> list[int]:
    """The processes that take tasks: two tasks that run at once are in two of them."""
    name = time.time_ns()
    return [result.get(timeout=PATIENCE) for result in [site.task('meet', 2, name) for _ in range(2)]]


def stopped_idle(site: Site) -> str:
    site.start()
    os.kill(pids_of(site)[0], signal.SIGSTOP)
    return await_value(site.task('nap', 1, 0.0))


def stopped_busy(site: Site) -> str:
    site.start()
    result = site.task('tell_pid', 1, 1.0)
    while not (told := site.notes.read_text().split()):
        time.sleep(0.01)
    os.kill(int(told[0]), signal.SIGSTOP)
    return await_value(result)


def stuck(site: Site) -> str:
    site.start()
    return await_value(site.task('hold_on', 60, time_limit=LIMIT))


def leaking(site: Site) -> str:
    """Whether any of two processes, of at most 200 MiB, was replaced in the course of 12 leaks of 50 MiB."""
    site.start('--max-memory-per-child', '200000')
    pids = {site.task('leak', 50).get(timeout=PATIENCE) for _ in range(12)}
    return 'replaced' if len(pids) > 2 else 'nothing'


def poison(site: Site) -> str:
    site.start()
    ended = await_value(site.task('poison', 1), 10.0)
    return f'{ended} after {site.runs()[1]} runs'


FAULTS: dict[str, Callable[[Site], str]] = {
    fault.__name__: fault for fault in (stopped_idle, stopped_busy, stuck, leaking, poison)}


def try_fault(broker: str, backend: str, package: str, name: str) -> tuple[str, float]:
    """What the task came to, and the seconds until both children worked; infinite where they did not."""
    with Site(broker, backend, package) as site:
        ended = FAULTS[name](site)
        begun = time.monotonic()
        try:
            pids_of(site)
        except Exception:
            return ended, float('inf')
        return ended, time.monotonic() - begun


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument('--fault', action='append', choices=FAULTS, help='all by default')
    given = parser.parse_args()
    healthy = True
    for name in given.fault or FAULTS:
        ended, seconds = try_fault(given.broker, given.backend, given.package, name)
        print(f'{given.package}: {name}: {ended}; both children work after {seconds:.1f} s', flush=True)
        healthy &= seconds < PATIENCE and 'nothing' not in ended
    return 0 if healthy else 1


if __name__ == '__main__':
    raise SystemExit(main())
