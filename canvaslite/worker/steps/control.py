"""The step that answers remote control."""

from __future__ import annotations

import logging
from typing import Any

from amqp.exceptions import ResourceLocked
from kombu.common import ignore_errors

from canvaslite import bootsteps
from canvaslite.worker.commands.panel import Panel, PanelState

__all__ = ('Control',)

logger = logging.getLogger('canvaslite.worker')

#: Seconds after which a mailbox that another worker holds is asked for again.
LOCKED_RETRY = 1.0


class Control(bootsteps.StartStopStep):
    """This worker's mailbox of remote control, on a channel of its own."""

    requires = ('canvaslite.worker.steps.connection:Connection',)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        self.node: Any = None
        self.consumer: Any = None

    def include_if(self, c: Any) -> bool:
        return bool(c.app.conf.worker_enable_remote_control
                    and c.app.connection_for_read().supports_exchange_type('fanout'))

    def start(self, c: Any) -> None:
        state = PanelState(app=c.app, hostname=c.hostname, consumer=c)
        self.node = c.app.control.mailbox.Node(c.hostname, handlers=Panel.data, state=state)
        self._open_mailbox(c, c.connection)

    def _open_mailbox(self, c: Any, connection: Any, tries: int = 0) -> None:
        """Listen to the mailbox, or try again later while another worker of our name holds it.

        That may be one that was killed a moment ago: the broker has not noticed yet.
        """
        if c.connection is not connection:
            return
        self.node.channel = connection.channel()
        try:
            self.consumer = self.node.listen(callback=self._on_message)
        except ResourceLocked:
            if tries == 1:
                logger.warning('Another worker named %s is connected: this one gets no remote control until that one '
                               'has stopped. Give it another name with --hostname.', c.hostname)
            c.hub.call_later(LOCKED_RETRY, self._open_mailbox, c, connection, tries + 1)

    def _on_message(self, body: Any, message: Any) -> None:
        try:
            self.node.handle_message(body, message)
        except KeyError as exc:
            logger.error('No such control command: %s', exc)
        except Exception as exc:
            logger.exception('Control command error: %r', exc)

    def stop(self, c: Any) -> None:
        consumer, self.consumer = self.consumer, None
        if c.connection is None:
            return
        if consumer is not None:
            ignore_errors(c.connection, consumer.cancel)
        if self.node is not None and self.node.channel is not None:
            ignore_errors(c.connection, self.node.channel.close)

    def terminate(self, c: Any) -> None:
        self.stop(c)
