"""Small things done with functions and sequences."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any

__all__ = ('head_from_fun', 'maybe_list')

_SCALARS = (str, bytes, Mapping)


def maybe_list(value: Any, scalars: tuple[type, ...] = _SCALARS) -> Any:
    """`value` if it is None or a sequence, else a list with it."""
    return value if value is None or (isinstance(value, Iterable) and not isinstance(value, scalars)) else [value]


def _empty() -> None:
    return None


def head_from_fun(fun: Callable[..., Any], bound: bool = False) -> Callable[..., Any]:
    """A function that takes the arguments that `fun` takes and does nothing.

    Calling it is the quickest way to find out whether arguments fit, with Python's own `TypeError` if they do not.
    With `bound` the first argument (``self``) is not asked for.
    """
    if inspect.isfunction(fun):
        return _copy_head(fun, bound)
    if inspect.ismethod(fun):
        return _copy_head(fun.__func__, True) if inspect.isfunction(fun.__func__) else SignatureHead(fun, bound)
    return SignatureHead(fun, bound)


def _copy_head(fun: Callable[..., Any], bound: bool) -> Callable[..., Any]:
    code: Any = fun.__code__  # type: ignore[attr-defined]
    skipped = 1 if bound and code.co_argcount else 0
    names = code.co_varnames[skipped:_count_names(code)]
    head = _empty.__code__.replace(
        co_name=code.co_name, co_varnames=names, co_nlocals=len(names),
        co_argcount=code.co_argcount - skipped,
        co_posonlyargcount=max(code.co_posonlyargcount - skipped, 0),
        co_kwonlyargcount=code.co_kwonlyargcount,
        co_flags=_empty.__code__.co_flags | code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS))
    made = FunctionType(head, {}, code.co_name, fun.__defaults__)  # type: ignore[attr-defined]
    made.__kwdefaults__ = fun.__kwdefaults__  # type: ignore[attr-defined]
    made.__qualname__ = code.co_name  # what the error says
    return made


def _count_names(code: Any) -> int:
    starred = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return int(code.co_argcount + code.co_kwonlyargcount + starred)


class SignatureHead:
    """Checks arguments for a callable that is no Python function; accepts all where Python cannot tell."""

    __slots__ = ('signature',)

    def __init__(self, fun: Callable[..., Any], bound: bool = False) -> None:
        try:
            signature = inspect.signature(fun)
        except (TypeError, ValueError):  # a builtin that does not say what it takes
            self.signature = None
            return
        parameters = list(signature.parameters.values())
        self.signature = signature.replace(parameters=parameters[1:] if bound else parameters)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        if self.signature is not None:
            self.signature.bind(*args, **kwargs)
