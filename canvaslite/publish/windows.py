"""Groups of which only so many members run at any moment (``max_concurrency``).

The members that have to wait stand, as messages ready to be sent, in a queue of the group: its window. A second queue
holds one message, the state: how many may run, and the ids of those that do. A member's last task names the window in
a header. Whoever records its final outcome, in whatever worker, takes the state, which nobody else has meanwhile, and
in one transaction sends the next members and gives the changed state back. A member that is not in the state, because
its end was recorded before, changes nothing. A process that dies on the way gives back what it took.

On transports without transactions a member that was on its way when the process died is sent twice, none is lost.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

from amqp.exceptions import NotFound
from kombu import Producer, Queue
from kombu.compression import compress
from kombu.entity import Exchange

from canvaslite import wire
from canvaslite.exceptions import OperationalError
from canvaslite.publish.messages import Outgoing, body_encoder
from canvaslite.utils.uuid import uuid

logger = logging.getLogger('canvaslite.publish')

#: Seconds without any end of a member, after which a broker may forget a window.
KEPT = 7 * 86400
#: Seconds for which somebody may have the state. Where a queue that was deleted looks like one that is empty, it is
#: also how long the end of a member waits that was counted before.
PATIENCE = 10.0


class Gathered:
    """Takes the place of a producer, and keeps what is published."""

    def __init__(self) -> None:
        self.outgoing: list[Outgoing] = []


class Window:
    """The window of a group that is being sent. `dispatch` publishes an `Outgoing`."""

    def __init__(self, app: Any, size: int, dispatch: Callable[[Outgoing], Any]) -> None:
        self.id = uuid()
        self.size = size
        self._app = app
        self._dispatch = dispatch

    def hold(self, member_id: str, send: Callable[..., Any]) -> None:
        """Let a member wait, whose last task has the id `member_id`; ``send(producer=)`` sends it."""
        gathered = Gathered()
        send(producer=gathered)
        entry = {'id': member_id, 'messages': [_pack(outgoing) for outgoing in gathered.outgoing]}
        # What the messages need is there before they are sent: whoever sends them knows nothing of it.
        self._put(_queues(self.id)[0], entry, [entity for outgoing in gathered.outgoing for entity in outgoing.declare])

    def open(self, running: list[str]) -> None:
        """Say which members run already: those that are sent after this."""
        self._put(_queues(self.id)[1], {'size': self.size, 'running': running, 'first': True}, [])

    def _put(self, queue: Queue, body: Any, needed: list[Any]) -> None:
        conf = self._app.conf
        self._dispatch(Outgoing(queue.name, body, {}, {}, '', queue.name, 2, [queue, *needed], 'json', None,
                                conf.task_publish_retry, conf.task_publish_retry_policy))


def end_member(app: Any, window: str, member_id: str) -> None:
    """A member has ended: send the next. Raises `OperationalError` when the broker is away; done twice, it does no
    harm."""
    with app.connection_or_acquire() as connection:
        try:
            with connection.channel() as channel:
                _move_on(channel, window, member_id)
        except connection.connection_errors + connection.channel_errors as exc:
            connection.collect()
            raise OperationalError(f'The members that wait in the window {window} cannot be sent: {exc}') from exc


def _move_on(channel: Any, window: str, member_id: str) -> None:
    waiting, kept = (queue(channel) for queue in _queues(window))
    # With publisher confirms each message is known to be there before the next step.
    transaction = hasattr(channel, 'tx_select') and not channel.connection.confirm_publish
    if transaction:
        channel.tx_select()
    try:
        state = _take(kept)
    except NotFound:  # the window is gone: no member waits
        return
    if state is None:
        logger.warning('Nobody has given back the state of the window %s: a member of it ended twice, or is lost.',
                       window)
        return
    while state.payload.get('first') and (again := kept.get(accept=['json'])) is not None:
        again.ack()  # a lost connection has let it arrive twice
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
    give_up = time.monotonic() + PATIENCE
    while (state := kept.get(accept=['json'])) is None and time.monotonic() < give_up:
        time.sleep(random.uniform(0.002, 0.02))
    return state


def _queues(window: str) -> tuple[Queue, Queue]:
    """Where members wait, and where the state is."""
    name = wire.WINDOW_PREFIX + window
    return Queue(name, expires=KEPT), Queue(f'{name}.state', expires=KEPT)


def _pack(outgoing: Outgoing) -> dict[str, Any]:
    """A message as arguments of ``Producer.publish``."""
    encoder = body_encoder(outgoing.serializer)
    body, headers = encoder.encode_payload(outgoing.body), outgoing.headers
    if outgoing.compression:
        body, headers['compression'] = compress(body, outgoing.compression)
    exchange = outgoing.exchange
    properties = {name: value.name if isinstance(value, Queue) else value
                  for name, value in outgoing.properties.items() if value is not None}
    return {'priority': 0, **properties, 'body': body, 'headers': headers, 'delivery_mode': outgoing.delivery_mode,
            'content_type': encoder.content_type, 'content_encoding': encoder.content_encoding,
            'exchange': exchange.name if isinstance(exchange, Exchange) else exchange,
            'routing_key': outgoing.routing_key}
