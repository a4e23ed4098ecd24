"""The chord join of `chords` in RabbitMQ alone, for a store that keeps nothing.

A chord is a durable queue. Its first message, the head, says how many parts there will be and in which shape, and has
the body; each part follows as a persistent message. The queue is full with all but one: the broker refuses the last
part, so that the confirm tells each task whether the others are there, and nobody has to count. Whose part was refused
claims the chord: as the queue's only consumer, until it leaves or the broker sees it dead. It reads what is there, and
adds its part: what a consumer has does not fill the queue. If parts are missing all the same, as some came twice, it
lets go and looks again: those whose parts were taken meanwhile rely on it. The body is sent in the transaction that
takes the parts out of the queue, so that it is sent once, whatever breaks.

If the body is one message, the queue stays until it has run to its end. Its result leaves in a transaction with a
message that says so, in that queue; then what follows is sent, and the queue removed, before the body's message is
acknowledged. So a body that is delivered again learns whether its result had left: by that message, or as there is no
queue any more.

Each chord also has a watch: a message that waits in one queue for all chords, until the broker moves it to another, of
those that are due. Whoever takes it from there looks at the chord, having put it back to wait if the chord's queue is
there still; so one that died, or a deadline that passed, is noticed.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import inf
from typing import Any, NamedTuple, TypeVar

from amqp.exceptions import AccessRefused, MessageNacked, NotFound, PreconditionFailed
from kombu.utils.encoding import ensure_bytes
from kombu.utils.functional import LRUCache

from canvaslite import states, wire
from canvaslite.backends import chords
from canvaslite.backends.chords import ChordJoin, Claim, Opening, Outbox, Part, Report, Slot
from canvaslite.backends.queuelink import (
    HEAD,
    LOST,
    MORE,
    PART,
    PERSISTENT,
    RAN,
    SIZE,
    WATCH,
    Holding,
    Link,
    message_of,
    queue_of,
)
from canvaslite.transport.confirms import MessagesReturned
from canvaslite.transport.connection import close_inherited

__all__ = ('QueueJoin',)

logger = logging.getLogger('celery.backends.queuejoin')

T = TypeVar('T')

#: So many messages of a chord that is due are read, whether they can be all or not.
FEW = 10
#: Seconds for which RabbitMQ can keep a queue.
LONGEST_KEPT = 49 * 86400
#: The outcome of a body of which nothing is left to be done.
SETTLED = {'status': states.SUCCESS, 'result': None, 'settled': True}


class Watch(NamedTuple):
    """What is known of a chord that is due."""

    #: Parts that there must be, as far as it is known; messages that there are.
    size: int
    messages: int
    deadline: float | None


def _is_limited(size: int | None) -> bool:
    """Whether the queue of a chord of so many parts is full with all but one. That of a single part has no limit: parts
    that come late would leave it no room for anything else."""
    return size is not None and size > 1


def _is_one_message(body: Mapping[str, Any]) -> bool:
    while body.get('subtask_type') == 'chain' and body['kwargs']['tasks']:
        body = body['kwargs']['tasks'][0]
    return body.get('subtask_type') not in ('chain', 'group', 'chord', 'chunks')


class QueueJoin(ChordJoin):
    """Joins chords for a backend; `expires` is in seconds: how long a chord is kept at least that nobody looks at, be
    it that no worker runs (None is for ever)."""

    begins_unsized = can_be_examined = keeps_runs = False
    keeps_shape = True

    def __init__(self, backend: Any, expires: float | None) -> None:
        self.backend = backend
        if expires:
            # It fails at its deadline: it must be there then.
            expires = min(max(expires, chords.longest_open(backend.app.conf) or 0), LONGEST_KEPT)
        self.expires = expires
        self.arguments = {'x-queue-type': 'classic', 'x-overflow': 'reject-publish',
                          **({'x-expires': int(expires * 1000)} if expires else {})}
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
        queue = queue_of(chord.group_id)
        if chord.again and link.count(queue) is not None:
            return
        begin = (queue, {**self.arguments, 'x-max-length': chord.size} if _is_limited(chord.size) else self.arguments,
                 message_of([HEAD, chord.size, chord.shape], chord.packed),
                 message_of([WATCH, chord.group_id, chord.size, chord.deadline, _is_one_message(chord.callback)]))
        try:
            link.begin(*begin)
        except (PreconditionFailed, MessageNacked):
            link.remove(queue)
            link.begin(*begin)

    def set_size(self, group_id: str, size: int, slots: Sequence[Slot] = ()) -> None:
        self._say(group_id, [SIZE, size])

    def extend(self, group_id: str, task_id: str | None = None) -> None:
        self._say(group_id, [MORE, 1, task_id])

    def _say(self, group_id: str, said: Sequence[Any]) -> None:
        report = self._talk(self._add, group_id, message_of(said))
        if report.claim is not None:  # somebody else will see that all is there
            self.release(report.claim)

    def part(self, part: Part) -> Report:
        message = message_of([PART, part.task_id, part.place, part.state], self.backend.encode([part.result]))
        return self._talk(self._add, part.group_id, message, part.size or 0)

    def _add(self, link: Link, group_id: str, message: bytes, size: int = 0) -> Report:
        """Add a message to the chord, of which `size` parts are known; claim it if all are there."""
        while not link.add(queue_of(group_id), message):
            report = self._claim(Holding(link, group_id), size, None, message)
            if report is None:  # the message was added, and others may have been meanwhile
                return self._try(link, group_id, size)
            if report.claim is not None:
                return report
        return Report(chords.RECORDED) if _is_limited(size) else self._try(link, group_id, size)

    def _try(self, link: Link, group_id: str, size: int, reason: str | None = None) -> Report:
        """Claim the chord if it has more than `size` messages and all its parts, or for a `reason`."""
        queue, report = queue_of(group_id), None
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

    def _claim(self, held: Holding, size: int, reason: str | None, message: bytes | None = None) -> Report | None:
        """Claim the chord, read its parts, and add a `message` unless the report is BUSY. None if some are missing:
        others may have come meanwhile."""
        try:
            held.read(message)
        except (AccessRefused, NotFound) as exc:
            held.channel.close()
            if isinstance(exc, AccessRefused) and 'exclusive' not in str(exc):
                raise  # nobody uses it, but it is not allowed
            return Report(chords.BUSY)
        if held.over:
            held.channel.queue_delete(held.queue)
            held.channel.close()
            return Report(chords.DONE)
        missing = held.size + sum(held.more.values()) - len(held.parts)
        if held.has_head and (missing <= 0 or reason is not None):
            self._held[held.token] = held
            claim = Claim(held.group_id, held.token, len(held.parts), 1, None if missing <= 0 else reason)
            return Report(chords.CLAIMED, claim, None, held.shape)
        # (Without a head the body was sent: what is there came late, and is useless.)
        # Whatever is added to the chord, so many more messages must come at least; also if it is sent again meanwhile.
        # If it is sent again after its end, there are none of these: so this does not hold for long.
        more = max(1, min(missing, size))
        self._in_vain[held.queue] = held.last - len(held.useless) + more, time.monotonic() + 1
        held.let_go()
        return None

    def parts(self, claim: Claim) -> Sequence[Part]:
        # Tasks that joined a running chord have no place: they come last.
        return [Part(claim.group_id, task_id, place, state, self.backend.decode(result)[0])
                for (task_id, place), (state, result) in sorted(
                    self._held[claim.token].parts.items(), key=lambda item: inf if item[0][1] is None else item[0][1])]

    def renew(self, claim: Claim, seconds: float) -> bool:
        return claim.token in self._held

    @contextmanager
    def sending(self, claim: Claim, app: Any) -> Iterator[Any]:
        """Take the parts out of the queue and send the body, as one step."""
        held = self._held[claim.token]
        with app.publisher.burst() as burst:
            burst.lent = held
            yield burst
        held.channel.basic_ack(held.last, multiple=True)
        held.channel.tx_commit()

    @contextmanager
    def failing(self, claim: Claim, app: Any) -> Iterator[None]:
        """Take the parts out of the queue and send the errbacks, as one step."""
        try:
            with self.sending(claim, app) as burst, app.publisher.errbacks_through(burst):
                yield
                self._held[claim.token].say_over()
        except MessagesReturned:
            logger.exception('Chord %r: there is no queue for an errback', claim.group_id)

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
            _, group_id, size, deadline, *keeps_queue = json.loads(message.body)
            queue = queue_of(group_id)
            found = link.count(queue)
            if found == (0, 0):  # the body is out
                if keeps_queue != [True]:  # and whoever sent it died before it could remove the queue
                    link.channel.queue_delete(queue)
            elif found is not None:
                # It waits again before it is taken from here: whatever happens to us, somebody will look.
                link.channel.publish_raw('', link.watched, PERSISTENT, ensure_bytes(message.body), True)
                due[group_id] = Watch(size or 0, found[0], deadline)
            link.channel.basic_ack(message.delivery_tag)
        return due

    def look(self, group_id: str, now: float, reason: str | None = None) -> Report:
        watch = self._due.pop(group_id, None)
        if watch is None and reason is None:
            return Report(chords.BUSY)
        size = watch.size if watch is not None else 0
        if watch is not None and reason is None:
            if watch.deadline is not None and watch.deadline <= now:
                reason = chords.OVERDUE
            elif watch.messages <= FEW:
                size = -1  # read it anyway: the body may be out, and what is there be parts that came late
            elif watch.messages <= size:
                return Report(chords.RECORDED)
        return self._talk(self._try, group_id, size, reason)

    def outbox(self, group_id: str) -> Outbox | None:
        # Only whoever holds the chord can read it.
        return next((Outbox(held.callback, ()) for held in self._held.values() if held.group_id == group_id), None)

    def missing(self, group_id: str, slots: Sequence[Slot]) -> Sequence[Slot]:
        # The outcomes are nowhere else: there is nothing to look them up by.
        return ()

    def forget(self, group_id: str) -> None:
        self._talk(lambda link: link.channel.queue_delete(queue_of(group_id)))

    def finish(self, claim: Claim, failed: bool = False) -> bool:
        held = self._held.get(claim.token)
        if held is not None:
            # The body is out. A queue that cannot be removed expires; without its parts it does nothing.
            with suppress(*LOST):
                held.channel.basic_cancel(held.token, nowait=True)
                if failed or not held.keeps_queue:
                    held.channel.queue_delete(held.queue)
            self.release(claim)
        return held is not None

    # -- the body --------------------------------------------------------------------------------------------------

    def name_copy(self, claim: Claim, body: Any) -> Any:
        held = self._held[claim.token]
        held.keeps_queue = _is_one_message(body)
        if not held.keeps_queue:
            return claim.attempt
        # Where the body finds its chord's queue, and until when that is there at least.
        return f'{claim.group_id} {time.time() + self.expires if self.expires else inf:.0f}'

    def keep_outcome(self, attempt: str, task_id: str, outcome: bytes, send: Callable[[Any], Any],
                     following: Sequence[Any] = ()) -> None:
        """Have the body's result leave by ``send(producer)``, with the messages that follow it, and its chord's queue
        say so, in one step."""
        said = [RAN, task_id, True] if following else [RAN, task_id]
        self._talk(Link.add_with, queue_of(attempt.split()[0]), said, outcome, send, following)

    def outcome(self, attempt: str, task_id: str) -> Mapping[str, Any] | None:
        """The outcome of a body whose result has left; None if it has not. Raises `ConnectionError` while somebody else
        reads the queue."""
        group_id, until = attempt.split()
        held = self._talk(self._read, group_id)
        if held is None:
            # Removed when all was done; or nobody came for so long that RabbitMQ removed it.
            return SETTLED if time.time() < float(until) else None
        if task_id not in held.ran:
            return None
        outcome, followed = held.ran[task_id]
        return {**self.backend.meta_from_decoded(self.backend.decode(outcome)), 'followed': followed}

    def _read(self, link: Link, group_id: str) -> Holding | None:
        held = Holding(link, group_id)
        try:
            held.read()
        except NotFound:
            return None
        except AccessRefused as exc:
            raise ConnectionError(f'The chord {group_id} is being looked at: {exc}') from exc
        held.let_go()
        return held

    def end_run(self, task_id: str, attempt: str, told: bool) -> None:
        if names_queue(attempt):
            self._talk(lambda link: link.channel.queue_delete(queue_of(attempt.split()[0]), nowait=True))

    def mark(self, name: str, seconds: float) -> int:
        """Leave a mark of that name; how many there are now. They are kept for `seconds` after the last."""
        return self._talk(self._mark, wire.MARKS_QUEUE_PREFIX + name, int(seconds * 1000))

    def _mark(self, link: Link, queue: str, kept: int) -> int:
        link.channel.queue_declare(queue, durable=True, auto_delete=False, nowait=True,
                                   arguments={'x-queue-type': 'classic', 'x-expires': kept})
        link.channel.publish_raw('', queue, PERSISTENT, b'')
        return (link.count(queue) or (0, 0))[0]

    def unmark(self, name: str) -> None:
        """Take one away."""
        self._talk(lambda link: link.channel.basic_get(wire.MARKS_QUEUE_PREFIX + name, no_ack=True))


def names_queue(attempt: Any) -> bool:
    """Whether it is the name of a body's copy that `QueueJoin.name_copy` gave."""
    return ' ' in str(attempt)
