"""The short way to a message on RabbitMQ: what is usual is prepared once per task and set of options, as bytes.

`PreparedMessages.find` says no (None) to anything unusual; then the publisher goes the long way, to the very same
message, only that here the headers stand in the order of `wire.TASK_HEADERS`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from canvaslite import current, wire
from canvaslite.publish.messages import Destination, Outgoing, RawMessage, body_encoder
from canvaslite.publish.options import (
    check_arguments,
    eta_text,
    expires_text,
    listed,
    relate_to_parent,
    seconds_to_live,
)
from canvaslite.transport.properties import PropertyTemplate
from canvaslite.transport.table import encode_entry
from canvaslite.utils.functional import given
from canvaslite.utils.nodenames import anon_nodename
from canvaslite.utils.saferepr import represent_args, represent_kwargs

__all__ = ('PreparedMessages', 'has_quorum_queue')

#: Options that are filled in for each message.
_FILLED_IN = frozenset({
    'task_id', 'root_id', 'parent_id', 'countdown', 'eta', 'expires', 'link', 'link_error', 'chain', 'chord',
    'group_id', 'group_index', 'retries', 'shadow', 'origin', 'replaced_task_nesting', 'argsrepr', 'kwargsrepr',
    'reply_to', 'headers',
})
#: Options that are part of what is prepared; routers do not see the first ones, which concern the run.
_NOT_ROUTED = ('time_limit', 'soft_time_limit', 'ignore_result')
_STATIC = (*_NOT_ROUTED, 'queue', 'exchange', 'routing_key', 'exchange_type', 'priority', 'delivery_mode', 'serializer',
           'mandatory')
_STATIC_NAMES = frozenset(_STATIC)
_USUAL = _FILLED_IN | _STATIC_NAMES
#: Names that a caller's headers may have only on the long way.
_PROTOCOLS_OWN = frozenset(wire.TASK_HEADERS)
#: Prepared messages kept: options that vary without end must not fill the memory.
_KEPT = 2000

_pack_size = struct.Struct('>I').pack
#: Names of headers that are always text.
_ID, _ROOT, _ARGS, _KWARGS = b'\x02idS', b'\x07root_idS', b'\x08argsreprS', b'\x0akwargsreprS'
#: Headers that are seldom set, as they stand when they are not.
_NO_TIMES = encode_entry('eta', None) + encode_entry('expires', None)
_NO_GROUP = encode_entry('group', None) + encode_entry('group_index', None)
_NO_PARENT = encode_entry('parent_id', None)
_SELDOM = (('shadow', None), ('retries', 0), ('replaced_task_nesting', 0))
_SELDOM_UNSET = b''.join(encode_entry(header, unset) for header, unset in _SELDOM)


class PreparedMessages:
    """What is prepared of one app's messages."""

    __slots__ = ('_app', '_constant', '_prepared', '_quorum', '_seen')

    def __init__(self, app: Any) -> None:
        self._app = app
        #: Whether a delay may have to be kept by the broker, which only the long way knows to ask for.
        self._quorum = False
        #: Whether a route depends on a task's name and options alone.
        self._constant = False
        self.reset()

    def reset(self) -> None:
        """Forget what was prepared, and look at routes, queues and this process's name again."""
        self._prepared: dict[Any, Prepared] = {}
        #: Routes, queues and settings that it was prepared from.
        self._seen: tuple[Any, ...] = ()

    def find(self, name: str, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any) -> Prepared | None:
        """What is prepared for such a message; None when it must go the long way."""
        if not _USUAL.issuperset(options) and not _USUAL.issuperset(given(options)):
            return None
        conf, amqp = self._app.conf, self._app.amqp
        queues = amqp.queues
        seen = (amqp.router, queues, queues.version, conf.task_serializer)
        if seen != self._seen:
            self._start_anew(seen)
        if self._quorum and (options.get('countdown') or options.get('eta')):
            return None
        headers = options.get('headers')
        if headers and not (self._constant and _PROTOCOLS_OWN.isdisjoint(headers)):
            return None
        routed = None if self._constant else self._route(name, args, kwargs, options, task)
        get = (options if routed is None else routed).get
        key = (name, get('queue'), get('exchange'), get('routing_key'), get('exchange_type'), get('priority'),
               get('delivery_mode'), get('serializer'), get('time_limit'), get('soft_time_limit'), get('ignore_result'),
               get('mandatory'))  # all of _STATIC, in half the time of a loop
        try:
            prepared = self._prepared.get(key)
        except TypeError:  # an option that has no hash
            return None
        if prepared is None or not prepared.encoder.current:
            return self._prepare(key, name, routed or self._route(name, args, kwargs, options, task))
        return prepared if routed is None or _STATIC_NAMES.issuperset(routed) else None

    def _start_anew(self, seen: tuple[Any, ...]) -> None:
        """Routes, queues or settings are not those that were seen before."""
        # Other threads publish meanwhile: each attribute has a usable value at any time, and what makes it known
        # is set last.
        router, queues = seen[:2]
        self._quorum = has_quorum_queue(queues)
        self._constant = getattr(router, 'constant', False)
        self._prepared = {}
        self._seen = seen

    def _route(self, name: str, args: Any, kwargs: Any, options: Mapping[str, Any], task: Any) -> dict[str, Any]:
        """The static options of the call, completed by its route."""
        static = {option: options[option] for option in _STATIC if options.get(option) is not None}
        own = {option: static.pop(option) for option in _NOT_ROUTED if option in static}
        return {**given(self._app.amqp.router.route(static, name, args, kwargs, task)), **own}

    def _prepare(self, key: Any, name: str, routed: dict[str, Any]) -> Prepared | None:
        amqp, kept = self._app.amqp, self._prepared
        if self._app.conf.task_protocol != 2 or not _STATIC_NAMES.issuperset(routed):
            return None
        concerning_run = {option: routed.pop(option, None) for option in _NOT_ROUTED}
        outgoing = amqp.prepare_message(name, amqp.create_task_message('', name), **routed)
        if outgoing.compression or outgoing.serializer == wire.AUTH:
            return None
        if len(kept) >= _KEPT:
            kept = self._prepared = {}
        prepared = kept[key] = Prepared(self._app, outgoing, **concerning_run)
        return prepared


class Prepared:
    """All that messages of one task with the same static options have in common."""

    __slots__ = ('_app', '_args_limits', '_destination', '_kwargs_limits', '_limits', '_of_canvas', '_origin',
                 '_priority', '_properties', '_tail', '_task', 'encoder')

    def __init__(self, app: Any, outgoing: Outgoing, time_limit: float | None, soft_time_limit: float | None,
                 ignore_result: bool | None) -> None:
        self._app = app
        self._destination = Destination(outgoing, lasting=True)
        self._of_canvas = (self._destination if self._destination.expected
                           else Destination(outgoing, lasting=True, of_canvas=True))
        self.encoder = body_encoder(outgoing.serializer)
        #: None: the parent's may be used; else 0 is said.
        self._priority: int | None = outgoing.properties.get('priority')
        self._task = encode_entry('task', outgoing.name)
        self._limits = encode_entry('timelimit', [time_limit, soft_time_limit]) + encode_entry('lang', wire.LANG)
        self._origin = encode_entry('origin', anon_nodename())
        self._tail = (encode_entry('ignore_result', ignore_result) + encode_entry('stamped_headers', None)
                      + encode_entry('stamps', {}))
        self._properties = (self.encoder.content_type, self.encoder.content_encoding, outgoing.delivery_mode)
        self._args_limits = (app.amqp.argsrepr_maxsize, app.conf.task_repr_maxlevels)
        self._kwargs_limits = (app.amqp.kwargsrepr_maxsize, app.conf.task_repr_maxlevels)

    def message(self, task_id: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> RawMessage:
        """The message of one call. Raises TypeError for arguments that are none, and `EncodeError`."""
        app = self._app
        if args.__class__ is not tuple or kwargs.__class__ is not dict:
            args, kwargs = check_arguments(args, kwargs)
        get = options.get
        root_id, parent_id, priority = get('root_id'), get('parent_id'), self._priority
        if current.task_stack.stack:
            root_id, parent_id, inherited = relate_to_parent(app, root_id, parent_id)
            priority = inherited if priority is None else priority
        times, expiration = _NO_TIMES, None
        if get('countdown') or get('eta') or get('expires') is not None:
            times, expiration = self._encode_times(task_id, options)
        group_id, group_index, origin = get('group_id'), get('group_index'), get('origin')
        shown_args, shown_kwargs = get('argsrepr'), get('kwargsrepr')
        if shown_args is None:
            shown_args = represent_args(args, *self._args_limits)
        if shown_kwargs is None:
            shown_kwargs = represent_kwargs(kwargs, *self._kwargs_limits)
        raw_id = _text(task_id)
        entries = b''.join((
            _ID, raw_id, self._task, times, self._limits,
            _NO_GROUP if group_id is None and group_index is None
            else _encode_group(group_id) + encode_entry('group_index', group_index),
            _encode_seldom(options) if get('retries') or get('shadow') or get('replaced_task_nesting')
            else _SELDOM_UNSET,
            _ROOT, _text(root_id) if root_id else raw_id,
            _NO_PARENT if parent_id is None else encode_entry('parent_id', parent_id),
            _ARGS, _text(shown_args), _KWARGS, _text(shown_kwargs),
            encode_entry('origin', origin) if origin else self._origin, self._tail,
            b''.join([encode_entry(*header) for header in options['headers'].items()]) if get('headers') else b''))
        template = _template(self._properties, get('reply_to') or app.thread_oid, priority or 0, expiration)
        properties = template.fill(_pack_size(len(entries)) + entries, raw_id[4:])
        embed = _embed(options)
        return RawMessage(self._destination if embed is None and group_id is None else self._of_canvas, properties,
                          self.encoder.encode(args, kwargs, embed))

    def _encode_times(self, task_id: str, options: Mapping[str, Any]) -> tuple[bytes, float | None]:
        """The headers eta and expires, and the seconds the broker may keep the message."""
        app = self._app
        eta = encode_entry('eta', eta_text(app, options.get('countdown'), options.get('eta')))
        return (eta + encode_entry('expires', expires_text(app, options.get('expires'))),
                seconds_to_live(app, options, task_id))


@lru_cache(maxsize=256)
def _template(fixed: tuple[str, str, int], reply_to: str, priority: int, expiration: float | None) -> PropertyTemplate:
    """One for each kind of message, priority and reply queue (one per thread)."""
    content_type, content_encoding, delivery_mode = fixed
    return PropertyTemplate(
        content_type=content_type, content_encoding=content_encoding, delivery_mode=delivery_mode, reply_to=reply_to,
        priority=priority, expiration=None if expiration is None else str(int(expiration * 1000)))


@lru_cache(maxsize=16)
def _encode_group(group_id: Any) -> bytes:
    """The members of a group follow each other."""
    return encode_entry('group', group_id)


def _encode_seldom(options: Mapping[str, Any]) -> bytes:
    return b''.join([encode_entry(header, unset if options.get(header) is None else options[header])
                     for header, unset in _SELDOM])


def _text(text: str) -> bytes:
    raw = text.encode('utf-8', 'surrogatepass')
    return _pack_size(len(raw)) + raw


def _embed(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is to run after the task; None when nothing is."""
    get = options.get
    link, link_error, chain, chord = get('link'), get('link_error'), get('chain'), get('chord')
    if link is None and link_error is None and chain is None and chord is None:
        return None
    return {'callbacks': listed(link), 'errbacks': listed(link_error), 'chain': chain, 'chord': chord}


def has_quorum_queue(queues: Mapping[str, Any]) -> bool:
    """Whether any of the queues is a quorum queue, on which RabbitMQ cannot hold tasks back with prefetch."""
    return any((queue.queue_arguments or {}).get('x-queue-type') == 'quorum' for queue in queues.values())
