"""Reading a message as it came from the broker, into the `Context` of a run.

The common case, JSON of protocol 2, takes a short way: the message's own header table becomes the context.
Everything else goes through kombu's registry and `canvaslite.protocol`, which say what is wrong with it.
"""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

from kombu.compression import decompress
from kombu.exceptions import DecodeError
from kombu.serialization import loads, prepare_accept_content, registry
from kombu.utils import json as kombu_json

from canvaslite.context import Context
from canvaslite.protocol import decode as decode_protocol
from canvaslite.protocol.job import AMQP_PROPERTIES, Job
from canvaslite.transport.properties import decode_properties
from canvaslite.utils.undecoded import read_body

JSON = 'application/json'


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

    __slots__ = ('accept', 'hostname', 'short_way')

    def __init__(self, accept_content: Any, hostname: str | None) -> None:
        self.accept = prepare_accept_content(accept_content)
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
        return self.make_context(values, head, job)

    def decode_body(self, body: bytes, head: Head) -> Any:
        """The body as data."""
        if head.compression:
            try:
                body = decompress(body, head.compression)
            except Exception as exc:
                raise DecodeError(f'the body cannot be decompressed as {head.compression!r}: {exc!r}') from exc
        if head.content_type == JSON and self.short_way:
            try:
                return read_body(body.decode())
            except Exception as exc:
                raise DecodeError(str(exc)) from exc
        return loads(body, head.content_type, head.content_encoding, accept=self.accept)

    def make_context(self, values: dict[str, Any], head: Head, job: Job) -> Context:
        """A context of `values`, which becomes the context's own."""
        properties = head.properties
        context = Context.adopt(values)
        values['hostname'] = self.hostname
        values['called_directly'] = False
        values['properties'] = properties
        values['correlation_id'] = properties.get('correlation_id')
        values['reply_to'] = properties.get('reply_to')
        values['delivery_info'] = {'exchange': job.exchange, 'routing_key': job.routing_key,
                                   'priority': properties.get('priority'), 'redelivered': job.redelivered}
        return context

    def read_head_only(self, job: Job, head: Head) -> Context | None:
        """A context without arguments, for a message whose body cannot be read; None if it has no usable headers."""
        headers = head.headers
        if headers.get('id').__class__ is not str or headers.get('task').__class__ is not str:
            return None
        headers['args'], headers['kwargs'] = (), {}
        return self.make_context(headers, head, job)


def _is_plain_task(headers: dict[str, Any], payload: Any) -> bool:
    """Whether this is a well-formed message of protocol 2."""
    return (headers.get('task').__class__ is str and headers.get('id').__class__ is str
            and payload.__class__ in (list, tuple) and len(payload) == 3
            and payload[0].__class__ in (list, tuple) and payload[1].__class__ is dict
            and (payload[2] is None or payload[2].__class__ is dict))


def _read_any_protocol(head: Head, payload: Any) -> dict[str, Any]:
    """Protocol 1, or an `InvalidTaskError` that says what is wrong."""
    values = decode_protocol(head.headers, head.properties, payload)._asdict()
    custom = values.pop('headers') or {}
    return {**custom, **values, 'kwargs': dict(values['kwargs'])}
