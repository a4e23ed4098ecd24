"""The chord join of `chords` in RabbitMQ alone, for a store that keeps nothing.

A chord is a durable queue. Its first message, the head, says how many parts there will be and in which shape; each
part follows as a persistent message. Whoever has added a part, and finds at least as many messages as there must be,
claims the chord: as the queue's only consumer, until it leaves or the broker sees it dead. It reads what is there. If
parts are missing all the same, as some came twice, it lets go and looks again: those who looked meanwhile rely on it.
The body is sent in the transaction that takes the parts out of the queue, so that it is sent once, whatever breaks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import kombu
from amqp.exceptions import AccessRefused, MessageNacked, NotFound
from kombu.exceptions import OperationalError
from kombu.utils.encoding import ensure_bytes
from kombu.utils.functional import LRUCache
from kombu.utils.uuid import uuid

from canvaslite import wire
from canvaslite.backends import chords
from canvaslite.backends.chords import ChordJoin, Claim, Part, Report
from canvaslite.transport.connection import close_inherited
from canvaslite.transport.properties import encode_properties

__all__ = ('QueueJoin',)

T = TypeVar('T')

# Kinds of messages in a chord's queue. A message's first line is a list: its kind, and what is said here.
HEAD = 'head'  #: size or None, shape or None; what came before is of an older chord with the same id
SIZE, MORE = 'size', 'more'  #: a number
PART = 'part'  #: task id, place, state; the result follows in the second line
END = 'end'  #: whoever reads up to here

_PERSISTENT, _TRANSIENT = encode_properties(delivery_mode=2), encode_properties(delivery_mode=1)

#: Chords of which is remembered how many messages there must be before it is worth reading them again.
REMEMBERED = 10_000


class Link:
    """A connection, used by one thread at a time, and a channel on which the broker confirms messages."""

    def __init__(self, app: Any) -> None:
        # Confirms not for the connection, as the channel of a claim has transactions.
        self.connection = app.connection_for_write(transport_options={'confirm_publish': False})
        self.lost = (*self.connection.recoverable_connection_errors, MessageNacked)
        policy = app.conf.task_publish_retry_policy if app.conf.task_publish_retry else {'max_retries': 1}
        names = ('max_retries', 'interval_start', 'interval_step', 'interval_max')
        self.connection.ensure_connection(**{name: policy[name] for name in names if name in policy})
        self.channel = self.connection.channel()
        self.channel.confirm_select()

    def publish(self, queue: str, said: Sequence[Any], result: Any = b'') -> None:
        """Write a message; `wait_for_confirms` of the channel tells when the broker has kept it."""
        body = json.dumps(said).encode() + b'\n' + ensure_bytes(result)
        self.channel.write_frames(self.channel.frames('', queue, _PERSISTENT, body), 1, (('', queue),))

    @contextmanager
    def telling_loss(self) -> Iterator[None]:
        """Let the loss of the connection be an `OperationalError`."""
        try:
            yield
        except self.lost as exc:
            raise OperationalError(f'The connection to the broker was lost: {exc!r}') from exc

    def close(self) -> None:
        """Hang up: what it holds, the broker gives to others."""
        with suppress(Exception):  # it may be lost already, which is as good
            self.connection.close()


class Holding:
    """What is read under a claim, and the channel that holds it."""

    def __init__(self, link: Link, queue: str) -> None:
        self.link, self.queue, self.token = link, queue, uuid()
        self.channel = link.connection.channel()
        self.size: int | None = None
        self.shape: Any = None
        self.more = 0
        #: State and encoded result of each slot.
        self.parts: dict[tuple[str, int | None], tuple[str, bytes]] = {}
        #: How many messages were read, the number of the last one, and those of which nobody needs.
        self.count = self.last = 0
        self.useless: list[int] = []
        self.has_head = self.ended = False

    def read(self) -> None:
        """Become the only consumer, and read all that is there. Raises `AccessRefused` if somebody else is."""
        self.channel.consume_raw(self.queue, self._take, consumer_tag=self.token, exclusive=True, nowait=True,
                                 on_cancel=lambda tag: None)
        # All that is there now comes before this message.
        self.channel.publish_raw('', self.queue, _TRANSIENT, json.dumps([END, self.token]).encode())
        while not self.ended:
            self.link.connection.drain_events()

    def _take(self, delivery: Any) -> None:
        if self.ended:
            return
        self.count, self.last = self.count + 1, delivery.delivery_tag
        line, _, result = delivery.body.partition(b'\n')
        kind, *said = json.loads(line)
        if kind == HEAD:
            self.size, self.shape = said
            self.more, self.parts, self.has_head = 0, {}, True
        elif kind == SIZE:
            self.size = said[0]
        elif kind == MORE:
            self.more += said[0]
        elif kind == PART and (slot := (said[0], said[1])) not in self.parts:
            self.parts[slot] = said[2], result
        else:
            self.useless.append(self.last)
            self.ended = kind == END and said[0] == self.token

    @property
    def missing(self) -> int:
        """How many parts are not there; 1 if that is not known."""
        return 1 if self.size is None else self.size + self.more - len(self.parts)


class Transaction(kombu.Producer):  # type: ignore[misc]
    """Publishes on a claim's channel: what is lost with it must not be sent again by another."""

    def publish(self, *args: Any, **kwargs: Any) -> Any:
        return super().publish(*args, **{**kwargs, 'retry': False})


class QueueJoin(ChordJoin):
    """Joins chords for a backend; `expires` is in seconds: how long an abandoned chord is kept (None is for ever)."""

    def __init__(self, backend: Any, expires: float | None) -> None:
        self.backend = backend
        self.arguments = {'x-queue-type': 'classic', **({'x-expires': int(expires * 1000)} if expires else {})}
        self._idle: list[Link] = []
        self._held: dict[str, Holding] = {}
        self._worth_reading: Any = LRUCache(limit=REMEMBERED)

    def forget(self) -> None:
        """In a forked child: the connections are the parent's."""
        links, self._idle = [*self._idle, *(held.link for held in self._held.values())], []
        self._held.clear()
        for link in links:
            close_inherited(link.connection)

    def _talk(self, do: Callable[..., T], *args: Any) -> T:
        """``do(link, *args)``. It is done again where a link turns out to have been lost while nobody used it."""
        while True:
            try:
                link, used = self._idle.pop(), True
            except IndexError:
                link, used = Link(self.backend.app), False
            try:
                with link.telling_loss():
                    done = do(link, *args)
            except BaseException as exc:
                link.close()
                if used and isinstance(exc, OperationalError):
                    continue
                raise
            if not any(held.link is link for held in self._held.values()):
                self._idle.append(link)
            return done

    # -- the publisher ----------------------------------------------------------------------------------------------

    def open(self, group_id: str, size: int | None, callback: Mapping[str, Any], task_ids: Sequence[str],
             shape: Any = None) -> None:
        self._talk(self._open, wire.CHORD_QUEUE_PREFIX + group_id, [HEAD, size, shape])

    def _open(self, link: Link, queue: str, head: Sequence[Any]) -> None:
        link.channel.queue_declare(queue, durable=True, auto_delete=False, arguments=self.arguments)
        self._say(link, queue, head)

    def _say(self, link: Link, queue: str, said: Sequence[Any]) -> None:
        link.publish(queue, said)
        link.channel.wait_for_confirms()

    def set_size(self, group_id: str, size: int) -> None:
        self._talk(self._say, wire.CHORD_QUEUE_PREFIX + group_id, [SIZE, size])

    def extend(self, group_id: str, count: int = 1) -> None:
        self._talk(self._say, wire.CHORD_QUEUE_PREFIX + group_id, [MORE, count])

    # -- parts --------------------------------------------------------------------------------------------------------

    def part(self, part: Part, size: int | None = None) -> Report:
        """As `ChordJoin.part`; the chord is known to wait for at least `size` parts."""
        result = self.backend.encode([part.result])
        return self._talk(self._add, wire.CHORD_QUEUE_PREFIX + part.group_id, part, size or 0, result)

    def _add(self, link: Link, queue: str, part: Part, size: int, result: Any) -> Report:
        link.publish(queue, [PART, part.task_id, part.place, part.state], result)
        link.channel.wait_for_confirms()  # before it is confirmed it need not be counted
        try:
            while True:
                _, count, consumers = link.channel.queue_declare(queue, passive=True)
                if consumers:
                    return Report(chords.BUSY)
                if count < self._worth_reading.get(queue, 1 + size):
                    return Report(chords.RECORDED)
                report = self._claim(link, queue, part.group_id, size)
                if report is not None:
                    return report
        except NotFound:
            link.channel.confirm_select()  # it was closed, and opened anew
            return Report(chords.DONE)

    def _claim(self, link: Link, queue: str, group_id: str, size: int) -> Report | None:
        """Claim the chord and read its parts. None if some are missing, and others may have come meanwhile."""
        held = Holding(link, queue)
        try:
            held.read()
        except AccessRefused:
            held.channel.close()
            return Report(chords.BUSY)
        if held.has_head and held.missing <= 0:
            self._held[held.token] = held
            return Report(chords.CLAIMED, Claim(group_id, held.token, len(held.parts)), None, held.shape)
        if not held.has_head:
            # The body was sent, and whoever sent it died before it could remove the queue.
            link.channel.queue_delete(queue)
        else:
            for tag in held.useless:
                held.channel.basic_ack(tag)
            # Whatever is added, as many more messages must come as there are parts missing. If the chord was sent
            # again meanwhile, no more than its size.
            self._worth_reading[queue] = held.count - len(held.useless) + max(1, min(held.missing, size))
        held.channel.close()
        return None

    # -- under a claim ------------------------------------------------------------------------------------------------

    def parts(self, claim: Claim) -> Sequence[Part]:
        # Tasks that joined a running chord have no place: they come last.
        found = [Part(claim.group_id, task_id, place, state, self.backend.decode(result)[0])
                 for (task_id, place), (state, result) in self._held[claim.token].parts.items()]
        return sorted(found, key=lambda part: float('inf') if part.place is None else part.place)

    def renew(self, claim: Claim, seconds: float) -> bool:
        held = self._held.get(claim.token)
        if held is None:
            return False
        with held.link.telling_loss():
            held.channel.basic_qos(0, 0, False)  # changes nothing; the answer says that the connection is there
        return True

    @contextmanager
    def sending(self, claim: Claim) -> Iterator[Any]:
        """Send the body and take the parts out of the queue, as one step."""
        held = self._held[claim.token]
        with held.link.telling_loss():
            held.channel.tx_select()
            yield Transaction(held.channel, auto_declare=False)
            held.channel.basic_ack(held.last, multiple=True)
            held.channel.tx_commit()

    def release(self, claim: Claim) -> None:
        held = self._held.pop(claim.token, None)
        if held is None:
            return
        with suppress(*held.link.lost):
            held.channel.close()
            self._idle.append(held.link)
            return
        held.link.close()

    def finish(self, claim: Claim) -> bool:
        held = self._held.get(claim.token)
        if held is None:
            return False
        # The body is out. If the queue cannot be removed, it expires, and without its parts it does nothing.
        with suppress(OperationalError), held.link.telling_loss():
            held.channel.basic_cancel(held.token, nowait=True)
            held.channel.queue_delete(held.queue)
        self.release(claim)
        return True
