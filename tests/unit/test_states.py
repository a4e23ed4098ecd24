"""States, and which of two says more."""

from __future__ import annotations

from canvaslite import states


def test_of_two_states_the_greater_is_what_is_known_last() -> None:
    order = ['PENDING', 'RETRY', 'REJECTED', 'RECEIVED', 'STARTED', 'REVOKED', 'OF_THE_PROGRAM', 'FAILURE', 'SUCCESS']
    assert sorted(map(states.state, reversed(order))) == order
    assert states.state('STARTED') >= states.state('STARTED') <= states.state('STARTED')
    assert states.precedence('ANOTHER') == states.precedence('OF_THE_PROGRAM')
