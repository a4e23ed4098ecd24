"""`Queues`: the queues an app knows, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import WeakValueDictionary

from kombu import Exchange, Queue

from canvaslite.utils.functional import maybe_list


class Queues(dict[str, Any]):
    """Queue name to `kombu.Queue`, with the queues a worker consumes from among them.

    A name that is not there is made on the spot when `create_missing` is set, as Celery makes it: a direct exchange and
    a routing key of the queue's own name, so that both sides declare the same queue. `queues` is a mapping (of `Queue`
    or `Queue.from_dict` options) or a sequence of `Queue`. `create_missing_queue_type` is ``classic`` or ``quorum``.
    `autoexchange` makes a missing queue's exchange. `max_priority` is ``x-max-priority`` where a queue says none.
    """

    _consume_from: dict[str, Any] | None = None

    def __init__(self, queues: Any = None, default_exchange: Any = None, create_missing: bool = True,
                 create_missing_queue_type: str | None = None, create_missing_queue_exchange_type: str | None = None,
                 autoexchange: Callable[[str], Any] | None = None, max_priority: int | None = None,
                 default_routing_key: str | None = None) -> None:
        super().__init__()
        self.aliases: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self.default_exchange = default_exchange
        self.default_routing_key = default_routing_key
        self.create_missing = create_missing
        self.create_missing_queue_type = create_missing_queue_type
        self.create_missing_queue_exchange_type = create_missing_queue_exchange_type
        self.autoexchange = autoexchange or Exchange
        self.max_priority = max_priority
        #: Raised with each change: what was prepared from the queues before is out of date.
        self.version = 0
        named = queues if isinstance(queues, Mapping) else {queue.name: queue for queue in queues or ()}
        for name, queue in named.items():
            if isinstance(queue, Queue):
                self.add(queue)
            else:
                self.add(name, **queue)
        self._default_consume_from: dict[str, Any] = dict(self)

    def __getitem__(self, name: str) -> Any:
        aliased = self.aliases.get(name)
        return super().__getitem__(name) if aliased is None else aliased

    def __setitem__(self, name: str, queue: Any) -> None:
        if self.default_exchange and (not queue.exchange or queue.exchange.name == ''):
            queue.exchange = self.default_exchange
        if not queue.routing_key:
            queue.routing_key = self.default_routing_key
        if self.max_priority is not None:
            queue.queue_arguments = {'x-max-priority': self.max_priority, **(queue.queue_arguments or {})}
        super().__setitem__(name, queue)
        if queue.alias:
            self.aliases[queue.alias] = queue
        self.version += 1

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self.version += 1

    def __missing__(self, name: str) -> Any:
        if not self.create_missing:
            raise KeyError(name)
        return self.add(self.new_missing(name))

    def add(self, queue: Any, **options: Any) -> Any:
        """Add a `Queue`, or one made of a name and `Queue.from_dict` options (exchange, …); returns the queue."""
        if not isinstance(queue, Queue):
            routing_key = options.get('routing_key', options.get('binding_key')) or queue
            queue = Queue.from_dict(queue, **{**options, 'routing_key': routing_key})
        self[queue.name] = queue
        return queue

    def new_missing(self, name: str) -> Any:
        """The queue that is made for a name nobody declared. Raises ValueError for an unknown queue type."""
        kind = self.create_missing_queue_type or 'classic'
        if kind not in ('classic', 'quorum'):
            raise ValueError(f"Invalid queue type {kind!r}: task_create_missing_queue_type is 'classic' or 'quorum'.")
        exchange = (Exchange(name, self.create_missing_queue_exchange_type) if self.create_missing_queue_exchange_type
                    else self.autoexchange(name))
        return Queue(name, exchange, name, queue_arguments={'x-queue-type': 'quorum'} if kind == 'quorum' else None)

    @property
    def consume_from(self) -> dict[str, Any]:
        """The queues to consume from: those selected, else all that were given."""
        return self._default_consume_from if self._consume_from is None else self._consume_from

    def select(self, include: str | Iterable[str] | None) -> None:
        """Consume from these queues only; the others serve routing."""
        if include:
            wanted = [self[name] for name in maybe_list(include)]
            self._consume_from = {queue.name: queue for queue in wanted}

    def select_add(self, queue: Any, **options: Any) -> Any:
        """Add a queue and consume from it too, even when others were selected."""
        added = self.add(queue, **options)
        self.consume_from[added.name] = added
        return added

    def deselect(self, exclude: str | Iterable[str] | None) -> None:
        """Do not consume from these queues."""
        for name in maybe_list(exclude or ()):
            aliased = self.aliases.get(name)
            self.consume_from.pop(name if aliased is None else aliased.name, None)

    def format(self, indent: int = 0, indent_first: bool = True) -> str:
        """The queues consumed from, one per line."""
        lines = [f'.> {name:<16} exchange={queue.exchange.name}({queue.exchange.type}) key={queue.routing_key}'
                 for name, queue in sorted(self.consume_from.items())]
        return (' ' * indent if indent_first else '') + ('\n' + ' ' * indent).join(lines)
