"""The stores under the model, and a `Lab` for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.model.stores import KINDS
from tests.model.world import Lab


@pytest.fixture
def atomic_url() -> str:
    return 'tests.model.stores:DictionaryBackend'


@pytest.fixture
def rpc_url(broker_url: str) -> str:
    return broker_url


@pytest.fixture
def make_lab(request: pytest.FixtureRequest) -> Iterator[Callable[..., Lab]]:
    """Make a lab on the store of that name."""
    made = []

    def make(name: str, **settings: Any) -> Lab:
        made.append(Lab(KINDS[name](request.getfixturevalue(f'{name}_url'), name), **settings))
        return made[-1]

    yield make
    for lab in made:
        lab.close()
