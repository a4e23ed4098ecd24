"""Publish through resets and half-open connections, and count what arrives: by this package and by Celery.

    python -m tests.faults.broken_publishing --broker amqp://guest:guest@127.0.0.1:5672/vhost [--publishes 5000]
        [--canvases 500] [--package canvaslite|celery]

All settings are the defaults. A proxy on the way resets all connections, or (``half-open``) leaves them as they are and
lets nothing through any more; those are ended after 15 seconds, as a firewall's are. The virtual host must be of its
own: its default queue is emptied.
"""

from __future__ import annotations

import argparse
import importlib
import threading
import time
from collections import Counter
from typing import Any

import kombu

from tests.integration.proxy import Proxy

#: Seconds after which a half-open connection is ended; faults in one run.
HALF_OPEN, FAULTS = 15.0, {'reset': 20, 'half-open': 2}


def publish(package: Any, proxy: Proxy, fault: str, count: int, canvas: bool) -> tuple[set[str], int, float]:
    """The ids of the first tasks of all that was sent, how many calls raised, and how many seconds it took."""
    app = package.Celery('broken', broker=proxy.url, set_as_current=False)

    @app.task(name='add')  # type: ignore[untyped-decorator]
    def add(x: int, y: int) -> int:
        return x + y

    sent, raised, before = set[str](), 0, time.monotonic()
    every = count // FAULTS[fault]
    for number in range(count):
        if number % every == every // 2:
            if fault == 'reset':
                proxy.cut()
            else:
                proxy.strand()
                threading.Timer(HALF_OPEN, proxy.end_stranded).start()
        try:
            if canvas:
                result = package.group(package.chain(add.s(n, n), add.s(1)) for n in range(3)).apply_async()
                sent.update(member.parent.id for member in result.results)
            else:
                sent.add(add.delay(number, number).id)
        except Exception:
            raised += 1
    took = time.monotonic() - before
    app.close()
    return sent, raised, took


def count_arrived(broker: str) -> Counter[str]:
    """How often each task is in the default queue, once no more come."""
    found: Counter[str] = Counter()
    with kombu.Connection(broker) as connection:
        channel = connection.default_channel
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < 3:
            message = channel.basic_get('celery', no_ack=True)
            if message is None:
                time.sleep(0.1)
            else:
                found[message.headers['id']] += 1
                quiet_since = time.monotonic()
    return found


def report(package: str, broker: str, fault: str, count: int, canvas: bool) -> int:
    """Print one line; how many tasks were lost."""
    with kombu.Connection(broker) as connection:
        connection.default_channel.queue_declare('celery', durable=True, auto_delete=False)
        connection.default_channel.queue_purge('celery')
    with Proxy(broker) as proxy:
        sent, raised, took = publish(importlib.import_module(package), proxy, fault, count, canvas)
        found = count_arrived(broker)
    lost = len(sent - found.keys())
    print(f'{package:11}{count:6} {"groups of chains" if canvas else "delay()"} {fault:10} {lost:5} tasks lost, '
          f'{sum(found.values()) - len(found):4} twice, {raised:4} calls raised, {took:6.1f} s', flush=True)
    return lost


def main() -> int:
    """How many tasks canvaslite lost."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--broker', required=True)
    parser.add_argument('--publishes', type=int, default=5000)
    parser.add_argument('--canvases', type=int, default=500)
    parser.add_argument('--package', action='append')
    options = parser.parse_args()
    lost = 0
    for fault in FAULTS:
        for package in options.package or ('canvaslite', 'celery'):
            for count, canvas in ((options.publishes, False), (options.canvases, True)):
                lost += report(package, options.broker, fault, count, canvas) * (package == 'canvaslite')
    return lost


if __name__ == '__main__':
    raise SystemExit(main())
