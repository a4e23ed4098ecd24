"""redis-py, if it is installed: the one place that imports it."""

from __future__ import annotations

from typing import Any

from canvaslite.exceptions import ImproperlyConfigured

try:
    import redis
    import redis.sentinel
except ImportError:
    redis = None  # type: ignore[assignment]

__all__ = ('connection_error_classes', 'redis', 'require_redis')


def require_redis() -> Any:
    """The redis module. Raises `ImproperlyConfigured` if it is not installed."""
    if redis is None:
        raise ImproperlyConfigured("result_backend: Redis needs the redis package: pip install 'canvaslite[redis]'")
    return redis


def connection_error_classes() -> tuple[type[Exception], ...]:
    """Errors after which the same command may succeed on a new connection."""
    errors = require_redis().exceptions
    return (errors.ConnectionError, errors.TimeoutError, errors.BusyLoadingError, errors.ReadOnlyError, OSError)
