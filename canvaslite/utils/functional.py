"""Small things done with functions and sequences."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from types import CoroutineType, FunctionType
from typing import Any

from kombu.utils.functional import maybe_list as maybe_list

from canvaslite.utils.imports import FoundByName

#: Most processes run no coroutine, and what runs them takes as long to import as all the rest.
_run_coroutine = FoundByName('asyncio:run')


def _empty() -> None:
    return None


def either(value: Any, default: Any) -> Any:
    """`value`, or `default` where it is None."""
    return default if value is None else value


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def await_here(value: Any) -> Any:
    """What `value` comes to: the coroutine of an ``async def`` runs, in an event loop of its own; all else is itself.
    Raises `RuntimeError` within a running event loop."""
    return _run_coroutine(value) if isinstance(value, CoroutineType) else value


def head_from_fun(fun: Callable[..., Any], bound: bool = False) -> Callable[..., Any]:
    """A function that takes `fun`'s arguments, with `bound` without the first, and does nothing: the quickest check."""
    if isinstance(fun, FunctionType):
        return _copy_head(fun, 1 if bound and fun.__code__.co_argcount else 0)
    try:
        signature = inspect.signature(fun)
    except (TypeError, ValueError):  # a builtin that does not say what it takes
        return lambda *args, **kwargs: None
    return signature.replace(parameters=list(signature.parameters.values())[1 if bound else 0:]).bind


def _copy_head(fun: FunctionType, skipped: int) -> Callable[..., Any]:
    code = fun.__code__
    starred = code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)
    names = code.co_varnames[skipped:code.co_argcount + code.co_kwonlyargcount + starred.bit_count()]
    head = _empty.__code__.replace(
        co_name=code.co_name, co_varnames=names, co_nlocals=len(names), co_argcount=code.co_argcount - skipped,
        co_posonlyargcount=max(code.co_posonlyargcount - skipped, 0), co_kwonlyargcount=code.co_kwonlyargcount,
        co_flags=_empty.__code__.co_flags | starred)
    made = FunctionType(head, {}, code.co_name, fun.__defaults__)
    made.__kwdefaults__ = fun.__kwdefaults__  # type: ignore[assignment]
    made.__qualname__ = code.co_name  # what the error says
    return made


def user_stacklevel() -> int:
    """The `stacklevel` with which the caller's `warnings.warn` points at the innermost line outside canvaslite."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get('__name__', '').partition('.')[0] == 'canvaslite':
        frame, level = frame.f_back, level + 1
    return level
