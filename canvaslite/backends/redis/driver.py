"""redis-py, if it is installed: the one place that imports it."""

from __future__ import annotations

from typing import Any

from canvaslite.exceptions import ImproperlyConfigured

try:
    import redis
    import redis.sentinel
except ImportError:
    redis = None  # type: ignore[assignment]

__all__ = ('connection_error_classes', 'error_of', 'redis', 'require_redis')


def require_redis() -> Any:
    """The redis module. Raises `ImproperlyConfigured` if it is not installed."""
    if redis is None:
        raise ImproperlyConfigured("result_backend: Redis needs the redis package: pip install 'canvaslite[redis]'")
    return redis


def connection_error_classes() -> tuple[type[Exception], ...]:
    """Errors after which the same command may succeed on a new connection."""
    errors = require_redis().exceptions
    return (errors.ConnectionError, errors.TimeoutError, errors.BusyLoadingError, errors.ReadOnlyError, OSError)


def error_of(reply: str) -> Exception:
    """The exception for an error that the server replied with."""
    errors = require_redis().exceptions
    kinds = {'NOSCRIPT': errors.NoScriptError, 'LOADING': errors.BusyLoadingError, 'READONLY': errors.ReadOnlyError,
             'NOAUTH': errors.AuthenticationError, 'NOPERM': errors.NoPermissionError}
    kind = kinds.get(reply.partition(' ')[0], errors.ResponseError)
    return kind(reply)  # type: ignore[no-any-return]
