"""`Connections`: how an app reaches its broker."""

from __future__ import annotations

from typing import Any

from kombu.connection import ConnectionPool, PooledConnection
from kombu.exceptions import LimitExceeded, OperationalError

from canvaslite.transport.connection import BrokerConnection, close_inherited


class PooledBrokerConnection(BrokerConnection, PooledConnection):  # type: ignore[misc]
    """A `BrokerConnection` that goes back to its pool."""


class BrokerConnectionPool(ConnectionPool):  # type: ignore[misc]
    """kombu's pool, of our connections."""

    def new(self) -> PooledBrokerConnection:
        return PooledBrokerConnection(self, **dict(self.connection._info(resolve=False)))


class Connections:
    """Opens broker connections as an app's settings say, and keeps a pool of them."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._pool: Any = None

    def open(self, url: Any = None, userid: str | None = None, password: str | None = None,
             virtual_host: str | None = None, port: int | None = None, ssl: Any = None,
             connect_timeout: float | None = None, transport: Any = None,
             transport_options: dict[str, Any] | None = None, heartbeat: float | None = None,
             login_method: str | None = None, failover_strategy: Any = None, **options: Any) -> Any:
        """A connection that is established when it is first used; what is not given is taken from the settings."""
        conf = self.app.conf
        return self.app.amqp.Connection(
            url, userid or conf.broker_user, password or conf.broker_password, virtual_host or conf.broker_vhost,
            port or conf.broker_port, transport=transport or conf.broker_transport, heartbeat=heartbeat,
            ssl=conf.broker_use_ssl if ssl is None else ssl, login_method=login_method or conf.broker_login_method,
            failover_strategy=failover_strategy or conf.broker_failover_strategy,
            transport_options={**conf.broker_transport_options, **(transport_options or {})},
            connect_timeout=conf.broker_connection_timeout if connect_timeout is None else connect_timeout, **options)

    @property
    def pool(self) -> Any:
        """Connections for publishing, at most ``broker_pool_limit`` at once."""
        if self._pool is None:
            self._pool = BrokerConnectionPool(self.app.connection_for_write(), limit=self.app.conf.broker_pool_limit)
        return self._pool

    def acquire(self, pool: Any, what: str) -> Any:
        """One of `pool`. Raises `OperationalError` when none became free in ``broker_pool_acquire_timeout``."""
        seconds = self.app.conf.broker_pool_acquire_timeout
        try:
            return pool.acquire(block=True, timeout=seconds)
        except LimitExceeded as exc:
            raise OperationalError(f'no {what} became free in {seconds}s: all {self.app.conf.broker_pool_limit} are in '
                                   'use (see broker_pool_limit, broker_pool_acquire_timeout)') from exc

    def close(self) -> None:
        """Close the pool's connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.force_close_all()

    def forget_inherited(self) -> None:
        """In a forked child: drop the parent's connections without a word to the broker."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        for connection in (*pool._dirty, *pool._resource.queue):
            if not callable(connection):  # a free place that was never used
                close_inherited(connection)
