"""Task states: their names, and the sets they form."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

PENDING = 'PENDING'
RECEIVED = 'RECEIVED'
STARTED = 'STARTED'
SUCCESS = 'SUCCESS'
FAILURE = 'FAILURE'
REVOKED = 'REVOKED'
REJECTED = 'REJECTED'
RETRY = 'RETRY'
IGNORED = 'IGNORED'

#: States in which a task has ended; the two of them in which it has no value.
READY_STATES = frozenset({SUCCESS, FAILURE, REVOKED})
PROPAGATE_STATES = frozenset({FAILURE, REVOKED})
#: States whose stored result is an exception.
EXCEPTION_STATES = PROPAGATE_STATES | {RETRY}
UNREADY_STATES = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
ALL_STATES = READY_STATES | (UNREADY_STATES - {REJECTED})

#: From the last thing that may be known of a task to the first; states of a program's own are where None is.
PRECEDENCE = [SUCCESS, FAILURE, None, REVOKED, STARTED, RECEIVED, REJECTED, RETRY, PENDING]


def precedence(state: str) -> int:
    """The place of a state in `PRECEDENCE`: the lower it is, the more the state says."""
    return PRECEDENCE.index(state if state in PRECEDENCE else None)


def _by_precedence(compare: Callable[[int, int], bool]) -> Any:
    return lambda one, other: compare(precedence(other), precedence(one))


class state(str):
    """A state that is compared by its precedence: of two, the greater is what is known last."""

    __gt__, __ge__, __lt__, __le__ = map(_by_precedence, (operator.gt, operator.ge, operator.lt, operator.le))


def is_final(stored: str, state: str) -> bool:
    """Whether `stored` must not be replaced by `state`: a success by a copy of the task that runs late, any end by the
    record of a run that was retried, which may come after the end of the retry."""
    return stored == SUCCESS or (state == RETRY and stored in READY_STATES)
