"""The fixtures of the test suite, for the comparisons with Celery as well."""

from tests.conftest import (  # noqa: F401
    broker_url,
    rabbitmq_proc,
    rabbitmqctl,
    redis_port,
    redis_url,
    start_worker,
)
