"""How long a worker waits for a broker that is away."""

from __future__ import annotations

import pytest

from canvaslite import Celery
from canvaslite.exceptions import WorkerShutdown
from canvaslite.worker.connection import Recovery
from tests.fixtures import free_port


def waits_of(retries: int | None) -> list[float]:
    """The seconds between the tries to reach a broker that is not there, 200 at most."""
    app = Celery(broker=f'amqp://127.0.0.1:{free_port()}/', set_as_current=False)
    app.conf.broker_connection_max_retries = retries
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 200:
            raise WorkerShutdown(0)

    with pytest.raises(WorkerShutdown):
        Recovery(app, wait).connect(None)
    return waits


def test_a_broker_that_was_away_for_long_is_found_within_ten_seconds() -> None:
    timeout = Celery(set_as_current=False).conf.broker_connection_timeout
    assert max(waits_of(None)) + timeout < 10


def test_a_worker_gives_up_after_as_many_tries_as_it_is_told_but_no_earlier_than_celery_would() -> None:
    assert waits_of(2) == [2, 4]
    assert 2 + 4 + 6 + 8 <= sum(waits_of(4)) < 2 + 4 + 6 + 8 + 5
