from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from canvaslite import Celery, states


@pytest.fixture
def app() -> Iterator[Any]:
    """An app whose results are in memory."""
    with Celery('results', broker='memory://', backend='cache+memory://', set_as_current=False) as app:
        yield app


@pytest.fixture
def stored(app: Any) -> Callable[..., Any]:
    """Keep an outcome; returns its `AsyncResult`. An exception is kept as a failure."""

    def keep(value: Any, state: str | None = None, **options: Any) -> Any:
        task_id = uuid.uuid4().hex
        failed = isinstance(value, BaseException)
        app.backend.store_result(task_id, value, state or (states.FAILURE if failed else states.SUCCESS),
                                 traceback='the traceback' if failed else None)
        return app.AsyncResult(task_id, **options)

    return keep
