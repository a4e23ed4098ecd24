"""``python -m tests.faults.restarts``: kill a worker and start another under its node name and pidfile, at once.

A start counts when the worker runs a task and answers to a ping.
"""

from __future__ import annotations

import time

from tests.faults.site import Site, arguments

#: Seconds in which a worker must work.
PATIENCE = 20.0


def restart(broker: str, backend: str, package: str, kills: int) -> list[float]:
    """The seconds that each start took until the worker worked."""
    with Site(broker, backend, package) as site:
        took = []
        for _ in range(kills + 1):
            begun = time.monotonic()
            worker = site.start('--pidfile', str(site.folder / 'pid'), ready=False)
            try:
                site.task('pid').get(timeout=PATIENCE)
                while not any(name.startswith(site.queue) for reply in site.app.control.ping(timeout=0.2)
                              for name in reply):
                    assert time.monotonic() - begun < PATIENCE, 'no answer'
            except Exception as exc:
                print(f'{exc!r} {worker.lines[-3:]}')
            else:
                took.append(time.monotonic() - begun)
            worker.kill()
        return took[1:]


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument('--kills', type=int, default=50)
    given = parser.parse_args()
    took = restart(given.broker, given.backend, given.package, given.kills)
    print(f'{given.package}: {given.kills} kills, {len(took)} starts; the slowest took {max(took, default=0):.1f} s')
    return 0 if len(took) == given.kills else 1


if __name__ == '__main__':
    raise SystemExit(main())
