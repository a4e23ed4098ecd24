"""`Models`: a task's function whose annotations name pydantic models; they travel as plain data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import update_wrapper
from itertools import zip_longest
from types import CoroutineType, GenericAlias, MethodType, NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from canvaslite.exceptions import ImproperlyConfigured


class Models:
    """Calls `fun` with a model for each argument that is annotated with one, and dumps the model that it returns.

    `strict` and `context` are for the validation, `dump` are arguments of ``model_dump``.

    Raises `ImproperlyConfigured`: pydantic is not there.
    """

    def __init__(self, app: Any, fun: Callable[..., Any], name: str, bound: bool, strict: bool | None,
                 context: Mapping[str, Any] | None, dump: Mapping[str, Any] | None) -> None:
        try:
            import pydantic  # noqa: PLC0415
        except ImportError:
            raise ImproperlyConfigured('You need to install pydantic to use pydantic model serialization.') from None
        update_wrapper(self, fun)
        self.fun = fun
        self.base: Any = pydantic.BaseModel
        self.validation = {'strict': bool(strict), 'context': {**(context or {}), 'celery_app': app,
                                                         'celery_task_name': name}}
        self.dumping = {'mode': 'json', **(dump or {})}
        self.signature = inspect.signature(fun)
        try:
            hints = get_type_hints(fun)
        except (NameError, AttributeError, TypeError):  # names of a function's own, or for type checkers only
            hints = {}
        parameters = [parameter for parameter in self.signature.parameters.values()
                      if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)]
        annotations = {parameter.name: hints.get(parameter.name, parameter.annotation) for parameter in parameters}
        #: The models of arguments by name; of which None may come in their place; the names of those by position.
        self.models: dict[str, Any] = {name: model for name, annotation in annotations.items()
                       if issubclass(model := _annotated_class(annotation), self.base)}
        self.nullable = {name for name in self.models if annotations[name] is not self.models[name]}
        self.positional = [parameter.name for parameter in parameters
                           if parameter.kind is not parameter.KEYWORD_ONLY][bound:]
        self.returned: Any = _annotated_class(hints.get('return', self.signature.return_annotation))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = self.signature.bind(*args, **kwargs)
        for name in self.models.keys() & given.arguments.keys():
            given.arguments[name] = self._load(name, given.arguments[name])
        value = self.fun(*given.args, **given.kwargs)
        return self._finish(value) if isinstance(value, CoroutineType) else self._dump_returned(value)

    async def _finish(self, value: CoroutineType[Any, Any, Any]) -> Any:
        return self._dump_returned(await value)

    def _dump_returned(self, value: Any) -> Any:
        if isinstance(value, self.base) and isinstance(value, self.returned):
            return value.model_dump(**self.dumping)
        return value

    def __get__(self, task: Any, cls: Any = None) -> Any:
        return self if task is None else MethodType(self, task)

    def _load(self, name: str, value: Any) -> Any:
        if value is None and name in self.nullable:
            return None
        return self.models[name].model_validate(value, **self.validation)

    def dump_arguments(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """The arguments with data in place of the models that the task will get back equal."""
        if not isinstance(args or (), (list, tuple)) or not isinstance(kwargs or {}, Mapping):
            return args, kwargs
        values = [self._dump(name, value) for name, value in zip_longest(self.positional[:len(args or ())], args or ())]
        named = {name: self._dump(name, value) for name, value in (kwargs or {}).items()}
        if any(new is not old for new, old in zip(values, args or (), strict=True)):
            args = type(args)(values)
        if any(named[name] is not value for name, value in (kwargs or {}).items()):
            kwargs = named
        return args, kwargs

    def _dump(self, name: str | None, value: Any) -> Any:
        if name not in self.models or not isinstance(value, self.base) or hasattr(type(value), '__json__'):
            return value
        with suppress(Exception):  # its validators may need what only a worker has: the serializer has the last word
            data = value.model_dump(**self.dumping)
            if self._load(name, data) == value:
                return data
        return value


def _annotated_class(annotation: Any) -> type:
    """The class that the annotation names, alone or besides None; ``NoneType`` where it names none."""
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        annotation = members[0] if len(members) == 1 else None
    return annotation if isinstance(annotation, type) and not isinstance(annotation, GenericAlias) else NoneType
