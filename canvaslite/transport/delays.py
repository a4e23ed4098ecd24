"""Delay queues of RabbitMQ as kombu lays them out: 28 exchanges and queues, one for each bit of a number of seconds.

A message comes in at the exchange of the highest bit. Its routing key begins with the bits: where one is set, the
message waits in that level's queue for as many seconds before it is dead-lettered to the next level; where it is not,
it goes there at once. Below the lowest level is the delivery exchange, which looks at what follows the bits.

Celery's own levels have no prefix. They deliver through the exchanges of the task queues, which must not be direct.
Ours have one, and deliver to the queue that is named behind the bits, whatever it is bound to. What nobody can have,
because that queue was deleted, goes to a queue of its own for a week: it would block the others where it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from amqp.exceptions import NotFound

from canvaslite import wire

LEVELS = 28
#: The longest delay, in seconds: 8 years and a half. What is to wait longer comes back and goes in again.
LONGEST = 2 ** LEVELS - 1
#: Seconds for which a message is kept whose queue is gone.
_UNDELIVERABLE_KEPT = 7 * 24 * 3600
_LONGEST_KEY = 255
_WAITED = re.compile(r'^(?:[01]\.){%d}' % LEVELS)


def declare_levels(channel: Any, queue_type: str, prefix: str = '', **delivery: Any) -> None:
    """Declare exchanges and queues, with the arguments that Celery's workers give; `delivery` are those of the delivery
    exchange. Raises the transport's errors, where they are there with others."""
    delivery_exchange = prefix + wire.DELAY_DELIVERY
    channel.exchange_declare(delivery_exchange, 'topic', durable=True, auto_delete=False, arguments=delivery)
    following = delivery_exchange
    for level in range(LEVELS):
        name = prefix + wire.DELAY_LEVEL.format(level)
        arguments = {'x-queue-type': queue_type, 'x-overflow': 'reject-publish', 'x-message-ttl': 2 ** level * 1000,
                     'x-dead-letter-exchange': following}
        if queue_type == 'quorum':
            arguments['x-dead-letter-strategy'] = 'at-least-once'
        others = '*.' * (LEVELS - 1 - level)
        channel.exchange_declare(name, 'topic', durable=True, auto_delete=False)
        channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
        channel.queue_bind(name, name, f'{others}1.#')
        channel.exchange_bind(following, name, f'{others}0.#')
        following = name


def declare_own_levels(channel: Any, queue_type: str) -> None:
    """Declare ours."""
    name = wire.OWN_DELAY_PREFIX + 'undeliverable'
    channel.exchange_declare(name, 'fanout', durable=True, auto_delete=False)
    channel.queue_declare(name, durable=True, auto_delete=False,
                          arguments={'x-message-ttl': _UNDELIVERABLE_KEPT * 1000})
    channel.queue_bind(name, name, '')
    declare_levels(channel, queue_type, wire.OWN_DELAY_PREFIX, **{'alternate-exchange': name})


def bind_to_own_levels(channel: Any, queue: str) -> None:
    """Have `queue` get what is sent to it through our levels."""
    channel.queue_bind(queue, wire.OWN_DELAY_PREFIX + wire.DELAY_DELIVERY, '*.' * LEVELS + queue)


def purge_own_levels(connection: Any, queues: Collection[str]) -> int:
    """Drop what waits in our levels for one of `queues`; how many messages that were.

    The others are looked at and given back: RabbitMQ keeps their place and the time at which they move on. Messages
    move down only, and so do we.
    """
    dropped = 0
    try:
        for level in reversed(range(LEVELS)):
            # What it has not acknowledged goes back when it is closed.
            with connection.channel() as channel:
                name = wire.OWN_DELAY_PREFIX + wire.DELAY_LEVEL.format(level)
                channel.queue_declare(name, passive=True)
                while (message := channel.basic_get(name)) is not None:
                    if _WAITED.sub('', message.delivery_info['routing_key']) in queues:
                        channel.basic_ack(message.delivery_tag)
                        dropped += 1
    except NotFound:  # no worker has used them
        pass
    return dropped


def can_name(queue: str) -> bool:
    """Whether a routing key can name the queue behind the bits."""
    return 2 * LEVELS + len(queue.encode()) <= _LONGEST_KEY and not {'*', '#'}.intersection(queue.split('.'))


def delay_key(seconds: float, routing_key: str) -> str:
    """The routing key for a message that is to wait for so many whole seconds (at most `LONGEST`), perhaps not for the
    first time."""
    routing_key = _WAITED.sub('', routing_key)
    return '.'.join(f'{min(int(seconds), LONGEST):0{LEVELS}b}') + f'.{routing_key}'
