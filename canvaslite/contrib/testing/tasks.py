"""A task for tests."""

from __future__ import annotations

from typing import Any

from canvaslite.app.declare import shared_task


def _ping() -> str:
    """Says that a worker works."""
    return 'pong'


ping: Any = shared_task(name='celery.ping')(_ping)
