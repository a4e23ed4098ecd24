"""Where the Redis server is and how to connect: from the settings and the URL to redis-py's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from ssl import CERT_NONE, CERT_REQUIRED, VerifyMode
from typing import Any
from urllib.parse import unquote

from kombu.utils.imports import symbol_by_name
from kombu.utils.url import url_to_parts

from canvaslite.backends.redis.link import logger, redis
from canvaslite.exceptions import ImproperlyConfigured

SENTINEL_SEPARATOR = ';'
_SSL_PARAMETERS = ('ssl_ca_certs', 'ssl_certfile', 'ssl_keyfile', 'ssl_cert_reqs')
#: A requirement by itself, its name (``CERT_NONE``) and redis-py's word for it (``none``).
_CERT_REQS: Mapping[Any, VerifyMode] = {
    spelling: mode for mode in VerifyMode for spelling in (mode, mode.name, mode.name.removeprefix('CERT_').lower())}


def parameters_from_settings(conf: Any, max_connections: int | None, ssl_class: Any) -> dict[str, Any]:
    """The parameters that the ``redis_*`` settings name."""
    parameters: dict[str, Any] = {
        'host': conf.get('redis_host') or 'localhost', 'port': conf.get('redis_port') or 6379,
        'db': conf.get('redis_db') or 0, 'password': conf.get('redis_password'),
        'max_connections': max_connections or conf.get('redis_max_connections'),
        'socket_timeout': float(conf.get('redis_socket_timeout') or 0) or None,
        'socket_connect_timeout': float(conf.get('redis_socket_connect_timeout') or 0) or None,
        'retry_on_timeout': conf.get('redis_retry_on_timeout') or False, 'client_name': conf.get('redis_client_name'),
    }
    optional = {'username': 'redis_username', 'health_check_interval': 'redis_backend_health_check_interval',
                'socket_keepalive': 'redis_socket_keepalive'}
    parameters.update((name, conf.get(setting)) for name, setting in optional.items() if conf.get(setting))
    if conf.get('redis_backend_credential_provider'):
        _set_credential_provider(parameters, conf.get('redis_backend_credential_provider'))
    if conf.get('redis_backend_use_ssl'):
        given = conf.get('redis_backend_use_ssl')
        parameters.update({'ssl_cert_reqs': CERT_REQUIRED} if given is True else given, connection_class=ssl_class)
    return parameters


def parameters_from_url(url: str, defaults: Mapping[str, Any], ssl_class: Any) -> dict[str, Any]:
    """`defaults` with what `url` says. Raises `ImproperlyConfigured` for a URL that makes no sense."""
    try:
        parts = url_to_parts(url)
    except ValueError as exc:
        raise ImproperlyConfigured(f'result_backend: the Redis URL cannot be understood: {exc}') from None
    query = dict(parts.query)
    parameters = dict(defaults)
    named = {'host': parts.hostname, 'port': parts.port, 'username': parts.username, 'password': parts.password,
             'db': query.pop('virtual_host', None)}
    parameters.update((name, value) for name, value in named.items() if value is not None)
    if parts.scheme == 'socket':
        parameters.update(connection_class=redis.UnixDomainSocketConnection, path='/' + (parts.path or ''))
        for name in ('host', 'port', 'socket_connect_timeout', 'socket_keepalive'):
            parameters.pop(name, None)
    else:
        parameters['db'] = parts.path
    if parts.scheme == 'rediss':
        parameters['connection_class'] = ssl_class
        parameters.update((name, unquote(query.pop(name))) for name in _SSL_PARAMETERS if query.get(name))
    elif parts.scheme == 'redis' and any(name in query for name in _SSL_PARAMETERS):
        raise ImproperlyConfigured('result_backend: ssl_* options need the scheme rediss://, not redis://')
    if query.get('credential_provider'):
        _set_credential_provider(parameters, query.pop('credential_provider'))
    parameters['db'] = _database_number(parameters.get('db'))
    parameters.update(_typed(query))
    return parameters


def sentinel_parameters(url: str, defaults: Mapping[str, Any], ssl_class: Any) -> dict[str, Any]:
    """As `parameters_from_url` for ``sentinel://host:port/db;sentinel://…``: the sentinels are in ``hosts``."""
    hosts = [parameters_from_url(chunk, defaults, ssl_class) for chunk in url.split(SENTINEL_SEPARATOR) if chunk]
    parameters = {**defaults, 'hosts': hosts}
    for name in ('host', 'port', 'db', 'password'):
        parameters.pop(name, None)
    first = hosts[0] if hosts else {}
    return {**parameters, **{name: first[name] for name in ('db', 'password', 'username') if name in first}}


def check_certificate_requirement(parameters: dict[str, Any]) -> None:
    """Make ``ssl_cert_reqs`` a constant. Raises `ImproperlyConfigured` for TLS without it."""
    connection_class = parameters.get('connection_class')
    if connection_class is None or not issubclass(connection_class, redis.SSLConnection):
        return
    try:
        required = _CERT_REQS[parameters.get('ssl_cert_reqs')]
    except (KeyError, TypeError):
        raise ImproperlyConfigured('result_backend: a rediss:// URL needs ssl_cert_reqs='
                                   'CERT_REQUIRED, CERT_OPTIONAL or CERT_NONE') from None
    if required is not CERT_REQUIRED:
        logger.warning('ssl_cert_reqs=%s: the Redis server may be somebody else, and in the middle', required.name)
    parameters['ssl_cert_reqs'] = required
    parameters.setdefault('ssl_check_hostname', required is not CERT_NONE)


def _database_number(db: Any) -> int:
    try:
        return int(db.strip('/') or 0) if isinstance(db, str) else int(db or 0)
    except ValueError:
        raise ImproperlyConfigured(f'result_backend: {db!r} is not the number of a Redis database') from None


def _typed(query: Mapping[str, str]) -> dict[str, Any]:
    parsers = redis.connection.URL_QUERY_ARGUMENT_PARSERS
    try:
        return {name: parsers[name](value) if name in parsers else value for name, value in query.items()}
    except ValueError as exc:
        raise ImproperlyConfigured(f'result_backend: an option of the Redis URL is wrong: {exc}') from None


def _set_credential_provider(parameters: dict[str, Any], provider: Any) -> None:
    if isinstance(provider, str):
        provider = symbol_by_name(provider)()
    if not isinstance(provider, redis.CredentialProvider):
        raise ImproperlyConfigured(f'redis_backend_credential_provider: {provider!r} is no redis.CredentialProvider')
    parameters['credential_provider'] = provider
    parameters.pop('username', None)
    parameters.pop('password', None)
