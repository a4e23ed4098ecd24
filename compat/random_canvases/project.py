"""The tasks of the check, for either package, and what the code of a plan may use."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
from collections.abc import Mapping
from typing import Any

from compat.random_canvases.meaning import UNKNOWN

#: Under this name the environment tells a worker what the caller's project was made of.
VARIABLE = 'RANDOM_CANVASES'

_ID = re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')


class Project:
    """An app of `package` with the tasks, each of which writes a line to the file `record` when it runs."""

    def __init__(self, package: str, settings: Mapping[str, Any], record: str) -> None:
        self.given = {'package': package, 'settings': dict(settings), 'record': record}
        self.record = record
        self.package = importlib.import_module(package)
        self.exceptions = importlib.import_module(f'{package}.exceptions')
        self.app = self.package.Celery('random_canvases', set_as_current=True)
        self.app.conf.update(broker_connection_retry_on_startup=True, result_chord_join_timeout=20, **settings)
        #: Names that the code of a plan uses.
        self.names: dict[str, Any] = {
            'chain': self.package.chain, 'group': self.package.group, 'chord': self.package.chord,
            'linked': linked, 'through_json': self.through_json, 'through_dict': self.through_dict,
            'through_pickle': through_pickle, 'through_freezing': through_freezing,
        }
        for function, options in (
            (self.mark, {}), (self.nothing, {}), (self.fail, {}), (self.reject, {}), (self.ignore, {}),
            (self.told_id, {}), (self.told_all, {}),
        ):
            self._add(_plain(function), **options)
        for function in (self.again, self.exhaust, self.become, self.told_bound):
            self._add(_bound(function), bind=True, default_retry_delay=0,
                      max_retries=1 if function == self.exhaust else 5)

    def _add(self, function: Any, **options: Any) -> None:
        name = function.__name__
        self.names[name] = self.app.task(name=name, **options)(function)

    def build(self, code: str) -> Any:
        """The canvas that `code` says."""
        return eval(code, dict(self.names))

    def note(self, name: str, inputs: Any) -> None:
        """Write down that the task `name` ran."""
        if inputs and type(inputs[0]).__name__ == 'Context':  # an errback's three arguments
            inputs = (*[UNKNOWN] * 3, *inputs[3:])
        text = _ID.sub(UNKNOWN, json.dumps(inputs))
        line = json.dumps([name, text]) + '\n'
        file = os.open(self.record, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, line.encode())  # one call: lines of several processes do not mix
        finally:
            os.close(file)

    def through_json(self, sig: Any) -> Any:
        """What another machine makes of the canvas."""
        return self.package.signature(json.loads(json.dumps(sig)), app=self.app)

    def through_dict(self, sig: Any) -> Any:
        """What is made of the canvas as a dict."""
        return self.package.Signature.from_dict(dict(sig), app=self.app)

    # -- tasks: the last positional argument is the name, those before it are the input ------------------------

    def mark(self, *args: Any) -> Any:
        self.note(args[-1], args[:-1])
        return [args[-1], *args[:-1]]

    def nothing(self, *args: Any) -> None:
        self.note(args[-1], args[:-1])

    def fail(self, *args: Any) -> None:
        self.note(args[-1], args[:-1])
        raise ValueError(args[-1])

    def reject(self, *args: Any) -> None:
        self.note(args[-1], args[:-1])
        raise self.exceptions.Reject(args[-1], requeue=False)

    def ignore(self, *args: Any) -> None:
        self.note(args[-1], args[:-1])
        raise self.exceptions.Ignore(args[-1])

    def again(self, task: Any, *args: Any, times: int = 1) -> Any:
        self.note(args[-1], args[:-1])
        if task.request.retries < times:
            raise task.retry(countdown=0)
        return [args[-1], *args[:-1]]

    def exhaust(self, task: Any, *args: Any) -> Any:
        self.note(args[-1], args[:-1])
        raise task.retry(exc=ValueError(args[-1]), countdown=0)

    def become(self, task: Any, *args: Any, by: str, passes: bool) -> Any:
        self.note(args[-1], args[:-1])
        sig = self.build(by)
        return task.replace(sig.clone(args[:-1]) if passes and args[:-1] else sig)

    def told_id(self, *told: Any, name: str) -> None:
        self.note(name, told)

    def told_all(self, *told: Any, name: str) -> None:
        self.note(name, told)

    def told_bound(self, task: Any, *told: Any, name: str) -> None:
        self.note(name, told)


def _plain(method: Any) -> Any:
    """A function for the task that `method` is: with the parameters by which errbacks are told apart."""
    if method.__name__ == 'told_id':
        def task(task_id: Any = None, *, name: str) -> Any:
            return method(*(() if task_id is None else (task_id,)), name=name)
    elif method.__name__ == 'told_all':
        def task(request: Any, exc: Any, traceback: Any, *, name: str) -> Any:  # type: ignore[misc]
            return method(request, exc, traceback, name=name)
    else:
        def task(*args: Any) -> Any:  # type: ignore[misc]
            return method(*args)
    task.__name__ = method.__name__
    return task


def _bound(method: Any) -> Any:
    def task(self: Any, *args: Any, **kwargs: Any) -> Any:
        return method(self, *args, **kwargs)
    task.__name__ = method.__name__
    return task


def linked(sig: Any, *callbacks: Any) -> Any:
    """`sig` with links."""
    for callback in callbacks:
        sig.link(callback)
    return sig


def through_pickle(sig: Any) -> Any:
    """What is read of the canvas when it was pickled."""
    return pickle.loads(pickle.dumps(sig))


def through_freezing(sig: Any) -> Any:
    """The canvas with its ids fixed."""
    sig.freeze()
    return sig


def from_environment() -> Project:
    """The project of the caller that started this process."""
    return Project(**json.loads(os.environ[VARIABLE]))
