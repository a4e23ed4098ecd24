"""A store, or a broker, that is away for 8 s makes a chord late and nothing else: some steps of the sweep `outages`."""

from __future__ import annotations

import pytest

from tests.faults.outages import outages


@pytest.mark.parametrize(('store', 'server', 'steps'), [
    ('redis', 'store', (2,)),
    ('postgresql', 'store', (5,)),  # asking whether the body runs already
    ('redis', 'broker', (4,)),
    ('rpc', 'broker', (6,)),
], ids=['Redis', 'PostgreSQL', 'RabbitMQ', 'RabbitMQ with rpc'])
def test_a_server_that_is_away_for_8_s_makes_a_chord_late_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, broker_url: str, store: str, server: str,
    steps: tuple[int, ...]
) -> None:
    monkeypatch.setenv('MORTAL', '/')
    backend = 'rpc://' if store == 'rpc' else request.getfixturevalue(f'{store}_url')
    tally = outages(broker_url, backend, server, ['plain'], 2, steps)
    assert tally.is_clean, str(vars(tally))
    assert tally.kills >= 1
