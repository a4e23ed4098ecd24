"""``python -m tests.faults.backlog``: start a worker on very many waiting messages.

How many seconds until it has run the first task, answers a ping, and stops when it is told, and the memory of its
main process by then.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from canvaslite import Celery
from tests.faults.many_tasks import resident
from tests.faults.site import Site, arguments

SECONDS = 20.0


class Start(NamedTuple):
    """How a worker started; in seconds and MiB."""

    first: float
    answer: float
    stop: float
    memory: float
    code: int
    lost: int


def start_on(broker: str, package: str, messages: int, *options: str) -> Start:
    """Start a worker on that many messages; each is a task that takes 10 ms."""
    with Site(broker, None, package) as site, Celery('sender', broker=broker, set_as_current=False) as sender:
        for number in range(messages):
            sender.signature('tests.apps.hardy.nap', args=(number, 0.01), queue=site.queue).apply_async()
        while site.waiting() < messages:
            time.sleep(0.1)
        begun = time.monotonic()
        worker = site.start('-l', 'WARNING', *options, ready=False)
        while not site.notes.stat().st_size:
            time.sleep(0.005)
        first = time.monotonic()
        while not site.app.control.ping(timeout=1, limit=1, destination=[site.node]):
            assert time.monotonic() < first + SECONDS, 'no answer'
        answer = time.monotonic()
        memory = resident(worker.pid)
        code = worker.stop(60)
        stop = time.monotonic()
        while (lost := messages - site.waiting() - len(site.runs())) and time.monotonic() < stop + SECONDS:
            time.sleep(0.1)  # what went back takes a moment
        return Start(first - begun, answer - begun, stop - answer, memory, code, lost)


def main() -> int:
    parser = arguments(__doc__, backend=False)
    parser.add_argument('--messages', type=int, default=200_000)
    parser.add_argument('--prefetch', default='4', help='prefetch multiplier; 0 for no limit')
    given = parser.parse_args()
    start = start_on(given.broker, given.package, given.messages, f'--prefetch-multiplier={given.prefetch}')
    print(f'{given.package}: {given.messages} messages, prefetch multiplier {given.prefetch}: first task after '
          f'{start.first:.1f} s, answer after {start.answer:.1f} s, stopped within {start.stop:.1f} s with '
          f'{start.code}, {start.memory:.0f} MiB, {start.lost} lost')
    return 1 if start.lost else 0


if __name__ == '__main__':
    raise SystemExit(main())
