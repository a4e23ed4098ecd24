from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from canvaslite import Celery


@pytest.fixture
def app() -> Iterator[Any]:
    """An app whose broker and results are in memory."""
    with Celery('backends', broker='memory://', backend='cache+memory://', set_as_current=False) as app:
        yield app
