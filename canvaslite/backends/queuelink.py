"""What `queuejoin` says to RabbitMQ: its messages, the connection on which it says them, and how it holds a chord."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from amqp import Connection
from amqp.exceptions import MessageNacked, NotFound, PreconditionFailed
from kombu import Producer
from kombu.common import maybe_declare
from kombu.utils.encoding import ensure_bytes
from kombu.utils.uuid import uuid

from canvaslite import wire
from canvaslite.backends import chords
from canvaslite.transport.properties import encode_properties

__all__ = ('LOST', 'OF_WATCHES', 'PERSISTENT', 'Holding', 'Link', 'message_of', 'queue_of')

#: What says that the broker went away.
LOST: tuple[type[Exception], ...] = (*Connection.recoverable_connection_errors, MessageNacked)

# A message's first line is a list: its kind, and what is said here.
HEAD = 'head'  #: size or None, shape or None; the packed body follows. What came before is of an older chord
SIZE, MORE = 'size', 'more'  #: a number, and of MORE the task that was added or None
PART = 'part'  #: task id, place, state; the result follows in the second line
RAN = 'ran'  #: id of a body whose result has left, true if what follows it has as well; its outcome follows
OVER = 'over'  #: nothing; the chord has failed
END = 'end'  #: whoever reads up to here
#: Id, size or None, deadline or None of a chord, and whether its queue stays for the body, in the queues of watches.
WATCH = 'watch'

PERSISTENT, _TRANSIENT = encode_properties(delivery_mode=2), encode_properties(delivery_mode=1)
_SHORT_LIVED = encode_properties(delivery_mode=1, expiration=str(chords.DONE_KEPT * 1000))

#: The queues of watches are the same for all processes: what is said here cannot change without other names.
OF_WATCHES = {'x-queue-type': 'classic', 'x-message-ttl': int(chords.LOOK_INTERVAL * 1000),
               'x-dead-letter-exchange': ''}


class Link:
    """A connection, used by one thread at a time, with a channel on which messages are confirmed."""

    def __init__(self, app: Any) -> None:
        # Confirmed on that channel only: the one of a claim has transactions.
        self.connection = app.connection_for_write(transport_options={'confirm_publish': False})
        self.connection.ensure_connection(max_retries=3, interval_start=0, interval_step=0.2)
        self.channel = self.connection.channel()
        self.channel.confirm_select()
        #: Where the broker may answer that there is no such queue: that closes the channel, and opens it anew.
        self._asking = self.connection.channel()
        #: The connection as it is now: kombu's would quietly make another when this one is lost.
        self.amqp = self.channel.connection
        self._keeps_watches = False
        #: Has transactions; opened when it is needed.
        self._atomic: Any = None
        #: The queue in which the watches of this app's chords wait, and that of those that are due.
        home = chords.home_of(app.conf)
        self.watched, self.due = (f'{name}:{home}' if home else name for name in (
            wire.CHORDS_WATCHED_QUEUE, wire.CHORDS_DUE_QUEUE))

    def add(self, queue: str, message: bytes) -> bool:
        """Add a message to a queue; it is kept when this returns True. False if the queue is full."""
        try:
            self.channel.publish_raw('', queue, PERSISTENT, message)
        except MessageNacked:
            return False
        return True

    def begin(self, queue: str, arguments: Any, head: bytes, watch: bytes) -> None:
        """Declare the queue of a chord, with its head, and have the chord watched; both are kept when this returns.
        Raises `PreconditionFailed` or `MessageNacked` if an older chord has the queue."""
        channel = self.channel
        if not self._keeps_watches:
            channel.queue_declare(self.due, durable=True, auto_delete=False, nowait=True,
                                  arguments={'x-queue-type': 'classic'})
            channel.queue_declare(self.watched, durable=True, auto_delete=False, nowait=True,
                                  arguments={**OF_WATCHES, 'x-dead-letter-routing-key': self.due})
            self._keeps_watches = True
        channel.queue_declare(queue, durable=True, auto_delete=False, nowait=True, arguments=arguments)
        channel.write_frames(channel.frames('', self.watched, PERSISTENT, watch, True)
                             + channel.frames('', queue, PERSISTENT, head, True), 2)
        channel.wait_for_confirms()

    def add_with(self, queue: str, said: Sequence[Any], more: bytes, send: Callable[[Any], Any],
                 messages: Sequence[Any]) -> None:
        """Add a message to a queue, if that is there, ``send`` by a producer, and publish `messages`: all or nothing,
        whoever dies. The queue is one of parts that came late and are of no use: if it is full of them, it is emptied.
        """
        if self._atomic is None:
            self._atomic = self.connection.channel()
            self._atomic.tx_select()
        # No more lasting than what it stands for: a restart of the broker takes both.
        self._atomic.publish_raw('', queue, _SHORT_LIVED, message_of(said, more))
        send(Producer(self._atomic))
        publish_all(self._atomic, messages)
        try:
            self._atomic.tx_commit()
        except PreconditionFailed:  # the queue is full; that has closed the channel, and opened it anew
            self._atomic.tx_select()
            self.channel.queue_purge(queue)
            self.add_with(queue, said, more, send, messages)

    def remove(self, queue: str) -> None:
        """Delete a queue, whatever the broker may have closed the channel for."""
        if self.channel.confirms is None:
            self.channel.confirm_select()
        self.channel.queue_delete(queue)

    def count(self, queue: str) -> tuple[int, int] | None:
        """How many messages and consumers the queue has, None if it is not there."""
        try:
            _, messages, consumers = self._asking.queue_declare(queue, passive=True)
        except NotFound:
            return None
        return messages, consumers


def publish_all(channel: Any, messages: Sequence[Any]) -> None:
    """Publish raw messages on a channel with transactions."""
    for message in messages:
        for entity in message.destination.declare:
            maybe_declare(entity, channel)
    if messages:
        channel.write_frames(b''.join(
            channel.frames(to.exchange, to.routing_key, properties, body, to.mandatory or to.expected)
            for to, properties, body in messages), len(messages))


def message_of(said: Sequence[Any], more: Any = b'') -> bytes:
    """A message that says this; the `more` that follows is not read to understand it."""
    return json.dumps(said).encode() + b'\n' + ensure_bytes(more)


class Holding:
    """A claim: a channel with the only consumer of a chord's queue, and what it has read.

    For a burst it is what `publish.channels.PublishChannel` is otherwise: it takes messages into its transaction.
    """

    def __init__(self, link: Link, group_id: str) -> None:
        self.link, self.group_id, self.queue, self.token = link, group_id, queue_of(group_id), uuid()
        self.channel = link.amqp.channel()
        self.channel.tx_select()
        self.has_head = self.over = self.ended = self.keeps_queue = False
        self.size, self.shape, self.callback = inf, None, b''
        #: How many parts were added, by the task or the message that did.
        self.more: dict[str | int, int] = {}
        #: State and encoded result of each slot.
        self.parts: dict[tuple[str, int | None], tuple[str, bytes]] = {}
        #: The outcomes of bodies, encoded, by task id; and whether what follows them is out.
        self.ran: dict[str, tuple[bytes, bool]] = {}
        #: Numbers of the last message, and of those that nobody needs.
        self.last, self.useless = 0, list[int]()

    def read(self, message: bytes | None = None) -> None:
        """Read all that is there, and add a `message`, which is kept when this returns. Raises `AccessRefused` if there
        is another consumer."""
        self.channel.consume_raw(self.queue, self._take, consumer_tag=self.token, exclusive=True, nowait=True,
                                 on_cancel=self._lose_queue)
        if message is not None:
            self.channel.publish_raw('', self.queue, PERSISTENT, message)
        # Whatever is there by now comes before this message.
        self.channel.publish_raw('', self.queue, _TRANSIENT, json.dumps([END, self.token]).encode())
        self.channel.tx_commit()
        while not self.ended:
            self.link.amqp.drain_events()

    def _lose_queue(self, tag: str) -> None:
        self.has_head, self.ended = False, True

    def _take(self, delivery: Any) -> None:
        if self.ended:
            return
        self.last = delivery.delivery_tag
        line, _, result = delivery.body.partition(b'\n')
        kind, *said = json.loads(line)
        if kind == HEAD:
            self.has_head, self.more, self.parts = True, {}, {}
            self.size, self.shape, self.callback = inf if said[0] is None else said[0], said[1], result
        elif kind == SIZE:
            self.size = said[0]
        elif kind == MORE:
            self.more.setdefault((said[1:] or [None])[0] or self.last, said[0])
        elif kind == RAN:
            self.ran[said[0]] = result, bool(said[1:])
        elif kind == OVER:
            self.over = True
        elif kind == PART and self.has_head and (slot := (said[0], said[1])) not in self.parts:
            self.parts[slot] = said[2], result
        else:
            self.useless.append(self.last)
            self.ended = said == [self.token]

    def let_go(self) -> None:
        """Give back what was read, but for what nobody needs."""
        for tag in self.useless:
            self.channel.basic_ack(tag)
        if self.useless:
            self.channel.tx_commit()
        self.channel.close()

    def send(self, messages: Sequence[Any]) -> None:
        """Publish; what is lost with this channel must not be sent again by another."""
        publish_all(self.channel, messages)

    def finish(self) -> None:
        """Nothing is waited for before the commit."""

    def say_over(self) -> None:
        """Leave a message that the chord is over: whoever finds its queue can remove it."""
        self.channel.publish_raw('', self.queue, PERSISTENT, message_of([OVER]))


def queue_of(group_id: str) -> str:
    """The name of a chord's queue."""
    return wire.CHORD_QUEUE_PREFIX + group_id
