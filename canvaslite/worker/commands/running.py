"""Commands that change the worker itself: its pool, its queues, its life."""

from __future__ import annotations

import logging
from typing import Any

from canvaslite.exceptions import WorkerShutdown
from canvaslite.worker.commands.panel import PanelState, control_command, nok, ok

logger = logging.getLogger('canvaslite.worker')


@control_command(args=[('n', int)], signature='[N=1]')
def pool_grow(state: PanelState, n: int = 1, **kwargs: Any) -> Any:
    """Have more processes or threads."""
    try:
        state.consumer.pool.grow(int(n))
    except ValueError as exc:
        return nok(str(exc))
    state.consumer.update_prefetch()
    return ok('pool will grow')


@control_command(args=[('n', int)], signature='[N=1]')
def pool_shrink(state: PanelState, n: int = 1, **kwargs: Any) -> Any:
    """Have fewer processes or threads."""
    try:
        state.consumer.pool.shrink(int(n))
    except ValueError as exc:
        return nok(str(exc))
    state.consumer.update_prefetch()
    return ok('pool will shrink')


@control_command()
def pool_restart(state: PanelState, modules: Any = None, reload: bool = False, reloader: Any = None,
                 **kwargs: Any) -> Any:
    """Replace the processes, if ``worker_pool_restarts`` is on."""
    if not state.app.conf.worker_pool_restarts:
        raise ValueError('Pool restarts not enabled')
    state.worker.reload(modules, reload)
    return ok('reload started')


@control_command()
def shutdown(state: PanelState, msg: str = 'Got shutdown from remote', **kwargs: Any) -> Any:
    """Stop the worker warmly."""
    logger.warning(msg)
    raise WorkerShutdown(0)


@control_command(args=[('queue', str), ('exchange', str), ('exchange_type', str), ('routing_key', str)],
                 signature='<queue> [exchange [type [routing_key]]]')
def add_consumer(state: PanelState, queue: str, exchange: str | None = None, exchange_type: str | None = None,
                 routing_key: str | None = None, **options: Any) -> Any:
    """Consume from one more queue."""
    state.consumer.call_soon(state.consumer.add_task_queue, queue, exchange, exchange_type or 'direct', routing_key,
                             **options)
    return ok(f'add consumer {queue}')


@control_command(args=[('queue', str)], signature='<queue>')
def cancel_consumer(state: PanelState, queue: str, **kwargs: Any) -> Any:
    """Consume from a queue no longer."""
    state.consumer.call_soon(state.consumer.cancel_task_queue, queue)
    return ok(f'no longer consuming from {queue}')
