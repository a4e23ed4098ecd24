"""`Prepared`: all that messages of one task with the same options have in common, as ready-made bytes.

What differs between two of them is filled in: ids, arguments, and the few headers that are seldom set. The message
is the very one that `outgoing.Outgoing.encode` makes, only its headers stand in the order of `wire.TASK_HEADERS`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from canvaslite import wire
from canvaslite.publish.bodies import body_encoder
from canvaslite.publish.destination import Destination
from canvaslite.publish.options import listed
from canvaslite.publish.outgoing import Outgoing
from canvaslite.publish.sending import RawMessage
from canvaslite.transport.properties import PropertyTemplate, encode_properties
from canvaslite.transport.table import encode_entry

__all__ = ('FILLED_IN', 'Prepared')

#: Options that are filled in for each message. All others are part of what is prepared.
FILLED_IN = frozenset({
    'task_id', 'root_id', 'parent_id', 'countdown', 'eta', 'expires', 'link', 'link_error', 'chain', 'chord',
    'group_id', 'group_index', 'retries', 'shadow', 'origin', 'replaced_task_nesting', 'argsrepr', 'kwargsrepr',
    'reply_to', 'headers',
})
#: Of these, the ones that are seldom set, with the header they become and its value when not set.
_SELDOM = (('shadow', 'shadow', None), ('retries', 'retries', 0), ('replaced_task_nesting', 'replaced_task_nesting', 0))
_SELDOM_UNSET = b''.join(encode_entry(header, unset) for _, header, unset in _SELDOM)
_NO_GROUP = encode_entry('group', None) + encode_entry('group_index', None)

_pack_size = struct.Struct('>I').pack
#: Lengths as they stand before a string, for the usual ones.
_SIZES = tuple(map(_pack_size, range(2048)))

_ID, _ROOT, _PARENT = b'\x02idS', b'\x07root_idS', b'\x09parent_idS'
_NO_PARENT = encode_entry('parent_id', None)
_NO_TIMES = encode_entry('eta', None) + encode_entry('expires', None)
_ARGS, _KWARGS = b'\x08argsreprS', b'\x0akwargsreprS'
#: Templates kept per `Prepared`: one for each priority and reply queue (one per thread).
_TEMPLATES_KEPT = 64


class Prepared:
    """The common part of one task's messages with the same static options."""

    __slots__ = ('_group', '_limits', '_properties', '_tail', '_task', '_templates', 'destination', 'encoder',
                 'policy', 'priority')

    def __init__(self, outgoing: Outgoing, time_limit: float | None, soft_time_limit: float | None,
                 ignore_result: bool | None, policy: Any) -> None:
        target = outgoing.target
        self.destination = Destination(target.exchange_name, target.routing_key, target.declare,
                                       bool(outgoing.properties.get('mandatory')), lasting=True)
        self.encoder = body_encoder(outgoing.serializer)
        self.policy = policy
        #: None: the caller's or the parent's may be used; else 0 is said.
        self.priority: int | None = outgoing.properties.get('priority')
        self._task = encode_entry('task', outgoing.name)
        self._limits = encode_entry('timelimit', [time_limit, soft_time_limit]) + encode_entry('lang', wire.LANG)
        self._tail = (encode_entry('ignore_result', ignore_result) + encode_entry('stamped_headers', None)
                      + encode_entry('stamps', {}))
        self._properties: dict[str, Any] = {
            'content_type': self.encoder.content_type, 'content_encoding': self.encoder.content_encoding,
            'delivery_mode': target.delivery_mode,
        }
        #: The last group's id and header: its members follow each other.
        self._group: tuple[Any, bytes] = (None, encode_entry('group', None))
        self._templates: dict[tuple[str, int], PropertyTemplate] = {}

    def message(self, task_id: str, args: Any, kwargs: Any, options: Mapping[str, Any], family: tuple[str, str | None],
                times: tuple[str | None, str | None, float | None], reprs: tuple[str, str], origin: bytes,
                reply_to: str, priority: int) -> RawMessage:
        """The message for one call.

        `family` is root and parent id; `times` eta, expires and expiration (seconds); `origin` the header's entry.
        Raises `EncodeError` for arguments that the serializer does not take.
        """
        raw_id = task_id.encode()
        root_id, parent_id = family
        root = raw_id if root_id == task_id else root_id.encode()
        shown_args, shown_kwargs = reprs[0].encode('utf-8', 'surrogatepass'), reprs[1].encode('utf-8', 'surrogatepass')
        get = options.get
        group_id = get('group_id')
        entries = b''.join((
            _ID, _size(raw_id), raw_id, self._task, _NO_TIMES if times[0] is times[1] is None else _encode_times(times),
            self._limits,
            _NO_GROUP if group_id is None and get('group_index') is None else self._encode_group(group_id, options),
            _encode_seldom(options) if get('retries') or get('shadow') or get('replaced_task_nesting')
            else _SELDOM_UNSET, _ROOT, _size(root), root,
            _NO_PARENT if parent_id is None else _encode_parent(parent_id),
            _ARGS, _size(shown_args), shown_args, _KWARGS, _size(shown_kwargs), shown_kwargs, origin, self._tail,
            _encode_headers(options['headers']) if get('headers') else b''))
        table = _pack_size(len(entries)) + entries
        if times[2] is None:
            template = self._templates.get((reply_to, priority)) or self._make_template(reply_to, priority)
            properties = template.fill(table, raw_id)
        else:
            properties = encode_properties(table, correlation_id=task_id, reply_to=reply_to, priority=priority,
                                           expiration=str(int(times[2] * 1000)), **self._properties)
        return RawMessage(self.destination, properties, self.encoder.encode(args, kwargs, embed_of(options)))

    def _encode_group(self, group_id: Any, options: Mapping[str, Any]) -> bytes:
        known = self._group  # read once: another thread may set it meanwhile
        if known[0] != group_id:
            known = self._group = (group_id, encode_entry('group', group_id))
        return known[1] + encode_entry('group_index', options.get('group_index'))

    def _make_template(self, reply_to: str, priority: int) -> PropertyTemplate:
        if len(self._templates) >= _TEMPLATES_KEPT:
            self._templates.clear()
        template = PropertyTemplate(reply_to=reply_to, priority=priority, **self._properties)
        self._templates[reply_to, priority] = template
        return template


def embed_of(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is to run after the task; None when nothing is."""
    get = options.get
    link, link_error, chain, chord = get('link'), get('link_error'), get('chain'), get('chord')
    if link is None and link_error is None and chain is None and chord is None:
        return None
    return {'callbacks': listed(link), 'errbacks': listed(link_error), 'chain': chain, 'chord': chord}


def _size(raw: bytes) -> bytes:
    length = len(raw)
    return _SIZES[length] if length < 2048 else _pack_size(length)


def _encode_parent(parent_id: str) -> bytes:
    raw = parent_id.encode()
    return _PARENT + _size(raw) + raw


def _encode_times(times: tuple[str | None, str | None, float | None]) -> bytes:
    return encode_entry('eta', times[0]) + encode_entry('expires', times[1])


def _encode_headers(headers: Mapping[str, Any]) -> bytes:
    return b''.join([encode_entry(name, value) for name, value in headers.items()])


def _encode_seldom(options: Mapping[str, Any]) -> bytes:
    get = options.get
    return b''.join([encode_entry(header, unset if get(option) is None else get(option))
                     for option, header, unset in _SELDOM])
