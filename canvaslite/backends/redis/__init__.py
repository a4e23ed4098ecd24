"""Results in Redis, on Celery's keys: told to who waits as they are stored, and joined by scripts on the server."""

from __future__ import annotations

from canvaslite.backends.redis.backend import RedisBackend, SentinelBackend
from canvaslite.backends.redis.cluster import ClusterBackend
from canvaslite.backends.redis.consumer import ResultConsumer

__all__ = ('ClusterBackend', 'RedisBackend', 'ResultConsumer', 'SentinelBackend')
