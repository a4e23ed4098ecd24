"""Results in Redis, on Celery's keys: told to who waits as they are stored, and joined by scripts on the server."""

from __future__ import annotations

from canvaslite.backends.redis.backend import RedisBackend, SentinelBackend
from canvaslite.backends.redis.consumer import ResultConsumer

__all__ = ('RedisBackend', 'ResultConsumer', 'SentinelBackend')
