"""The model's broker: one queue, which keeps what it has, and delivers again what is not acknowledged.

It stands where canvaslite has its channels to RabbitMQ, so everything above them is real: routes, messages, bursts.
What a process has written is in flight until the broker has it, in order; a process that waits for the confirm knows
that it has. What is in flight when its process dies may arrive or be lost.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kombu.exceptions import OperationalError

from canvaslite.protocol.job import AMQP_PROPERTIES, Job, Verdict
from canvaslite.publish import pool
from canvaslite.transport.properties import decode_properties
from tests.model.processes import Node, atomic, here


class Message:
    """One message in the queue, or on its way to or from it."""

    def __init__(self, properties: bytes, body: bytes, redelivered: bool = False) -> None:
        self.properties, self.body, self.redelivered = properties, body, redelivered
        self.headers: dict[str, Any] = decode_properties(properties)['headers']
        #: Whether a Celery worker before 5.7 sent it, which may be wrong.
        self.unsure = False
        #: Before this time nobody tries it.
        self.not_before = 0.0

    @property
    def id(self) -> str:
        """The task's."""
        return str(self.headers['id'])

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.headers['task'])

    @property
    def content(self) -> list[Any]:
        """Arguments, keyword arguments, and what comes after."""
        return json.loads(self.body)  # type: ignore[no-any-return]

    def copy(self, redelivered: bool) -> Message:
        """The same message once more."""
        return Message(self.properties, self.body, redelivered)

    def job(self, verdict: Verdict | None = None) -> Job:
        """What a worker's parent makes of it."""
        return Job(AMQP_PROPERTIES, self.properties, self.body, '', 'model', self.redelivered, verdict)

    def __repr__(self) -> str:
        return f'{self.task}[{self.id[:8]}]{"*" if self.redelivered else ""}'


class Broker:
    """What the model looks into: `ready` to be delivered, `unacknowledged`, and all that ever arrived, in `log`."""

    def __init__(self) -> None:
        self.ready: list[Message] = []
        self.unacknowledged: list[Message] = []
        self.log: list[Message] = []

    def arrive(self, messages: Sequence[Message]) -> None:
        """The broker has them."""
        self.ready += messages
        self.log += messages

    def take(self, message: Message) -> None:
        """Deliver it."""
        self.ready.remove(message)
        self.unacknowledged.append(message)

    def settle(self, message: Message, requeue: bool = False) -> None:
        """It is acknowledged, or goes back."""
        self.unacknowledged.remove(message)
        if requeue:
            self.ready.insert(0, message.copy(True))

    def sent(self, task_id: str) -> list[Message]:
        """All copies of a task that were published."""
        return [message for message in self.log if message.id == task_id]


class Channel:
    """For one node what `publish.channels.PublishChannel` is for a process."""

    def __init__(self, node: Node, broker: Broker) -> None:
        self._node, self._broker = node, broker
        self.declared: set[Any] = set()
        self.channel = None

    def send(self, messages: Sequence[Any], settle: bool = False, failure: Any = None) -> None:
        """Write messages."""
        if messages:
            atomic('write', _away, self._write, messages)
        if settle:
            self.settle()

    def send_one(self, message: Any) -> bool:
        """Write one message, and know that it has arrived."""
        self.send([message], settle=True)
        return False

    def _write(self, messages: Sequence[Any]) -> None:
        self._node.unconfirmed += [Message(properties, body) for _, properties, body in messages]

    def settle(self) -> None:
        """Know that they have arrived."""
        if self._node.unconfirmed:
            atomic('confirm', _away, self._confirm)

    finish = settle

    def _confirm(self) -> None:
        messages, self._node.unconfirmed = self._node.unconfirmed, []
        self._broker.arrive(messages)

    def rest(self) -> None:
        """All has arrived."""

    def discard(self) -> None:
        """The connection is lost, and what it had in flight with it."""
        self._node.unconfirmed = []


class ChannelPool(pool.ChannelPool):
    """Has the channel of the node that asks."""

    def __init__(self, app: Any, broker: Broker) -> None:
        super().__init__(app)
        self.broker = broker

    def take(self) -> Any:
        node = here()
        assert node is not None, 'only processes of the model publish'
        return Channel(node, self.broker)

    acquire = take

    def release(self, channel: Any) -> None:
        """Nothing is kept."""


def _away() -> BaseException:
    return OperationalError('the model has the broker be away')
