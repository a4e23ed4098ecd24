"""Task states: their names, and the sets they form."""

from __future__ import annotations

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


def is_final(stored: str, state: str) -> bool:
    """Whether `stored` must not be replaced by `state`: a success by a copy of the task that runs late, any end by the
    record of a run that was retried, which may come after the end of the retry."""
    return stored == SUCCESS or (state == RETRY and stored in READY_STATES)
