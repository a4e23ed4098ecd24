"""The short way to a message on RabbitMQ: what is usual is prepared once per task and set of options.

`Shortcut.find` says no (None) to anything unusual; then the publisher goes the long way, to the very same message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from canvaslite import current
from canvaslite.publish.amqp import check_arguments
from canvaslite.publish.options import RetryPolicy, eta_text, expires_text, given, relate_to_parent, seconds_until
from canvaslite.publish.prepared import FILLED_IN, Prepared
from canvaslite.publish.sending import RawMessage
from canvaslite.transport.table import encode_entry
from canvaslite.utils.nodenames import anon_nodename
from canvaslite.utils.saferepr import represent_args, represent_kwargs

__all__ = ('Shortcut', 'has_quorum_queue')

#: Options that are part of what is prepared.
_STATIC = ('queue', 'exchange', 'routing_key', 'exchange_type', 'priority', 'delivery_mode', 'serializer', 'time_limit',
           'soft_time_limit', 'ignore_result', 'mandatory')
_USUAL = FILLED_IN.union(_STATIC)
#: Prepared messages kept: options that vary without end must not fill the memory.
_KEPT = 2000

#: Eta, expires, and the seconds after which the broker may drop the message.
Times = tuple[str | None, str | None, float | None]
_NO_TIMES: Times = (None, None, None)


class Shortcut:
    """The prepared messages of one app, and how one is filled in."""

    __slots__ = ('_app', '_origin', '_prepared', '_quorum', '_seen')

    def __init__(self, app: Any) -> None:
        self._app = app
        self.reset()

    def reset(self) -> None:
        """Forget what was prepared."""
        self._prepared: dict[Any, Prepared] = {}
        self._origin = b''
        #: Settings, routes and queues that it was prepared from.
        self._seen: tuple[Any, ...] = ()
        #: Whether a delay may have to be kept by the broker, which only the long way knows to ask for.
        self._quorum = False

    def find(self, name: str, options: Mapping[str, Any]) -> Prepared | None:
        """What is prepared for such a message; None when it must go the long way."""
        if not _USUAL.issuperset(options) and not _USUAL.issuperset(given(options)):
            return None
        get = options.get
        key = (name, get('queue'), get('exchange'), get('routing_key'), get('exchange_type'), get('priority'),
               get('delivery_mode'), get('serializer'), get('time_limit'), get('soft_time_limit'), get('ignore_result'),
               get('mandatory'))
        conf, amqp = self._app.conf, self._app.amqp
        if (conf.task_routes, conf.task_serializer, amqp.router, amqp.queues.version) != self._seen:
            self._start_anew()
        if self._quorum and (get('countdown') or get('eta')):
            return None
        try:
            prepared = self._prepared.get(key)
        except TypeError:  # an option that has no hash
            return None
        if prepared is None or not prepared.encoder.current:
            prepared = self._prepare(name, options)
            if prepared is not None:
                self._keep(key, prepared)
        return prepared

    def _start_anew(self) -> None:
        """Settings, routes or queues are not those that were seen before."""
        conf, amqp = self._app.conf, self._app.amqp
        if self._seen and self._seen[0] is not conf.task_routes:
            amqp.flush_routes()
        self.reset()
        self._origin = encode_entry('origin', anon_nodename())
        self._quorum = has_quorum_queue(amqp.queues)
        self._seen = (conf.task_routes, conf.task_serializer, amqp.router, amqp.queues.version)

    def _prepare(self, name: str, options: Mapping[str, Any]) -> Prepared | None:
        amqp, conf = self._app.amqp, self._app.conf
        if not amqp.router.constant or conf.task_protocol != 2:
            return None
        static = {option: options[option] for option in _STATIC if options.get(option) is not None}
        time_limit, soft_time_limit = static.pop('time_limit', None), static.pop('soft_time_limit', None)
        ignore_result = static.pop('ignore_result', None)
        routed = given(amqp.router.route(static, name))
        outgoing = amqp.prepare_message(name, amqp.create_task_message('', name), **routed)
        if not _USUAL.issuperset(routed) or outgoing.compression:
            return None
        policy = RetryPolicy(outgoing.retry, outgoing.retry_policy)
        return Prepared(outgoing, time_limit, soft_time_limit, ignore_result, policy)

    def _keep(self, key: Any, prepared: Prepared) -> None:
        if len(self._prepared) >= _KEPT:
            self._prepared = {}
        self._prepared[key] = prepared

    def fill(self, prepared: Prepared, task_id: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> RawMessage:
        """The message of one call. Raises TypeError for arguments that are none, and `EncodeError`."""
        app = self._app
        if args.__class__ is not tuple or kwargs.__class__ is not dict:
            args, kwargs = check_arguments(args, kwargs)
        get = options.get
        root_id, parent_id, priority = get('root_id'), get('parent_id'), prepared.priority
        if current.task_stack.stack:
            root_id, parent_id, inherited = relate_to_parent(app, root_id, parent_id)
            priority = inherited if priority is None else priority
        times: Times = _NO_TIMES
        if get('countdown') or get('eta') or get('expires') is not None:
            times = self._times(task_id, options)
        origin = get('origin')
        return prepared.message(
            task_id, args, kwargs, options, (root_id or task_id, parent_id), times,
            self._represent(args, kwargs, options), encode_entry('origin', origin) if origin else self._origin,
            get('reply_to') or app.thread_oid, priority or 0)

    def _represent(self, args: Any, kwargs: Any, options: Mapping[str, Any]) -> tuple[str, str]:
        amqp, levels = self._app.amqp, self._app.conf.task_repr_maxlevels
        shown_args, shown_kwargs = options.get('argsrepr'), options.get('kwargsrepr')
        return (represent_args(args, amqp.argsrepr_maxsize, levels) if shown_args is None else shown_args,
                represent_kwargs(kwargs, amqp.kwargsrepr_maxsize, levels) if shown_kwargs is None else shown_kwargs)

    def _times(self, task_id: str, options: Mapping[str, Any]) -> Times:
        """Eta and expires as text, and the seconds the broker may keep the message."""
        app, expires = self._app, options.get('expires')
        return (eta_text(app, options.get('countdown'), options.get('eta')), expires_text(app, expires),
                None if expires is None else seconds_until(app, expires, task_id))


def has_quorum_queue(queues: Mapping[str, Any]) -> bool:
    """Whether any of the queues is a quorum queue, on which RabbitMQ cannot hold tasks back with prefetch."""
    return any((queue.queue_arguments or {}).get('x-queue-type') == 'quorum' for queue in queues.values())
