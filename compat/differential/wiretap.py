"""The messages of a virtual host, as the broker got them: RabbitMQ's tracing copies each that is published."""

from __future__ import annotations

import base64
import json
import pickle
from typing import Any
from urllib.parse import unquote, urlsplit

import amqp

from compat.differential.spy import plain

TRACE = 'amq.rabbitmq.trace'


class Wiretap:
    """Reads what is published to the virtual host of `url`, for which tracing is on."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.connection = amqp.Connection(
            f'{parts.hostname}:{parts.port}', userid=parts.username, password=parts.password,
            virtual_host=unquote(parts.path[1:]))
        self.connection.connect()
        self.channel = self.connection.channel()
        self.queue = self.channel.queue_declare('', exclusive=True).queue
        self.channel.queue_bind(self.queue, TRACE, 'publish.#')

    def read(self) -> list[dict[str, Any]]:
        """The task messages published since the last time."""
        messages = []
        while (copy := self.channel.basic_get(self.queue, no_ack=True)) is not None:
            message = read_copy(copy)
            if message['headers'].get('task'):
                messages.append(message)
        return messages

    def close(self) -> None:
        """Stop reading."""
        self.connection.close()


def read_copy(copy: Any) -> dict[str, Any]:
    """What the broker was told, of the copy that tracing makes."""
    told = copy.headers
    properties = dict(told['properties'])
    headers = properties.pop('headers', None) or {}
    return {'exchange': told['exchange_name'], 'routing_keys': told['routing_keys'], 'headers': plain(headers),
            'properties': plain(properties), 'body': read_body(copy.body, properties, headers)}


def read_body(body: Any, properties: dict[str, Any], headers: dict[str, Any]) -> Any:
    """The body as data, where the reader knows its form."""
    if headers.get('compression'):
        return {'compressed': headers['compression']}
    content_type = properties.get('content_type')
    if content_type == 'application/json':
        return json.loads(body)
    if content_type == 'application/x-python-serialize':
        raw = body if isinstance(body, bytes) else body.encode('utf-8', 'surrogateescape')
        return plain(pickle.loads(raw))  # both packages can be imported, and each wrote it itself
    return {content_type: base64.b64encode(body if isinstance(body, bytes) else body.encode()).decode()}
