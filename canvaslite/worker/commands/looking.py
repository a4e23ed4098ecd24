"""Commands that look at a worker."""

from __future__ import annotations

from typing import Any

from kombu.utils.encoding import safe_repr

from canvaslite.utils.functional import maybe_list
from canvaslite.worker.commands.panel import PanelState, inspect_command, ok
from canvaslite.worker.request import Request, Stage

_SHOWN_ATTRIBUTES = ('exchange', 'routing_key', 'rate_limit')
_STAGE_NAMES = {Stage.ACTIVE: 'active', Stage.RESERVED: 'reserved', Stage.SCHEDULED: 'scheduled', Stage.READY: 'ready'}
_PLAIN = (str, int, float, bool, type(None))


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
