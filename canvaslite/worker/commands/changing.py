"""Commands that change tasks (revoking, terminating, limits) or the worker itself (its pool, its queues, its life)."""

from __future__ import annotations

import logging
import signal as signals
import threading
from collections.abc import Callable, Iterable
from typing import Any

from canvaslite import states
from canvaslite.exceptions import WorkerShutdown
from canvaslite.utils.functional import maybe_list
from canvaslite.worker.commands.panel import PanelState, control_command, nok, ok
from canvaslite.worker.policies import parse_rate
from canvaslite.worker.request import Request, Stage
from canvaslite.worker.state import is_stamp_revoked

logger = logging.getLogger('celery.worker')

#: States of a task that nobody has started; a revoke may set them to REVOKED.
_NOT_STARTED = (states.PENDING, states.RECEIVED, states.RETRY, states.REJECTED)


def signal_number(signal: Any) -> int:
    """The number of a signal given by number or name (``TERM``, ``SIGTERM``); TERM's for None. Raises `ValueError`."""
    if signal is None:
        return int(signals.SIGTERM)
    if isinstance(signal, int):
        return signal
    name = str(signal).upper()
    try:
        return int(signals.Signals[name if name.startswith('SIG') else f'SIG{name}'])
    except KeyError:
        raise ValueError(f'there is no signal {signal!r}') from None


@control_command(variadic='task_id', signature='[id1 [id2 [... [idN]]]]')
def revoke(state: PanelState, task_id: Any, terminate: bool = False, signal: Any = None, **kwargs: Any) -> Any:
    """Revoke tasks by id; with `terminate` also end the processes that run them."""
    ids = list(dict.fromkeys(maybe_list(task_id) or ()))
    signum = signal_number(signal)
    worker_state = state.worker.state
    worker_state.revoked.update(ids)
    _discard_waiting(state, worker_state.find(ids))
    if not terminate:
        _mark_revoked(state, ids)
        logger.info('Tasks flagged as revoked: %s', ', '.join(ids))
        return ok(f'tasks {ids} flagged as revoked')
    terminated = _terminate_all(state, worker_state.find(ids), signum)
    _mark_revoked(state, [id for id in ids if id not in terminated])
    return ok(f'terminate: {", ".join(terminated)}' if terminated else 'terminate: tasks unknown')


@control_command(variadic='headers', signature='[key1=value1 [key2=value2 [... [keyN=valueN]]]]')
def revoke_by_stamped_headers(state: PanelState, headers: Any, terminate: bool = False, signal: Any = None,
                              **kwargs: Any) -> Any:
    """Revoke tasks by stamped headers; with `terminate` also end the processes that run them."""
    if isinstance(headers, list):
        headers = dict(header.split('=', 1) for header in headers)
    wanted = {name: list(maybe_list(values) or ()) for name, values in headers.items()}
    worker_state = state.worker.state
    worker_state.revoked.revoke_stamps(wanted)
    found = [request for request in worker_state.requests() if is_stamp_revoked(request.stamps, wanted)]
    _discard_waiting(state, found)
    if not terminate:
        return ok(f'headers {headers} flagged as revoked, but not terminated')
    if not _terminate_all(state, found, signal_number(signal)):
        return ok(f'headers {headers} were not terminated')
    return ok(f'headers {headers} revoked')


@control_command(variadic='task_id', args=[('signal', str)], signature='<signal> [id1 [id2 [... [idN]]]]')
def terminate(state: PanelState, signal: Any, task_id: Any, **kwargs: Any) -> Any:
    """Terminate tasks by id."""
    return revoke(state, task_id, terminate=True, signal=signal)


def _discard_waiting(state: PanelState, requests: Iterable[Request]) -> None:
    """Have what waits for a process recorded as revoked now; what waits for its ETA is when that comes."""
    revoked = {request for request in requests if request.stage is Stage.RESERVED and request.verdict is None}
    if not revoked:
        return
    for request in state.consumer.pool.withdraw(revoked.__contains__):
        logger.info('Discarding revoked task: %s[%s]', request.name, request.id)
        request.condemn('revoked')
        state.consumer.pool.submit_first(request)


def _terminate_all(state: PanelState, requests: Iterable[Request], signum: int) -> list[str]:
    terminated = []
    for request in requests:
        if request.stage in (Stage.RESERVED, Stage.ACTIVE) and request.verdict is None:
            logger.info('Terminating %s (%s)', request.id, signum)
            state.consumer.outcomes.terminate(request, signum)
            terminated.append(request.id)
    return terminated


def _mark_revoked(state: PanelState, ids: Iterable[str]) -> None:
    """Store REVOKED for tasks that nobody has started, so that those who wait for them need not.

    In a thread, because a store that is away must not keep the worker from its work; and with a store of its own,
    because a child that is forked meanwhile must not inherit one that is in use.
    """
    running = {request.id for request in state.worker.state.requests(Stage.ACTIVE)}
    waiting = [id for id in ids if id not in running]
    if waiting:
        threading.Thread(target=_store_revoked, args=(state.app, waiting), daemon=True).start()


def _store_revoked(app: Any, ids: Iterable[str]) -> None:
    try:
        backend = app._get_backend()
        for id in ids:
            if backend.get_state(id) in _NOT_STARTED:
                backend.mark_as_revoked(id, reason='revoked', store_result=True)
    except Exception as exc:
        logger.warning('Failed to mark the tasks %s as revoked in the result store: %s', ', '.join(ids), exc)


@control_command(args=[('task_name', str), ('rate_limit', str)],
                 signature='<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>')
def rate_limit(state: PanelState, task_name: str, rate_limit: Any, **kwargs: Any) -> Any:
    """Change the rate limit of a task."""
    try:
        parse_rate(rate_limit)
    except ValueError as exc:
        return nok(f'Invalid rate limit string: {exc!r}')
    task = state.app.tasks.get(task_name)
    if task is None:
        logger.error('Rate limit attempt for unknown task %s', task_name)
        return nok('unknown task')
    task.rate_limit = rate_limit
    state.consumer.reset_rate_limits()
    if not rate_limit:
        logger.info('Rate limits disabled for tasks of type %s', task_name)
        return ok('rate limit disabled successfully')
    logger.info('New rate limit for tasks of type %s: %s.', task_name, rate_limit)
    return ok('new rate limit set successfully')


@control_command(args=[('task_name', str), ('soft', float), ('hard', float)],
                 signature='<task_name> <soft_secs> [hard_secs]')
def time_limit(state: PanelState, task_name: str | None = None, hard: float | None = None, soft: float | None = None,
               **kwargs: Any) -> Any:
    """Change the time limits of a task."""
    task = state.app.tasks.get(task_name)
    if task is None:
        logger.error('Change time limit attempt for unknown task %s', task_name)
        return nok('unknown task')
    task.soft_time_limit = soft
    task.time_limit = hard
    state.consumer.reset_rate_limits()
    logger.info('New time limits for tasks of type %s: soft=%s hard=%s', task_name, soft, hard)
    return ok('time limits set successfully')


@control_command(args=[('n', int)], signature='[N=1]')
def pool_grow(state: PanelState, n: int = 1, **kwargs: Any) -> Any:
    """Have more processes or threads."""
    return _resize(state, state.consumer.pool.grow, n, 'pool will grow')


@control_command(args=[('n', int)], signature='[N=1]')
def pool_shrink(state: PanelState, n: int = 1, **kwargs: Any) -> Any:
    """Have fewer processes or threads."""
    return _resize(state, state.consumer.pool.shrink, n, 'pool will shrink')


def _resize(state: PanelState, resize: Callable[[int], None], n: Any, done: str) -> Any:
    try:
        resize(int(n))
    except ValueError as exc:
        return nok(str(exc))
    state.consumer.update_prefetch()
    return ok(done)


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
