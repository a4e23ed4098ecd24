"""What a worker prints when it starts."""

from __future__ import annotations

import logging
import platform
from datetime import datetime
from typing import Any

from canvaslite.version import __version__

#: Tasks that every app has; of no interest in a banner.
BUILT_IN = 'celery.'


def render_banner(worker: Any) -> str:
    """Name, system, configuration and queues of `worker`; from INFO on its tasks as well. Passwords are masked."""
    app = worker.app
    sections = [
        f' canvaslite {__version__}  {worker.hostname}',
        f' {platform.platform()}  Python {platform.python_version()}  {datetime.now():%Y-%m-%d %H:%M:%S}',
        '',
        '[config]',
        f'.> app:         {app.main or "__main__"}:{id(app):#x}',
        f'.> transport:   {app.connection_for_read().as_uri()}',
        f'.> results:     {app.backend.as_uri(include_password=False)}',
        f'.> concurrency: {worker.concurrency} ({worker.pool_cls.name})',
        '',
        '[queues]',
        *(_describe_queue(queue) for queue in app.amqp.queues.consume_from.values()),
        '',
    ]
    if worker.loglevel <= logging.INFO:
        names = sorted(name for name in app.tasks if not name.startswith(BUILT_IN))
        sections += ['[tasks]', *(f'  . {name}' for name in names), '']
    return '\n'.join(sections)


def _describe_queue(queue: Any) -> str:
    exchange = queue.exchange
    return (f'.> {queue.name:<16} exchange={exchange.name or queue.name}({exchange.type}) '
            f'key={queue.routing_key or queue.name}')
