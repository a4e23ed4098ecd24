"""Groups of which only so many members run at any moment (``max_concurrency``).

The members that wait stand, as messages ready to be sent, in a queue of the group: its window. A second queue holds one
message, the state: how many may run, and the ids of those that do. The last task of a member names the window in a
header. Whoever records its final outcome takes the state, which nobody else has meanwhile, and in one transaction sends
the next members and gives the changed state back; an end that was recorded before changes nothing. A process that dies
on the way gives back what it took. Without transactions, a member may then be sent twice; none is lost.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from amqp.exceptions import NotFound
from kombu import Producer, Queue

from canvaslite import wire
from canvaslite.exceptions import OperationalError
from canvaslite.publish.messages import Outgoing
from canvaslite.publish.options import logger
from canvaslite.transport.properties import decode_properties

#: Seconds without any end of a member, after which a broker may forget a window.
KEPT = 7 * 86400
#: Seconds for which somebody may have the state, or a queue that is gone looks like an empty one (on Redis).
PATIENCE = 10.0


class Gathered:
    """Takes the place of a producer, and keeps what is published."""

    def __init__(self) -> None:
        self.outgoing: list[Outgoing] = []


def fill(conf: Any, window: str, size: int, running: list[str], waiting: Iterable[tuple[str, Callable[..., Any]]]
         ) -> Iterator[Outgoing]:
    """The messages that make a window: the members that wait, each its last task's id and what sends it, then the
    state, which says that `running` run already: they are to be sent after it."""
    def put(queue: Queue, body: Any, needed: Iterable[Any] = ()) -> Outgoing:
        return Outgoing(queue.name, body, {}, {}, '', queue.name, 2, [queue, *needed], 'json', None,
                        conf.task_publish_retry, conf.task_publish_retry_policy)

    members, kept = _queues(window)
    for member_id, send in waiting:
        gathered = Gathered()
        send(producer=gathered)
        # What the messages need is there before they are sent: whoever sends them knows nothing of it.
        yield put(members, {'id': member_id, 'messages': [_pack(outgoing) for outgoing in gathered.outgoing]},
                  [entity for outgoing in gathered.outgoing for entity in outgoing.declare])
    yield put(kept, {'size': size, 'running': running, 'first': True})


def _pack(outgoing: Outgoing) -> dict[str, Any]:
    """A message as arguments of ``Producer.publish``."""
    destination, properties, body = outgoing.encode()
    said = decode_properties(properties)
    said.pop('expiration', None)  # a worker is to see it, and its end, also when it has expired
    return {**said, 'body': body, 'exchange': destination.exchange, 'routing_key': destination.routing_key}


def _queues(window: str) -> tuple[Queue, Queue]:
    """Where members wait, and where the state is."""
    name = wire.WINDOW_PREFIX + window
    return Queue(name, expires=KEPT), Queue(f'{name}.state', expires=KEPT)


def end_member(app: Any, window: str, member_id: str) -> None:
    """A member has ended: send the next. Does no harm when it is done twice.

    Raises `OperationalError` when the broker is away.
    """
    for last in (False, True):  # the first connection may have been lost while nobody used it
        with app.connection_or_acquire() as connection:
            try:
                with connection.channel() as channel:
                    _move_on(channel, window, member_id)
                return
            except connection.connection_errors + connection.channel_errors as exc:
                connection.collect()
                if last:
                    raise OperationalError(f'The members that wait in {window} cannot be sent: {exc}') from exc


def _move_on(channel: Any, window: str, member_id: str) -> None:
    waiting, kept = (queue(channel) for queue in _queues(window))
    # With publisher confirms each message is known to be there before the next step.
    transaction = hasattr(channel, 'tx_select') and not channel.connection.confirm_publish
    if transaction:
        channel.tx_select()
    state = _take(kept)
    if state is None:
        return
    size, running = state.payload['size'], state.payload['running']
    if member_id not in running:
        state.requeue()  # (in a transaction, it goes back with the channel's end)
        return
    running.remove(member_id)
    producer, taken = Producer(channel, auto_declare=False), [state]
    while len(running) < size and (entry := waiting.get(accept=['json'])) is not None:
        for message in entry.payload['messages']:
            producer.publish(**message)
        running.append(entry.payload['id'])
        taken.append(entry)
    if running:
        producer.publish({'size': size, 'running': running}, routing_key=kept.name, serializer='json')
    for message in taken:
        message.ack()
    if transaction:
        channel.tx_commit()
    if not running:
        waiting.delete()
        kept.delete()


def _take(kept: Any) -> Any:
    """The window's state; None if the window is gone, so that no member waits, or nobody has given the state back."""
    give_up = time.monotonic() + PATIENCE
    try:
        while (state := kept.get(accept=['json'])) is None:
            if time.monotonic() > give_up:
                logger.warning('%s: a member of the group ended twice, or the next one is not sent', kept.name)
                return None
            time.sleep(random.uniform(0.002, 0.02))
    except NotFound:
        return None
    while state.payload.get('first') and (again := kept.get(accept=['json'])) is not None:
        again.ack()  # a lost connection has let it arrive twice
    return state
