"""The short way to a message on RabbitMQ: what is usual is prepared once per task and set of options.

`Shortcut.find` says no (None) to anything unusual; then the publisher goes the long way, to the very same message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from canvaslite import current, wire
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
_STATIC_NAMES = frozenset(_STATIC)
_USUAL = FILLED_IN | _STATIC_NAMES
#: Static options that routers do not see: they concern the run.
_NOT_ROUTED = ('time_limit', 'soft_time_limit', 'ignore_result')
#: Names that a caller's headers may have only on the long way.
_PROTOCOLS_OWN = frozenset(wire.TASK_HEADERS)
#: Prepared messages kept: options that vary without end must not fill the memory.
_KEPT = 2000

#: Eta, expires, and the seconds after which the broker may drop the message.
Times = tuple[str | None, str | None, float | None]
_NO_TIMES: Times = (None, None, None)


class Shortcut:
    """The prepared messages of one app, and how one is filled in."""

    __slots__ = ('_app', '_constant', '_origin', '_prepared', '_quorum', '_seen')

    def __init__(self, app: Any) -> None:
        self._app = app
        #: Whether a delay may have to be kept by the broker, which only the long way knows to ask for.
        self._quorum = False
        #: Whether a route depends on a task's name and options alone.
        self._constant = False
        self.reset()

    def reset(self) -> None:
        """Forget what was prepared, and look at routes, queues and this process's name again."""
        self._origin = encode_entry('origin', anon_nodename())
        self._prepared: dict[Any, Prepared] = {}
        #: Routes, queues and settings that it was prepared from.
        self._seen: tuple[Any, ...] = ()

    def find(self, name: str, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any) -> Prepared | None:
        """What is prepared for such a message; None when it must go the long way."""
        if not _USUAL.issuperset(options) and not _USUAL.issuperset(given(options)):
            return None
        conf, amqp = self._app.conf, self._app.amqp
        queues = amqp.queues
        if (amqp.router, queues, queues.version, conf.task_serializer) != self._seen:
            self._start_anew()
        if self._quorum and (options.get('countdown') or options.get('eta')):
            return None
        headers = options.get('headers')
        if headers and not (self._constant and _PROTOCOLS_OWN.isdisjoint(headers)):
            return None
        if not self._constant:
            return self._find_routed(name, self._route(name, args, kwargs, options, task))
        get = options.get
        key = (name, get('queue'), get('exchange'), get('routing_key'), get('exchange_type'), get('priority'),
               get('delivery_mode'), get('serializer'), get('time_limit'), get('soft_time_limit'), get('ignore_result'),
               get('mandatory'))
        try:
            prepared = self._prepared.get(key)
        except TypeError:  # an option that has no hash
            return None
        if prepared is None or not prepared.encoder.current:
            return self._prepare(key, name, self._route(name, args, kwargs, options, task))
        return prepared

    def _find_routed(self, name: str, routed: dict[str, Any]) -> Prepared | None:
        """The same where each call is asked for its route: by what the routers said."""
        key = (name, *map(routed.get, _STATIC))
        try:
            prepared = self._prepared.get(key)
        except TypeError:  # an option that has no hash
            return None
        if prepared is None or not prepared.encoder.current:
            return self._prepare(key, name, routed)
        return None if routed.keys() - _STATIC_NAMES else prepared

    def _start_anew(self) -> None:
        """Routes, queues or settings are not those that were seen before."""
        # Other threads publish meanwhile: each attribute has a usable value at any time, and what makes it known
        # is set last.
        conf, amqp = self._app.conf, self._app.amqp
        seen = (amqp.router, amqp.queues, amqp.queues.version, conf.task_serializer)
        self._quorum = has_quorum_queue(amqp.queues)
        self._constant = getattr(amqp.router, 'constant', False)
        self._prepared = {}
        self._seen = seen

    def _route(self, name: str, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any) -> dict[str, Any]:
        """The static options of the call, completed by its route."""
        static = {option: options[option] for option in _STATIC if options.get(option) is not None}
        own = {option: static.pop(option) for option in _NOT_ROUTED if option in static}
        return {**given(self._app.amqp.router.route(static, name, args, kwargs, task)), **own}

    def _prepare(self, key: Any, name: str, routed: dict[str, Any]) -> Prepared | None:
        amqp, kept = self._app.amqp, self._prepared
        if self._app.conf.task_protocol != 2 or routed.keys() - _STATIC_NAMES:
            return None
        time_limit, soft_time_limit, ignore_result = [routed.pop(option, None) for option in _NOT_ROUTED]
        outgoing = amqp.prepare_message(name, amqp.create_task_message('', name), **routed)
        if outgoing.compression:
            return None
        if len(kept) >= _KEPT:
            kept = self._prepared = {}
        policy = RetryPolicy(outgoing.retry, outgoing.retry_policy)
        prepared = Prepared(outgoing, time_limit, soft_time_limit, ignore_result, policy)
        kept[key] = prepared
        return prepared

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
