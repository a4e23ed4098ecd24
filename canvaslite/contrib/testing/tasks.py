"""A task for tests."""

from __future__ import annotations

from canvaslite.app.declare import shared_task


@shared_task(name='celery.ping')
def ping() -> str:
    """Says that a worker works."""
    return 'pong'
