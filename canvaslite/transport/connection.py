"""`BrokerConnection`: kombu's connection, which chooses our transport for RabbitMQ."""

from __future__ import annotations

from typing import Any

from kombu.connection import Connection
from kombu.utils.imports import symbol_by_name

#: Our transport for each of kombu's. By name: py-amqp is loaded when it is first used.
_FAST = {f'kombu.transport.pyamqp.{name}': f'canvaslite.transport.amqp:{name}'
         for name in ('Transport', 'SSLTransport')}


class BrokerConnection(Connection):  # type: ignore[misc]
    """A `kombu.Connection` that uses our transport for AMQP URLs, also for failover URLs, clones and pickled
    connections."""

    def get_transport_cls(self) -> Any:
        """The transport class for the current URL."""
        kombus = super().get_transport_cls()
        ours = _FAST.get(f'{kombus.__module__}.{kombus.__qualname__}')
        return kombus if ours is None else symbol_by_name(ours)


def close_inherited(connection: Any) -> None:
    """In a forked child: let go of the parent's `connection` without a word to the broker.

    Takes a `kombu.Connection` of any transport, or a py-amqp connection. The child's copy of the socket is closed
    (which the parent does not notice); the object is left as one that is not connected and connects when it is used.
    """
    if isinstance(connection, Connection):
        inner, connection._connection = connection._connection, None
        connection._default_channel = None
        connection.declared_entities.clear()
        connection._transport = None
    else:
        inner = connection
    socket_transport: Any = getattr(inner, '_transport', None)
    sock = getattr(socket_transport, 'sock', None)
    if sock is not None and inner is not None:
        socket_transport.connected = False
        socket_transport.sock = None
        sock.close()  # no shutdown: that would end the parent's connection, too
        inner.collect()  # forgets the channels; with no socket left it has nothing to say to the broker
