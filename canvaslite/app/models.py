"""Tasks that take and return pydantic models: ``@app.task(pydantic=True)``.

Models travel as plain data. The caller dumps a model argument, the worker validates it by the parameter's annotation,
and a returned model is dumped again.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.utils.imports import symbol_by_name

__all__ = ('ModelFunction',)


class ModelFunction:
    """Calls a task's function with models made from data, and returns data in place of a model.

    `strict` and `context` are those of pydantic's ``model_validate``; its context also has ``celery_app`` and
    ``celery_task_name``. `dump` are arguments of ``model_dump``.
    """

    def __init__(self, fun: Callable[..., Any], app: Any, task_name: str, bound: bool, strict: bool = False,
                 context: Mapping[str, Any] | None = None, dump: Mapping[str, Any] | None = None) -> None:
        functools.update_wrapper(self, fun)
        self.fun = fun
        self.bound = bound
        self.strict = strict
        self.context = {**(context or {}), 'celery_app': app, 'celery_task_name': task_name}
        self.dump = {'mode': 'json', **(dump or {})}
        self.base_model = _load_base_model()
        self.signature = inspect.signature(fun)
        hints = _hints(fun, self.signature)
        self.models = {name: model for name, hint in hints.items() if (model := self._model_of(hint)) is not None}
        self.returned = _class_of(hints.get('return'))

    def _model_of(self, hint: Any) -> Any:
        found = _class_of(hint)
        return found if found is not None and issubclass(found, self.base_model) else None

    def __get__(self, task: Any, owner: type | None = None) -> Any:
        return self if task is None else types.MethodType(self, task)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self.signature.bind(*args, **kwargs)
        for name, value in call.arguments.items():
            if name in self.models and value is not None:
                call.arguments[name] = self._validate(self.models[name], value)
        value = self.fun(*call.args, **call.kwargs)
        if self.returned is not None and isinstance(value, self.base_model) and isinstance(value, self.returned):
            return value.model_dump(**self.dump)
        return value

    def _validate(self, model: Any, value: Any) -> Any:
        return model.model_validate(value, strict=self.strict, context=self.context)

    def dump_arguments(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """The caller's arguments with models as data; as they are where they do not fit the function."""
        try:
            call = self.signature.bind(*([None] if self.bound else []), *(args or ()), **(kwargs or {}))
        except TypeError:
            return args, kwargs  # the check of arguments, or the worker, says what is wrong
        positions = list(self.signature.parameters)[1 if self.bound else 0:]
        found = {name: self._dump(name, value) for name, value in call.arguments.items() if name in self.models}
        if not found:
            return args, kwargs
        dumped = [found.get(positions[at], value) if at < len(positions) else value
                  for at, value in enumerate(args or ())]
        return dumped, {name: found.get(name, value) for name, value in (kwargs or {}).items()}

    def _dump(self, name: str, value: Any) -> Any:
        """Data from which the worker makes an equal model; the value itself where that cannot be done."""
        if not isinstance(value, self.base_model) or hasattr(type(value), '__json__'):
            return value
        try:
            data = value.model_dump(**self.dump)
            return data if self._validate(self.models[name], data) == value else value
        except Exception:  # a validator of the user's that only works on a worker: the serializer decides
            return value


def _load_base_model() -> Any:
    try:
        return symbol_by_name('pydantic:BaseModel')
    except ImportError as exc:
        raise ImproperlyConfigured("a task with pydantic=True needs pydantic: pip install 'pydantic>=2'") from exc


def _hints(fun: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    try:
        return typing.get_type_hints(fun)
    except (NameError, AttributeError, TypeError):  # an annotation that only type checkers can resolve
        found = {name: parameter.annotation for name, parameter in signature.parameters.items()}
        return {**found, 'return': signature.return_annotation}


def _class_of(hint: Any) -> Any:
    """The class that an annotation names, be it optional; else None."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        others = [one for one in typing.get_args(hint) if one is not type(None)]
        hint = others[0] if len(others) == 1 else None
    return hint if isinstance(hint, type) and not isinstance(hint, types.GenericAlias) else None
