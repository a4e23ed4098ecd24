"""`Panel`: the registry of remote control commands, functions of a `PanelState` and arguments that return the reply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple


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


def control_command(**options: Any) -> Any:
    """Decorator for a command that changes something."""
    return Panel.register(type='control', **options)


def inspect_command(**options: Any) -> Any:
    """Decorator for a command that only looks."""
    return Panel.register(type='inspect', **options)
