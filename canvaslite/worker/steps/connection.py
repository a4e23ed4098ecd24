"""The step that connects to the broker."""

from __future__ import annotations

import logging
from typing import Any

from canvaslite import bootsteps
from canvaslite.worker.binding import Binding

__all__ = ('Connection',)

logger = logging.getLogger('canvaslite.worker')


class Connection(bootsteps.StartStopStep):
    """The consumer's connection, on the loop."""

    def start(self, c: Any) -> None:
        conf = c.app.conf
        connection = c.recovery.connect(conf.broker_heartbeat)
        c.connection = connection
        c.connection_errors = c.recovery.errors_of(connection)
        c.binding = Binding(c.hub, connection, conf.broker_heartbeat_checkrate)
        logger.info('Connected to %s', connection.as_uri())

    def stop(self, c: Any) -> None:
        """The connection stays: running tasks are still to be acknowledged on it."""

    def terminate(self, c: Any) -> None:
        self.stop(c)

    def info(self, c: Any) -> dict[str, Any]:
        if c.connection is None:
            return {'broker': 'N/A'}
        info = c.connection.info()
        info.pop('password', None)
        info['alternates'] = []  # they have passwords in them
        return {'broker': info}
