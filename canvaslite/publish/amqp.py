"""``app.amqp``: queues, routes and task messages, under Celery's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from kombu import Consumer, Exchange, Producer, Queue
from kombu.pools import ProducerPool

from canvaslite import signals
from canvaslite.protocol import Envelope, v1, v2
from canvaslite.publish import routes as routing
from canvaslite.publish.messages import Outgoing, resolve_target
from canvaslite.publish.options import check_arguments, eta_text, expires_text, listed
from canvaslite.publish.queues import Queues
from canvaslite.transport.connection import BrokerConnection
from canvaslite.utils.functional import either
from canvaslite.utils.nodenames import anon_nodename
from canvaslite.utils.saferepr import represent_args, represent_kwargs

#: `AMQP.Queues` hides the class of that name.
_Queues = Queues


class task_message(NamedTuple):
    """A task message before it is sent: what `AMQP.create_task_message` makes."""

    headers: dict[str, Any]
    properties: dict[str, Any]
    body: Any
    #: Fields of the ``task-sent`` event, when one was asked for.
    sent_event: dict[str, Any] | None


class AMQP:
    """Queues, routes and messages of one app."""

    Connection = BrokerConnection
    BrokerConnection = BrokerConnection
    Consumer = Consumer
    Producer = Producer
    queues_cls = Queues

    #: Makes the exchange of a queue that is made on the spot, from its name; a direct `Exchange` by default.
    autoexchange: Callable[[str], Any] | None = None
    #: Longest text of arguments in headers, in characters.
    argsrepr_maxsize = 1024
    kwargsrepr_maxsize = 1024

    def __init__(self, app: Any) -> None:
        self.app = app
        self.task_protocols: dict[int, Callable[..., task_message]] = {1: self.as_task_v1, 2: self.as_task_v2}
        self._given_router: Any = None
        self._producer_pool: Any = None

    def Queues(self, queues: Any, create_missing: bool | None = None, create_missing_queue_type: str | None = None,
               create_missing_queue_exchange_type: str | None = None, autoexchange: Callable[[str], Any] | None = None,
               max_priority: int | None = None) -> _Queues:
        """A `Queues` with the defaults of the configuration; without `queues` it has the default queue."""
        conf = self.app.conf
        if not queues and conf.task_default_queue:
            quorum = {'x-queue-type': 'quorum'} if conf.task_default_queue_type == 'quorum' else None
            queues = (Queue(conf.task_default_queue, exchange=self.default_exchange,
                            routing_key=conf.task_default_routing_key, queue_arguments=quorum),)
        return self.queues_cls(
            queues, self.default_exchange, either(create_missing, conf.task_create_missing_queues),
            create_missing_queue_type or conf.task_create_missing_queue_type,
            create_missing_queue_exchange_type or conf.task_create_missing_queue_exchange_type,
            autoexchange or self.autoexchange, either(max_priority, conf.task_queue_max_priority),
            conf.task_default_routing_key)

    @cached_property
    def queues(self) -> _Queues:
        """The queues of the app, by name."""
        return self.Queues(self.app.conf.task_queues)

    @cached_property
    def default_exchange(self) -> Any:
        return Exchange(self.app.conf.task_default_exchange, self.app.conf.task_default_exchange_type)

    @property
    def default_queue(self) -> Any:
        return self.queues[self.app.conf.task_default_queue]

    @cached_property
    def routes(self) -> list[Any]:
        """The routers of ``task_routes``."""
        return routing.prepare(self.app.conf.task_routes)

    @cached_property
    def _own_router(self) -> routing.Router:
        return self.Router()

    @property
    def router(self) -> Any:
        """Finds the destination of a task. Another one may be set."""
        return self._given_router or self._own_router

    @router.setter
    def router(self, router: Any) -> None:
        self._given_router = router

    def Router(self, queues: Any = None, create_missing: bool | None = None) -> routing.Router:
        """A router with other queues."""
        return routing.Router(self.routes, queues or self.queues,
                              either(create_missing, self.app.conf.task_create_missing_queues), app=self.app)

    def flush_routes(self) -> None:
        """Read ``task_routes`` again, when it is next asked for."""
        self.__dict__.pop('_own_router', None)
        self.__dict__.pop('routes', None)

    def TaskConsumer(self, channel: Any, queues: Any = None, accept: Any = None, **options: Any) -> Any:
        """A `kombu.Consumer` of the queues to consume from."""
        return self.Consumer(channel, accept=self.app.conf.accept_content if accept is None else accept,
                             queues=queues or list(self.queues.consume_from.values()), **options)

    @property
    def producer_pool(self) -> Any:
        """A pool of `kombu.Producer` over the app's pool of connections."""
        connections = self.app.pool
        if self._producer_pool is None or self._producer_pool.connections is not connections:
            self._producer_pool = ProducerPool(connections, limit=connections.limit, Producer=self.Producer)
        return self._producer_pool

    publisher_pool = producer_pool

    @cached_property
    def utc(self) -> bool:
        """Whether messages of protocol 1 name times in UTC."""
        return bool(self.app.conf.enable_utc)

    @property
    def create_task_message(self) -> Callable[..., task_message]:
        """`as_task_v2`, or `as_task_v1` when ``task_protocol`` is 1."""
        return self.task_protocols[self.app.conf.task_protocol]

    def as_task_v2(self, task_id: str, name: str, args: Any = None, kwargs: Any = None, countdown: float | None = None,
                   eta: Any = None, group_id: str | None = None, group_index: int | None = None, expires: Any = None,
                   retries: int = 0, chord: Any = None, callbacks: Any = None, errbacks: Any = None,
                   reply_to: str | None = None, time_limit: float | None = None, soft_time_limit: float | None = None,
                   create_sent_event: bool = False, root_id: str | None = None, parent_id: str | None = None,
                   shadow: str | None = None, chain: Any = None, now: Any = None, timezone: Any = None,
                   origin: str | None = None, ignore_result: bool | None = False, argsrepr: str | None = None,
                   kwargsrepr: str | None = None, stamped_headers: Any = None, replaced_task_nesting: int = 0,
                   **options: Any) -> task_message:
        """A protocol 2 message. Raises TypeError for arguments that are none, ValueError for a countdown out of range.
        """
        args, kwargs = check_arguments(args, kwargs)
        levels = self.app.conf.task_repr_maxlevels
        envelope = Envelope(
            id=task_id, task=name, args=args, kwargs=kwargs, eta=eta_text(self.app, countdown, eta, now),
            expires=expires_text(self.app, expires, now), timelimit=(time_limit, soft_time_limit), shadow=shadow,
            group=group_id, group_index=group_index, retries=retries, root_id=root_id or task_id, parent_id=parent_id,
            argsrepr=represent_args(args, self.argsrepr_maxsize, levels) if argsrepr is None else argsrepr,
            kwargsrepr=represent_kwargs(kwargs, self.kwargsrepr_maxsize, levels) if kwargsrepr is None else kwargsrepr,
            origin=origin or anon_nodename(), ignore_result=ignore_result,  # type: ignore[arg-type]
            replaced_task_nesting=replaced_task_nesting, stamped_headers=stamped_headers,
            stamps={header: options[header] for header in stamped_headers or ()},
            callbacks=callbacks, errbacks=errbacks, chain=chain, chord=chord)
        sent_event = {
            'uuid': envelope.id, 'root_id': envelope.root_id, 'parent_id': envelope.parent_id, 'name': envelope.task,
            'args': envelope.argsrepr, 'kwargs': envelope.kwargsrepr, 'retries': envelope.retries, 'eta': envelope.eta,
            'expires': envelope.expires,
        } if create_sent_event else None
        return task_message(v2.encode_headers(envelope), {'correlation_id': task_id, 'reply_to': reply_to or ''},
                            (args, kwargs, v2.encode_embed(envelope)), sent_event)

    def as_task_v1(self, *call: Any, **options: Any) -> task_message:
        """The message of `as_task_v2` in protocol 1, for workers of Celery 3: what follows in a chain is linked."""
        headers, properties, body, sent_event = self.as_task_v2(*call, **options)
        envelope = v2.decode(headers, properties, body)
        if envelope.chain:
            envelope = envelope._replace(callbacks=[*(envelope.callbacks or ()), _linked(envelope.chain)])
        return task_message({}, properties, v1.encode_body(envelope._replace(utc=self.utc)), sent_event)

    @property
    def send_task_message(self) -> Callable[..., Any]:
        """Sends a message through a `kombu.Producer`; `options` are those of `prepare_message`.

        Where another one is set, it gets all that the app publishes.
        """
        return self.app.publisher.sender or self._send_task_message

    @send_task_message.setter
    def send_task_message(self, sender: Callable[..., Any] | None) -> None:
        self.app.publisher.send_by(sender)

    @send_task_message.deleter
    def send_task_message(self) -> None:
        self.app.publisher.send_by(None)

    def _send_task_message(self, producer: Any, name: str, message: task_message, **options: Any) -> Any:
        outgoing = self.prepare_message(name, message, **options)
        return publish_announced(outgoing, lambda: outgoing.publish_through(producer))

    def prepare_message(self, name: str, message: task_message, exchange: Any = None, routing_key: str | None = None,
                        queue: Any = None, event_dispatcher: Any = None, retry: bool | None = None,
                        retry_policy: Mapping[str, Any] | None = None, serializer: str | None = None,
                        delivery_mode: Any = None, compression: str | None = None, declare: Any = None,
                        headers: Mapping[str, Any] | None = None, exchange_type: str | None = None,
                        timeout: float | None = None, confirm_timeout: float | None = None,
                        **properties: Any) -> Outgoing:
        """Decide where and how a message is sent. `headers` and `properties` are added to the message's own."""
        conf = self.app.conf
        if headers:
            message.headers.update(headers)
        message.properties.update(properties)
        return Outgoing(
            name, message.body, message.headers, message.properties,
            *resolve_target(self, queue, exchange, routing_key, exchange_type, delivery_mode, declare),
            serializer or conf.task_serializer, compression or conf.task_compression,
            conf.task_publish_retry if retry is None else retry,
            {**conf.task_publish_retry_policy, **(retry_policy or {})}, timeout, confirm_timeout)


def publish_announced(outgoing: Outgoing, publish: Callable[[], Any]) -> Any:
    """Publish between the signals ``before_task_publish`` and ``after_task_publish``."""
    name, body, headers = outgoing.name, outgoing.body, outgoing.headers
    if signals.before_task_publish.receivers:
        signals.before_task_publish.send(
            sender=name, body=body, exchange=outgoing.exchange, routing_key=outgoing.routing_key,
            declare=outgoing.declare, headers=headers, properties=outgoing.properties,
            retry_policy=outgoing.retry_policy)
    answer = publish()
    if signals.after_task_publish.receivers:
        signals.after_task_publish.send(sender=name, body=body, headers=headers, exchange=outgoing.exchange,
                                        routing_key=outgoing.routing_key)
    if signals.task_sent.receivers:
        said = headers if isinstance(body, tuple) else body
        args, kwargs = body[:2] if isinstance(body, tuple) else (body['args'], body['kwargs'])
        signals.task_sent.send(sender=name, task_id=said['id'], task=name, args=args, kwargs=kwargs, eta=said['eta'],
                               taskset=said['group'])
    return answer


def _linked(chain: Sequence[Any]) -> Any:
    """The next step of a chain, the last of these, with each one after it linked to the one before."""
    following: list[Any] = []
    for step in chain:
        options = step['options']
        following = [{**step, 'options': {**options, 'link': [*(listed(options.get('link')) or ()), *following]}}]
    return following[0]
