"""The chord join of `chords` in RabbitMQ alone, for a store that keeps nothing.

A chord is a durable queue. Its first message, the head, says how many parts there will be and in which shape, and has
the body; each part follows as a persistent message. Whoever has added a part, and finds at least as many messages as
there must be, claims the chord: as the queue's only consumer, until it leaves or the broker sees it dead. It reads what
is there. If parts are missing all the same, as some came twice, it lets go and looks again: those who looked meanwhile
rely on it. The body is sent in the transaction that takes the parts out of the queue, so that it is sent once, whatever
breaks.

Each chord also has a watch: a message that waits in one queue for all chords, until the broker moves it to another, of
those that are due. Whoever takes it from there looks at the chord, having put it back to wait if the chord's queue is
there still; so one that died, or a deadline that passed, is noticed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from typing import Any, NamedTuple, TypeVar

from amqp import Connection
from amqp.exceptions import AccessRefused, MessageNacked, NotFound
from kombu.common import maybe_declare
from kombu.utils.encoding import ensure_bytes
from kombu.utils.functional import LRUCache
from kombu.utils.uuid import uuid

from canvaslite import wire
from canvaslite.backends import chords
from canvaslite.backends.chords import ChordJoin, Claim, Opening, Outbox, Part, Report, Slot
from canvaslite.transport.connection import close_inherited
from canvaslite.transport.properties import encode_properties

__all__ = ('LOST', 'QueueJoin')

T = TypeVar('T')

#: What says that the broker went away.
LOST: tuple[type[Exception], ...] = (*Connection.recoverable_connection_errors, MessageNacked)

# A message's first line is a list: its kind, and what is said here.
HEAD = 'head'  #: size or None, shape or None; the packed body follows. What came before is of an older chord
SIZE, MORE = 'size', 'more'  #: a number
PART = 'part'  #: task id, place, state; the result follows in the second line
END = 'end'  #: whoever reads up to here
WATCH = 'watch'  #: id, size or None, deadline or None of a chord, in the queues of watches

#: Seconds for which RabbitMQ can keep a queue.
LONGEST_KEPT = 49 * 86400

_PERSISTENT, _TRANSIENT = encode_properties(delivery_mode=2), encode_properties(delivery_mode=1)

#: The queues of watches are the same for all processes: what is said here cannot change without other names.
_OF_WATCHES = {'x-queue-type': 'classic', 'x-message-ttl': int(chords.LOOK_INTERVAL * 1000),
               'x-dead-letter-exchange': ''}


class Watch(NamedTuple):
    """What is known of a chord that is due."""

    #: Parts that there must be, as far as it is known; messages that there are.
    size: int
    messages: int
    deadline: float | None


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
        #: The queue in which the watches of this app's chords wait, and that of those that are due.
        home = chords.home_of(app.conf)
        self.watched, self.due = (f'{name}:{home}' if home else name for name in (
            wire.CHORDS_WATCHED_QUEUE, wire.CHORDS_DUE_QUEUE))

    def add(self, queue: str, said: Sequence[Any], result: Any = b'') -> None:
        """Add a message to a queue; it is kept when this returns."""
        self.channel.publish_raw('', queue, _PERSISTENT, _message(said, result))

    def begin(self, queue: str, arguments: Any, head: bytes, watch: bytes) -> None:
        """Declare the queue of a chord, with its head, and have the chord watched; both are kept when this returns."""
        channel = self.channel
        if not self._keeps_watches:
            channel.queue_declare(self.due, durable=True, auto_delete=False, nowait=True,
                                  arguments={'x-queue-type': 'classic'})
            channel.queue_declare(self.watched, durable=True, auto_delete=False, nowait=True,
                                  arguments={**_OF_WATCHES, 'x-dead-letter-routing-key': self.due})
            self._keeps_watches = True
        channel.queue_declare(queue, durable=True, auto_delete=False, nowait=True, arguments=arguments)
        channel.write_frames(channel.frames('', self.watched, _PERSISTENT, watch, True)
                             + channel.frames('', queue, _PERSISTENT, head, True), 2)
        channel.wait_for_confirms()

    def count(self, queue: str) -> tuple[int, int] | None:
        """How many messages and consumers the queue has, None if it is not there."""
        try:
            _, messages, consumers = self._asking.queue_declare(queue, passive=True)
        except NotFound:
            return None
        return messages, consumers


def _message(said: Sequence[Any], more: Any = b'') -> bytes:
    return json.dumps(said).encode() + b'\n' + ensure_bytes(more)


class Holding:
    """A claim: a channel with the only consumer of a chord's queue, and what it has read.

    For a burst it is what `publish.channels.PublishChannel` is otherwise: it takes messages into its transaction.
    """

    def __init__(self, link: Link, group_id: str) -> None:
        self.link, self.group_id, self.queue, self.token = link, group_id, _queue_of(group_id), uuid()
        self.channel = link.amqp.channel()
        self.has_head = self.ended = False
        self.size, self.more, self.shape, self.callback = inf, 0, None, b''
        #: State and encoded result of each slot.
        self.parts: dict[tuple[str, int | None], tuple[str, bytes]] = {}
        #: Numbers of the last message, and of those that nobody needs.
        self.last, self.useless = 0, list[int]()

    def read(self) -> None:
        """Read all that is there. Raises `AccessRefused` if there is another consumer."""
        self.channel.consume_raw(self.queue, self._take, consumer_tag=self.token, exclusive=True, nowait=True,
                                 on_cancel=self._lose_queue)
        # Whatever is there by now comes before this message.
        self.channel.publish_raw('', self.queue, _TRANSIENT, json.dumps([END, self.token]).encode())
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
            self.has_head, self.more, self.parts = True, 0, {}
            self.size, self.shape, self.callback = inf if said[0] is None else said[0], said[1], result
        elif kind == SIZE:
            self.size = said[0]
        elif kind == MORE:
            self.more += said[0]
        elif kind == PART and (slot := (said[0], said[1])) not in self.parts:
            self.parts[slot] = said[2], result
        else:
            self.useless.append(self.last)
            self.ended = said == [self.token]

    def send(self, messages: Sequence[Any]) -> None:
        """Publish; what is lost with this channel must not be sent again by another."""
        for message in messages:
            for entity in message.destination.declare:
                maybe_declare(entity, self.channel)
        self.channel.write_frames(b''.join(
            self.channel.frames(to.exchange, to.routing_key, properties, body, to.mandatory)
            for to, properties, body in messages), len(messages))

    def finish(self) -> None:
        """Nothing is waited for before the commit."""


def _queue_of(group_id: str) -> str:
    return wire.CHORD_QUEUE_PREFIX + group_id


class QueueJoin(ChordJoin):
    """Joins chords for a backend; `expires` is in seconds: how long a chord is kept at least that nobody looks at, be
    it that no worker runs (None is for ever)."""

    begins_unsized = False
    keeps_shape = True

    def __init__(self, backend: Any, expires: float | None) -> None:
        self.backend = backend
        if expires:
            # It fails at its deadline: it must be there then.
            expires = min(max(expires, chords.longest_open(backend.app.conf) or 0), LONGEST_KEPT)
        self.arguments = {'x-queue-type': 'classic', **({'x-expires': int(expires * 1000)} if expires else {})}
        self._idle: list[Link] = []
        self._held: dict[str, Holding] = {}
        #: The chords that this process is to look at.
        self._due: dict[str, Watch] = {}
        #: Queues that were read in vain: how many messages there must be before that is done again, and until when.
        self._in_vain: Any = LRUCache(limit=10_000)

    def abandon(self) -> None:
        """In a forked child: the connections are the parent's."""
        for link in (*self._idle, *(held.link for held in self._held.values())):
            close_inherited(link.connection)
        self._idle, self._held, self._due = [], {}, {}

    def _talk(self, do: Callable[..., T], *args: Any) -> T:
        """``do(link, *args)``; again, if the link turns out to have been lost while nobody used it."""
        while True:
            fresh = not self._idle
            try:
                link = Link(self.backend.app) if fresh else self._idle.pop()
            except IndexError:
                continue  # another thread was faster
            try:
                done = do(link, *args)
            except BaseException as exc:
                link.connection.close()
                if fresh or not isinstance(exc, LOST):
                    raise
            else:
                if getattr(done, 'claim', None) is None:
                    self._idle.append(link)
                return done

    def open(self, chord: Opening) -> None:
        self._talk(self._open, chord)

    def _open(self, link: Link, chord: Opening) -> None:
        queue = _queue_of(chord.group_id)
        if not chord.again or link.count(queue) is None:
            link.begin(queue, self.arguments, _message([HEAD, chord.size, chord.shape], chord.packed),
                       _message([WATCH, chord.group_id, chord.size, chord.deadline]))

    def set_size(self, group_id: str, size: int, slots: Sequence[Slot] = ()) -> None:
        self._talk(Link.add, _queue_of(group_id), [SIZE, size])

    def extend(self, group_id: str, count: int = 1) -> None:
        self._talk(Link.add, _queue_of(group_id), [MORE, count])

    def part(self, part: Part) -> Report:
        return self._talk(self._count, part, self.backend.encode([part.result]))

    def _count(self, link: Link, part: Part, result: Any) -> Report:
        link.add(_queue_of(part.group_id), [PART, part.task_id, part.place, part.state], result)
        return self._try(link, part.group_id, part.size or 0)

    def _try(self, link: Link, group_id: str, size: int, reason: str | None = None) -> Report:
        """Claim the chord if it has more than `size` messages and all its parts, or for a `reason`."""
        queue, report = _queue_of(group_id), None
        while report is None:
            found = link.count(queue)
            if found is None:
                return Report(chords.DONE)
            count, consumers = found
            enough, until = self._in_vain.get(queue, (0, 0))
            if consumers:
                return Report(chords.BUSY)
            if reason is None and (count <= size or (count < enough and time.monotonic() < until)):
                return Report(chords.RECORDED)
            report = self._claim(Holding(link, group_id), size, reason)
        return report

    def _claim(self, held: Holding, size: int, reason: str | None) -> Report | None:
        """Claim the chord and read its parts. None if some are missing: others may have come meanwhile."""
        try:
            held.read()
        except (AccessRefused, NotFound) as exc:
            held.channel.close()
            if isinstance(exc, AccessRefused) and 'exclusive' not in str(exc):
                raise  # nobody uses it, but it is not allowed
            return Report(chords.BUSY)
        missing = held.size + held.more - len(held.parts)
        if held.has_head and (missing <= 0 or reason is not None):
            self._held[held.token] = held
            claim = Claim(held.group_id, held.token, len(held.parts), 1, None if missing <= 0 else reason)
            return Report(chords.CLAIMED, claim, None, held.shape)
        if not held.has_head:
            # The body was sent, and whoever sent it died before it could remove the queue.
            held.link.channel.queue_delete(held.queue)
        for tag in held.useless:
            held.channel.basic_ack(tag)
        # Whatever is added to the chord, so many more messages must come at least; also if it is sent again meanwhile.
        # If it is sent again after its end, there are none of these: so this does not hold for long.
        more = max(1, min(missing, size))
        self._in_vain[held.queue] = held.last - len(held.useless) + more, time.monotonic() + 1
        held.channel.close()
        return None

    def parts(self, claim: Claim) -> Sequence[Part]:
        # Tasks that joined a running chord have no place: they come last.
        return [Part(claim.group_id, task_id, place, state, self.backend.decode(result)[0])
                for (task_id, place), (state, result) in sorted(
                    self._held[claim.token].parts.items(), key=lambda item: inf if item[0][1] is None else item[0][1])]

    def renew(self, claim: Claim, seconds: float) -> bool:
        held = self._held.get(claim.token)
        if held is not None:
            held.channel.tx_select()  # its answer says that the connection is there
        return held is not None

    @contextmanager
    def sending(self, claim: Claim, app: Any) -> Iterator[Any]:
        """Take the parts out of the queue and send the body, as one step."""
        held = self._held[claim.token]
        with self.backend.app.publisher.burst() as burst:
            burst.lent = held
            yield burst
        held.channel.basic_ack(held.last, multiple=True)
        held.channel.tx_commit()

    def release(self, claim: Claim) -> None:
        held = self._held.pop(claim.token, None)
        if held is not None:
            try:
                held.channel.close()
                self._idle.append(held.link)
            except LOST:
                held.link.connection.close()

    def due(self, now: float, limit: int) -> Sequence[str]:
        self._due = self._talk(self._take_due, limit)
        return list(self._due)

    def _take_due(self, link: Link, limit: int) -> dict[str, Watch]:
        due: dict[str, Watch] = {}
        for _ in range(limit):
            try:
                message = link.channel.basic_get(link.due)
            except NotFound:  # nobody has sent a chord yet
                link.channel.confirm_select()  # it was closed, and opened anew
                break
            if message is None:
                break
            _, group_id, size, deadline = json.loads(message.body)
            found = link.count(_queue_of(group_id))
            if found is not None:
                # It waits again before it is taken from here: whatever happens to us, somebody will look.
                link.channel.publish_raw('', link.watched, _PERSISTENT, ensure_bytes(message.body), True)
                due[group_id] = Watch(size or 0, found[0], deadline)
            link.channel.basic_ack(message.delivery_tag)
        return due

    def look(self, group_id: str, now: float, reason: str | None = None) -> Report:
        watch = self._due.pop(group_id, None)
        if watch is None and reason is None:
            return Report(chords.BUSY)
        if watch is not None and reason is None:
            if watch.deadline is not None and watch.deadline <= now:
                reason = chords.OVERDUE
            elif watch.messages <= watch.size:
                return Report(chords.RECORDED)
        return self._talk(self._try, group_id, watch.size if watch is not None else 0, reason)

    def outbox(self, group_id: str) -> Outbox | None:
        # Only whoever holds the chord can read it.
        return next((Outbox(held.callback, ()) for held in self._held.values() if held.group_id == group_id), None)

    def missing(self, group_id: str, slots: Sequence[Slot]) -> Sequence[Slot]:
        # The outcomes are nowhere else: there is nothing to look them up by.
        return ()

    def forget(self, group_id: str) -> None:
        self._talk(lambda link: link.channel.queue_delete(_queue_of(group_id)))

    def finish(self, claim: Claim, failed: bool = False) -> bool:
        held = self._held.get(claim.token)
        if held is not None:
            # The body is out. A queue that cannot be removed expires; without its parts it does nothing.
            with suppress(*LOST):
                held.channel.basic_cancel(held.token, nowait=True)
                held.channel.queue_delete(held.queue)
            self.release(claim)
        return held is not None
