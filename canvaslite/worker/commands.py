"""Remote control commands of a worker. A program adds its own with `control_command` and `inspect_command`.

A command is a function of a `PanelState` and the arguments that the caller sent; what it returns is the reply.
"""

from __future__ import annotations

import signal as signals
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from kombu.utils.encoding import safe_repr

from canvaslite.exceptions import ImproperlyConfigured, WorkerShutdown
from canvaslite.protocol.job import Verdict
from canvaslite.utils.functional import maybe_list
from canvaslite.utils.log import worker_logger as logger
from canvaslite.worker.policies import parse_rate
from canvaslite.worker.request import Request, Stage
from canvaslite.worker.state import is_stamp_revoked
from canvaslite.worker.sweeping import errand

_SHOWN_ATTRIBUTES = ('exchange', 'routing_key', 'rate_limit')
_STAGE_NAMES = {Stage.ACTIVE: 'active', Stage.RESERVED: 'reserved', Stage.SCHEDULED: 'scheduled', Stage.READY: 'ready'}
_PLAIN = (str, int, float, bool, type(None))


_NO_NAMES = 'queues, exchanges and routing keys are texts of at most 255 bytes'


def _are_names(*names: Any) -> bool:
    """Whether these, where there are any, can be names for the broker: others would cost the connection."""
    return all(name is None or (isinstance(name, str) and len(name.encode(errors='replace')) <= 255) for name in names)


def ok(value: Any) -> dict[str, Any]:
    """The reply of a command that did what it was asked."""
    return {'ok': value}


def nok(value: Any) -> dict[str, Any]:
    """The reply of a command that could not."""
    return {'error': value}


class PanelState(NamedTuple):
    """What a command works on: the app, the worker's name, and its consumer (``consumer.controller`` is the worker)."""

    app: Any
    hostname: str
    consumer: Any

    @property
    def worker(self) -> Any:
        return self.consumer.controller


class CommandInfo(NamedTuple):
    """What the command line needs to know of a command; `args` are (name, type) pairs."""

    alias: str | None
    type: str
    visible: bool
    default_timeout: float
    help: str
    signature: str | None
    args: Sequence[tuple[str, Any]] | None
    variadic: str | None


class Panel:
    """All commands by name."""

    data: dict[str, Callable[..., Any]] = {}
    meta: dict[str, CommandInfo] = {}

    @classmethod
    def register(cls, *args: Any, **options: Any) -> Any:
        """Add a command: a decorator, with or without options."""
        return _add(*args, **options) if args else partial(_add, **options)


def _add(function: Callable[..., Any], name: str | None = None, alias: str | None = None, type: str = 'control',
         visible: bool = True, default_timeout: float = 1.0, help: str | None = None, signature: str | None = None,
         args: Sequence[tuple[str, Any]] | None = None, variadic: str | None = None) -> Callable[..., Any]:
    summary = help or (function.__doc__ or '').strip().split('\n')[0]
    name = name or function.__name__
    Panel.meta[name] = CommandInfo(alias, type, visible, default_timeout, summary, signature, args, variadic)
    Panel.data.update(dict.fromkeys((name, alias or name), function))
    return function


#: Decorators for a command that changes something, and for one that only looks.
control_command = partial(Panel.register, type='control')
inspect_command = partial(Panel.register, type='inspect')


# --- looking at a worker ---

@inspect_command(default_timeout=0.2)
def ping(state: PanelState, **kwargs: Any) -> Any:
    """Ping the worker."""
    return ok('pong')


@inspect_command()
def report(state: PanelState, **kwargs: Any) -> Any:
    """Information for bug reports."""
    return ok(state.app.bugreport())


@inspect_command(alias='dump_conf', signature='[include_defaults=False]', args=[('with_defaults', bool)])
def conf(state: PanelState, with_defaults: bool = False, **kwargs: Any) -> Any:
    """The worker's configuration, without passwords."""
    table = state.app.conf.table(with_defaults=with_defaults)
    return {name: make_plain(value) for name, value in table.items() if not name.startswith('__')}


def make_plain(value: Any) -> Any:
    """`value` as data that any serializer takes."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        return {str(name): make_plain(member) for name, member in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [make_plain(member) for member in value]
    return safe_repr(value)


@inspect_command()
def stats(state: PanelState, **kwargs: Any) -> Any:
    """Statistics of the worker."""
    return state.worker.stats()


@inspect_command()
def clock(state: PanelState, **kwargs: Any) -> Any:
    """The worker's logical clock."""
    return {'clock': state.app.control.mailbox.clock.value}


def describe(request: Request, safe: bool = False) -> dict[str, Any]:
    """A request for a reply; what cannot be decoded is shown without its arguments."""
    try:
        info = request.info(safe)
    except Exception as exc:
        return {'id': request.id, 'name': request.name, 'type': request.type, 'error': safe_repr(exc)}
    return {name: make_plain(value) for name, value in info.items()}


@inspect_command(alias='dump_active')
def active(state: PanelState, safe: bool = False, **kwargs: Any) -> Any:
    """The tasks that run."""
    state.worker.note_running()
    return [describe(request, bool(safe)) for request in state.worker.state.requests(Stage.ACTIVE)]


@inspect_command(alias='dump_reserved')
def reserved(state: PanelState, **kwargs: Any) -> Any:
    """The tasks that wait for a process."""
    state.worker.note_running()
    return [describe(request) for request in state.worker.state.requests(Stage.RESERVED)]


@inspect_command(alias='dump_schedule')
def scheduled(state: PanelState, **kwargs: Any) -> Any:
    """The tasks that wait for their ETA."""
    return [{'eta': request.eta.isoformat() if request.eta else None, 'priority': 6, 'request': describe(request)}
            for request in state.worker.state.requests(Stage.SCHEDULED)]


@inspect_command(variadic='ids', signature='[id1 [id2 [... [idN]]]]')
def query_task(state: PanelState, ids: Any, **kwargs: Any) -> Any:
    """Tasks by id: where each is."""
    state.worker.note_running()
    return {request.id: (_STAGE_NAMES[request.stage], describe(request))
            for request in state.worker.state.find(maybe_list(ids) or ())}


@inspect_command(alias='dump_revoked')
def revoked(state: PanelState, **kwargs: Any) -> Any:
    """The ids of revoked tasks."""
    return list(state.worker.state.revoked)


@inspect_command(alias='dump_tasks', variadic='taskinfoitems', signature='[attr1 [attr2 [... [attrN]]]]')
def registered(state: PanelState, taskinfoitems: Any = None, builtins: bool = False, **kwargs: Any) -> Any:
    """The tasks that the worker knows, with these of their attributes."""
    names = [name for name in taskinfoitems or _SHOWN_ATTRIBUTES if isinstance(name, str) and not name.startswith('_')]
    tasks = state.app.tasks
    return [_describe_task(tasks[name], names) for name in sorted(tasks) if builtins or not name.startswith('celery.')]


def _describe_task(task: Any, names: list[str]) -> str:
    fields = [f'{name}={getattr(task, name)}' for name in names if getattr(task, name, None) is not None]
    return f'{task.name} [{" ".join(fields)}]' if fields else str(task.name)


@inspect_command()
def active_queues(state: PanelState, **kwargs: Any) -> Any:
    """The queues that the worker consumes from."""
    subscription = state.consumer.task_consumer
    return [make_plain(queue.as_dict(recurse=True)) for queue in subscription.queues] if subscription else []


@inspect_command(visible=False)
def hello(state: PanelState, from_node: str, revoked: Any = None, **kwargs: Any) -> Any:
    """A new worker asks what it should know."""
    if from_node == state.hostname:
        return None
    known = state.worker.state.revoked
    known.update(revoked or ())
    known.purge()
    return {'revoked': list(known), 'clock': state.app.control.mailbox.clock.forward()}


# --- changing tasks, or the worker itself ---

def signal_number(signal: Any) -> int:
    """The number of a signal given by number or name (``TERM``, ``SIGTERM``); TERM's for None. Raises `ValueError`."""
    if signal is None:
        return signals.SIGTERM
    if isinstance(signal, int):
        return signal
    name = str(signal).upper()
    try:
        return signals.Signals[name if name.startswith('SIG') else f'SIG{name}']
    except KeyError:
        raise ValueError(f'there is no signal {signal!r}') from None


@control_command(variadic='task_id', signature='[id1 [id2 [... [idN]]]]')
def revoke(state: PanelState, task_id: Any, terminate: bool = False, signal: Any = None, root_ids: Any = (),
           **kwargs: Any) -> Any:
    """Revoke tasks by id; with `terminate` also end the processes that run them."""
    ids = list(dict.fromkeys(maybe_list(task_id) or ()))
    if not all(isinstance(id, str) for id in (*ids, *(root_ids or ()))):
        return nok('ids are text')
    signum = signal_number(signal)
    worker_state = state.worker.state
    worker_state.revoked.update(ids)
    worker_state.revoked.roots.update(root_ids or ())
    found = [request for request in worker_state.requests() if worker_state.is_revoked(request)]
    _discard_waiting(state, found)
    if not terminate:
        _mark_revoked(state, ids)
        logger.info('Tasks flagged as revoked: %s', ', '.join(ids))
        return ok(f'tasks {ids} flagged as revoked')
    terminated = _terminate_all(state, found, signum)
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
    for request in (*state.consumer.pool.withdraw(revoked.__contains__),
                    *state.consumer.policies.empty_buckets(revoked.__contains__)):
        logger.info('Discarding revoked task: %s[%s]', request.name, request.id)
        request.condemn('revoked')
        state.consumer.pool.submit_first(request)


def _terminate_all(state: PanelState, requests: Iterable[Request], signum: int) -> list[str]:
    terminated = []
    for request in requests:
        if request.stage in (Stage.RESERVED, Stage.ACTIVE) and request.verdict is None:
            logger.info('Terminating %s (%d)', request.id, signum)
            state.consumer.outcomes.terminate(request, signum)
            terminated.append(request.id)
    return terminated


def _mark_revoked(state: PanelState, ids: Iterable[str]) -> None:
    """Have a process store REVOKED for tasks that nobody has started, so that those who wait for them need not."""
    running = {request.id for request in state.worker.state.requests(Stage.ACTIVE)}
    waiting = [id for id in ids if id not in running]
    if waiting and state.app.backend.keeps_results:
        state.consumer.pool.submit_first(errand(Verdict('mark', waiting)))


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
    if any(value is not None and not (isinstance(value, (int, float)) and value >= 0) for value in (hard, soft)):
        return nok('time limits are seconds')
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
        count = int(n)
        if count < 0:
            return nok(f'{count} is no number of processes to add or to take away')
        resize(count)
    except ValueError as exc:
        return nok(str(exc))
    state.consumer.update_prefetch()
    return ok(done)


@control_command(args=[('max', int), ('min', int)], signature='[max [min]]')
def autoscale(state: PanelState, max: Any = None, min: Any = None, **kwargs: Any) -> Any:
    """Change the bounds of a pool that grows and shrinks by itself."""
    if state.worker.autoscaler is None:
        return nok('Autoscale not enabled: start the worker with --autoscale.')
    try:
        most, least = state.worker.autoscaler.update(max, min)
    except ImproperlyConfigured as exc:
        return nok(str(exc))
    return ok(f'autoscale now max={most} min={least}')


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
    if not _are_names(queue, exchange, exchange_type, routing_key):
        return nok(_NO_NAMES)
    state.consumer.call_soon(state.consumer.add_task_queue, queue, exchange, exchange_type or 'direct', routing_key,
                             **options)
    return ok(f'add consumer {queue}')


@control_command(args=[('queue', str)], signature='<queue>')
def cancel_consumer(state: PanelState, queue: str, **kwargs: Any) -> Any:
    """Consume from a queue no longer."""
    if not _are_names(queue):
        return nok(_NO_NAMES)
    state.consumer.call_soon(state.consumer.cancel_task_queue, queue)
    return ok(f'no longer consuming from {queue}')
