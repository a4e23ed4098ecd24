"""A chord ends, once and right, whatever dies on the way: some steps of the sweeps in `kill_chords`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.kill_chords import sweep

#: Before a part, after it, between the claim and the body, and late. The sweeps themselves go through all steps.
STEPS = (2, 4, 7)


# What was acknowledged early dies with its whole worker: nothing to be shown there but the deadline.
@pytest.mark.parametrize(('who', 'late'), [('child', True), ('child', False), ('worker', True)],
                         ids=['a child, late', 'a child, early', 'the worker, late'])
def test_a_chord_survives_the_death_of_its_worker(
    monkeypatch: pytest.MonkeyPatch, broker_url: str, redis_url: str, who: str, late: bool
) -> None:
    monkeypatch.setenv('MORTAL', '/')
    tally = sweep(broker_url, redis_url, who, late, ['plain', 'chord in the header'], 6, STEPS)
    assert tally.is_clean, str(vars(tally))
    assert tally.kills >= 6
    assert tally.worst < 20, 'a lease of 10 s had to end, and not two of them'


def test_a_chord_in_the_broker_alone_survives_the_death_of_a_child(
    monkeypatch: pytest.MonkeyPatch, broker_url: str
) -> None:
    monkeypatch.setenv('MORTAL', '/')
    tally: Any = sweep(broker_url, 'rpc://', 'child', True, ['plain'], 2, (2, 5, 9, 14))
    assert tally.is_clean, str(vars(tally))
    assert tally.kills >= 4


def test_what_follows_a_body_in_the_broker_alone_runs_once_wherever_the_child_dies(
    monkeypatch: pytest.MonkeyPatch, broker_url: str
) -> None:
    monkeypatch.setenv('MORTAL', '/')
    # The first message with that name is the chord's body, the second one what follows that.
    tally: Any = sweep(broker_url, 'rpc://', 'child tests.apps.mortal.body', True, ['chain as body'], 2, (1, 2))
    assert tally.is_clean, str(vars(tally))
    assert tally.kills >= 4
