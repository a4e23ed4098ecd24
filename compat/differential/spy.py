"""What a process of either package sees of its tasks, told to one list in Redis in the order in which it happens.

A worker tells of signals, of the request of each run, and of calls of errbacks and links; the process that sends the
scenarios tells of its own signals. Nothing here knows which package it listens to.
"""

from __future__ import annotations

import json
import multiprocessing
from typing import Any

import redis

#: Signals of one task, and whether no more follow from the message that it came in.
TASK_SIGNALS = {
    'task_received': False, 'task_prerun': False, 'task_postrun': True, 'task_success': False, 'task_failure': False,
    'task_retry': False, 'task_internal_error': False, 'task_revoked': True, 'task_unknown': True,
    'task_rejected': True,
}
PUBLISH_SIGNALS = ('before_task_publish', 'after_task_publish')

#: What a task may ask of its request.
REQUEST_ATTRIBUTES = (
    'id', 'args', 'kwargs', 'root_id', 'parent_id', 'group', 'group_index', 'chord', 'chain', 'callbacks', 'errbacks',
    'retries', 'replaced_task_nesting', 'stamped_headers', 'stamps', 'eta', 'expires', 'timelimit', 'time_limit',
    'soft_time_limit', 'headers', 'properties', 'delivery_info', 'correlation_id', 'reply_to', 'hostname', 'shadow',
    'ignore_result', 'is_eager', 'called_directly', 'origin', 'utc', 'taskset', 'lang', 'task', 'argsrepr',
    'kwargsrepr', 'loglevel', 'logfile', 'children',
)
#: Key that says whether workers listen to the signals of publishing, which not every way of publishing sends.
HEARING = 'hearing'


def plain(value: Any) -> Any:
    """`value` as JSON has it; what JSON does not have as text that says what it is."""
    if isinstance(value, BaseException):
        return {'error': type(value).__name__, 'message': str(value)}
    if isinstance(value, dict):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, (set, frozenset)):
        return {'set': sorted(map(plain, value), key=repr)}
    if isinstance(value, (list, tuple)):
        return [plain(member) for member in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    if hasattr(value, 'as_tuple') and hasattr(value, 'id'):
        return {'result': type(value).__name__, 'id': value.id}
    if isinstance(value, bytes):
        return {'bytes': value.hex()}
    return f'<{type(value).__name__}>'


class Spy:
    """Writes what happens in this process to the list ``seen``."""

    def __init__(self, url: str, where: str) -> None:
        self.redis = redis.Redis.from_url(url)
        self.where = where
        self.publish_receivers: dict[str, Any] = {}

    def tell(self, kind: str, **fields: Any) -> None:
        """Add one record."""
        self.redis.rpush('seen', json.dumps({'kind': kind, 'where': self.where, **plain(fields)}))

    def call(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Tell that code of a scenario was called."""
        self.tell('call', name=name, args=args, kwargs=kwargs, process=multiprocessing.current_process().name[:4])

    def listen(self, signals: Any, hearing: bool | None = None) -> None:
        """Listen to all signals of tasks; and to those of publishing always, never, or (None) while it is asked for."""
        self.signals = signals
        for name in TASK_SIGNALS:
            getattr(signals, name).connect(self._receiver(name), weak=False)
        if hearing is None:
            signals.task_prerun.connect(self._ask, weak=False)
        else:
            self.hear(hearing)

    def _ask(self, **_: Any) -> None:
        self.hear(self.redis.exists(HEARING) == 1)

    def hear(self, on: bool) -> None:
        """Listen to the signals of publishing, or stop that."""
        if on is bool(self.publish_receivers):
            return
        for name in PUBLISH_SIGNALS:
            if on:
                receiver = self.publish_receivers[name] = self._receiver(name)
                getattr(self.signals, name).connect(receiver, weak=False)
            else:
                getattr(self.signals, name).disconnect(self.publish_receivers.pop(name))

    def _receiver(self, name: str) -> Any:
        def receive(signal: Any, sender: Any, **given: Any) -> None:
            self.tell('signal', name=name, id=_task_id(sender, given), retries=_retries(sender, given),
                      sender=type(sender).__name__ if not hasattr(sender, 'name') else 'task',
                      keywords=sorted(given), values=_telling_values(given))
            if name == 'task_prerun':
                request = given['task'].request
                said = {attribute: getattr(request, attribute, '<none>') for attribute in REQUEST_ATTRIBUTES}
                if 'application_headers' in (request.properties or {}):
                    said['properties'] = {**request.properties, 'application_headers': 'all headers'}
                self.tell('run', id=request.id, task=given['task'].name, request=said)
        return receive


def _task_id(sender: Any, given: dict[str, Any]) -> Any:
    for source in (given.get('task_id'), given.get('id'), getattr(given.get('request'), 'id', None),
                   (given.get('headers') or {}).get('id')):
        if source:
            return source
    message = given.get('message')
    if message is not None:
        return (message.headers or {}).get('id')
    return getattr(getattr(sender, 'request', None), 'id', None)


def _retries(sender: Any, given: dict[str, Any]) -> Any:
    """Which run of its task is spoken of; None where it is not the run's own process."""
    request = getattr(given.get('task', sender), 'request', None)
    retries = getattr(request, 'retries', None)
    return None if retries is None else retries + (getattr(request, 'replaced_task_nesting', 0) or 0)


def _telling_values(given: dict[str, Any]) -> dict[str, Any]:
    """What a signal says, but for the objects that differ by nature (tasks, requests, tracebacks, messages)."""
    values = {name: given[name] for name in (
        'args', 'kwargs', 'state', 'retval', 'result', 'exception', 'reason', 'terminated', 'signum', 'expired', 'exc',
        'exchange', 'routing_key', 'headers', 'body', 'properties', 'retry_policy', 'name') if name in given}
    if 'declare' in given:
        values['declare'] = [entity.name for entity in given['declare']]
    return values
