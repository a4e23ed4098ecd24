"""Errors of sending, in one line that says which setting to look at; never a password."""

from __future__ import annotations

from typing import Any

from kombu.exceptions import OperationalError

__all__ = ('lost_connection', 'no_free_connection', 'unreachable_broker')


def unreachable_broker(app: Any, connection: Any, exc: BaseException) -> OperationalError:
    """The error for a broker to which no connection can be made."""
    return OperationalError(f'Cannot connect to the broker at {connection.as_uri()}: {_one_line(exc)}. Start it there, '
                            f'or correct the setting {_setting(app)}.')


def lost_connection(app: Any, connection: Any, exc: BaseException, tries: int) -> OperationalError:
    """The error for a message that could not be handed to the broker."""
    return OperationalError(f'The broker at {connection.as_uri()} did not take the message in {tries} '
                            f'{"try" if tries == 1 else "tries"}: {_one_line(exc)}. See the broker\'s log; '
                            'task_publish_retry_policy says how long to go on trying.')


def no_free_connection(limit: int, timeout: float) -> OperationalError:
    """The error for a pool in which nothing became free in time."""
    return OperationalError(f'No connection to the broker became free within {timeout}s, all {limit} are in use: raise '
                            'broker_pool_limit or broker_pool_acquire_timeout.')


def _setting(app: Any) -> str:
    conf = app.conf
    return 'broker_url' if conf.broker_write_url == conf.broker_url else 'broker_write_url'


def _one_line(exc: BaseException) -> str:
    return ' '.join(str(exc).split()).rstrip('.') or type(exc).__name__
