"""Where a message goes: exchange, routing key, and what must be declared before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from kombu import Queue
from kombu.common import Broadcast
from kombu.entity import Exchange, maybe_delivery_mode

__all__ = ('Destination', 'Target', 'resolve_target')


class Destination:
    """Exchange, routing key and declarations of messages on the fast path. Compared by identity."""

    __slots__ = ('declare', 'declared_once', 'exchange', 'mandatory', 'routing_key')

    def __init__(self, exchange: str, routing_key: str, declare: Iterable[Any], mandatory: bool = False,
                 lasting: bool = False) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.declare = tuple(declare)
        self.mandatory = mandatory
        #: Whether a channel may remember that it declared for this destination: not when an entity may vanish
        #: meanwhile (auto-delete, expiring), and not when the object is made for one message only.
        self.declared_once = lasting and all(entity.can_cache_declaration for entity in self.declare)


class Target(NamedTuple):
    """What routing options come to."""

    #: The exchange as the caller gave it (a name or an `Exchange`), or the queue's.
    exchange: Any
    routing_key: str
    #: Name of the queue, if one is known.
    queue: str | None
    #: 1 transient, 2 persistent.
    delivery_mode: int
    declare: list[Any]

    @property
    def exchange_name(self) -> str:
        return self.exchange.name if isinstance(self.exchange, Exchange) else self.exchange


def resolve_target(amqp: Any, queue: Any = None, exchange: Any = None, routing_key: str | None = None,
                   exchange_type: str | None = None, delivery_mode: Any = None, declare: Any = None) -> Target:
    """Where a message with these options goes, by Celery's rules.

    A queue on a direct exchange is addressed by its name over the default exchange, unless the caller names
    both exchange and routing key. Raises KeyError for a queue's name that is not known and may not be made.
    """
    conf = amqp.app.conf
    if queue is None and exchange is None:
        queue = amqp.default_queue
    if isinstance(queue, str):
        queue_name: str | None = queue
        queue = amqp.queues[queue]
    else:
        queue_name = None if queue is None else queue.name
    own_exchange = None if queue is None else queue.exchange
    kind = exchange_type or getattr(own_exchange, 'type', 'direct')
    if (not exchange or not routing_key) and kind == 'direct':
        exchange, routing_key = '', queue_name
    elif exchange is None:
        exchange = getattr(own_exchange, 'name', None) or amqp.default_exchange
        routing_key = routing_key or queue.routing_key or conf.task_default_routing_key
    if declare is None:
        declare = [queue] if isinstance(queue, Queue) and not isinstance(queue, Broadcast) else []
    mode = delivery_mode or getattr(own_exchange, 'delivery_mode', None) or conf.task_default_delivery_mode
    return Target(exchange, routing_key or '', queue_name, maybe_delivery_mode(mode), list(declare))
