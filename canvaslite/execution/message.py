"""Reading a message as it came from the broker, into the `Context` of a run.

The common case, JSON of protocol 2, takes a short way: the message's own header table becomes the context.
Everything else goes through kombu's registry and `canvaslite.protocol`, which say what is wrong with it.
"""

from __future__ import annotations

import pickle
from json import JSONDecodeError
from typing import Any, NamedTuple

from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.serialization import loads, prepare_accept_content, registry
from kombu.utils import json as kombu_json

from canvaslite import wire
from canvaslite.context import Context
from canvaslite.exceptions import InvalidTaskError, SecurityError
from canvaslite.protocol import decode as decode_protocol
from canvaslite.protocol.job import AMQP_PROPERTIES, Job
from canvaslite.protocol.v2 import is_name, mend
from canvaslite.transport.properties import decode_properties
from canvaslite.transport.signed import check_message
from canvaslite.utils.deepjson import TooDeep
from canvaslite.utils.inflate import Limits, decompress
from canvaslite.utils.undecoded import read_body
from canvaslite.wire import DELAYED_HEADER

JSON = 'application/json'
DEFAULT_LIMITS = Limits()


class Head(NamedTuple):
    """What a message says outside its body."""

    headers: dict[str, Any]
    properties: dict[str, Any]
    content_type: str | None
    content_encoding: str | None
    #: None where the body is not compressed (any more).
    compression: str | None = None


def read_head(job: Job) -> Head:
    """The headers and properties of a job. Raises for bytes that are none."""
    if job.form == AMQP_PROPERTIES:
        properties = decode_properties(job.head)
        headers = properties.pop('headers', None) or {}
        return Head(headers, properties, properties.get('content_type'), properties.get('content_encoding'),
                    headers.get('compression'))
    # Written by the worker's own parent, never by a stranger; kombu has decompressed the body already.
    head = pickle.loads(job.head)
    return Head(dict(head['headers'] or {}), dict(head['properties'] or {}), head['content_type'],
                head['content_encoding'])


class MessageReader:
    """Makes contexts of messages, for one app and one worker."""

    __slots__ = ('accept', 'hostname', 'limits', 'short_way', 'wants_signatures')

    def __init__(self, accept_content: Any, hostname: str | None, limits: Limits = DEFAULT_LIMITS) -> None:
        self.accept = prepare_accept_content(accept_content)
        self.limits = limits
        #: What is not signed is not even told to have failed: the id may be that of another's task.
        self.wants_signatures = bool(self.accept) and wire.AUTH_TYPE in self.accept
        self.hostname = hostname
        # A user may have registered another JSON, or refuse to accept any.
        own_json = registry._decoders.get(JSON) is kombu_json.loads
        self.short_way = own_json and (self.accept is None or JSON in self.accept)

    def read(self, job: Job, head: Head) -> Context:
        """The context of the run that `job` asks for.

        Raises kombu's ``ContentDisallowed`` or ``DecodeError`` for the body, and `InvalidTaskError` when what it
        says is no task.
        """
        payload = self.decode_body(job.body, head)
        values = head.headers
        if _is_plain_task(values, payload):
            args, kwargs, embed = payload
            values['args'] = args
            values['kwargs'] = kwargs
            if embed:
                values.update(embed)
        else:
            values = _read_any_protocol(head, payload)
        if (wrong := mend(values)) is not None:
            raise InvalidTaskError(wrong)
        return self.make_context(values, head, job)

    def decode_body(self, body: bytes, head: Head) -> Any:
        """The body as data."""
        if head.compression:
            body = decompress(body, head.compression, self.limits)
        if head.content_type == wire.AUTH_TYPE:
            check_message(head.headers, head.properties, body)
        try:
            if head.content_type == JSON and self.short_way:
                return read_body(body.decode())
            return loads(body, head.content_type, head.content_encoding, accept=self.accept)
        except ContentDisallowed:
            raise
        except Exception as exc:
            # Other errors may quote what they have read.
            cause = exc.__cause__ or exc
            if isinstance(cause, SecurityError):
                raise cause from None
            said = f': {cause}' if isinstance(cause, (UnicodeDecodeError, JSONDecodeError, TooDeep)) else ''
            raise DecodeError(f'the body cannot be read as {head.content_type}: {type(cause).__name__}{said}') from exc

    def make_context(self, values: dict[str, Any], head: Head, job: Job) -> Context:
        """A context of `values`, which becomes the context's own."""
        properties = head.properties
        context = Context.adopt(values)
        values['hostname'] = self.hostname
        values['called_directly'] = False
        values['properties'] = properties
        values['correlation_id'] = properties.get('correlation_id')
        values['reply_to'] = properties.get('reply_to')
        exchange, routing_key = job.exchange, job.routing_key
        if values.get(DELAYED_HEADER).__class__ is list and len(values[DELAYED_HEADER]) == 4:
            _, exchange, routing_key, _ = values[DELAYED_HEADER]  # where it was sent to, before it was delayed
        values['delivery_info'] = {'exchange': exchange, 'routing_key': routing_key,
                                   'priority': properties.get('priority'), 'redelivered': job.redelivered}
        return context

    def read_head_only(self, job: Job, head: Head) -> Context | None:
        """A context without arguments, for a message whose body cannot be read; None if it has no usable headers."""
        headers = head.headers
        if not is_name(headers.get('id')) or headers.get('task').__class__ is not str:
            return None
        mend(headers)
        headers['args'], headers['kwargs'] = (), {}
        return self.make_context(headers, head, job)


def describe(job: Job, head: Head | None) -> str:
    """A message that is refused, for the log: whence it comes, but nothing of what it says."""
    said = f'exchange: {job.exchange!r}, routing key: {job.routing_key!r}, {len(job.body)} bytes'
    if head is not None:
        known = {'type': head.content_type, 'encoding': head.content_encoding, 'compression': head.compression,
                 **{name: head.headers.get(name) for name in ('id', 'task', 'origin')}}
        said += ''.join(f', {name}: {value!r:.255}' for name, value in known.items() if value is not None)
    return f'[{said}]'


def _is_plain_task(headers: dict[str, Any], payload: Any) -> bool:
    """Whether this is a well-formed message of protocol 2."""
    return (headers.get('task').__class__ is str
            and payload.__class__ in (list, tuple) and len(payload) == 3
            and payload[0].__class__ in (list, tuple) and payload[1].__class__ is dict
            and (payload[2] is None or payload[2].__class__ is dict))


def _read_any_protocol(head: Head, payload: Any) -> dict[str, Any]:
    """Protocol 1, or an `InvalidTaskError` that says what is wrong."""
    values = decode_protocol(head.headers, head.properties, payload)._asdict()
    custom = values.pop('headers') or {}
    return {**custom, **values, 'kwargs': dict(values['kwargs'])}
