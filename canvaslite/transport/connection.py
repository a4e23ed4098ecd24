"""`BrokerConnection`: kombu's connection, which chooses our transports for RabbitMQ and folders."""

from __future__ import annotations

from ssl import CERT_NONE, CERT_REQUIRED
from typing import Any

from kombu.connection import Connection
from kombu.utils.imports import symbol_by_name

from canvaslite.utils.redact import redact

#: Our transport for each of kombu's. By name: py-amqp is loaded when it is first used.
_OURS = {'kombu.transport.pyamqp.Transport': 'canvaslite.transport.amqp:Transport',
         'kombu.transport.pyamqp.SSLTransport': 'canvaslite.transport.amqp:SSLTransport',
         'kombu.transport.filesystem.Transport': 'canvaslite.transport.folder:Transport'}


class BrokerConnection(Connection):  # type: ignore[misc]
    """A `kombu.Connection` that uses our transports for AMQP URLs and folders, also for failover URLs, clones and
    pickled connections."""

    def _init_params(self, **params: Any) -> None:
        if params.get('transport') in ('redis', 'rediss'):
            params['ssl'] = check_redis_tls(params.get('ssl') or params['transport'] == 'rediss')
        super()._init_params(**params)

    def as_uri(self, include_password: bool = False, **options: Any) -> str:
        """The current URL, without secrets unless `include_password`."""
        uri: str = super().as_uri(include_password=include_password, **options)
        return uri if include_password else redact(uri)

    def get_transport_cls(self) -> Any:
        """The transport class for the current URL."""
        kombus = super().get_transport_cls()
        ours = _OURS.get(f'{kombus.__module__}.{kombus.__qualname__}')
        return kombus if ours is None else symbol_by_name(ours)


def check_redis_tls(options: Any) -> Any:
    """redis-py's options for TLS, or False: the certificate and its host name are checked unless they say otherwise."""
    if options is True:
        options = {}
    elif not isinstance(options, dict):
        return options
    required = options.get('ssl_cert_reqs', CERT_REQUIRED)
    checks = required not in (CERT_NONE, 'none', 'CERT_NONE')
    return {'ssl_check_hostname': checks, 'ssl_cert_reqs': required, **options}


def check_amqp_tls(options: Any, host: str) -> Any:
    """The same for py-amqp, which checks no name unless it gets one; ``check_hostname: False`` has it go on so."""
    if options is True:
        options = {}
    elif not isinstance(options, dict) or 'context' in options:
        return options
    checks = options.get('check_hostname', options.get('cert_reqs') != CERT_NONE)
    options = {name: value for name, value in options.items() if name != 'check_hostname'}
    if checks and options.get('server_hostname') is None:
        options['server_hostname'] = host
    return options or True


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
