"""`Panel`: the registry of remote control commands.

A command is a function of a `PanelState` and the arguments that the caller sent; what it returns is the reply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

__all__ = ('CommandInfo', 'Panel', 'PanelState', 'control_command', 'inspect_command', 'nok', 'ok')


def ok(value: Any) -> dict[str, Any]:
    """The reply of a command that did what it was asked."""
    return {'ok': value}


def nok(value: Any) -> dict[str, Any]:
    """The reply of a command that could not."""
    return {'error': value}


class PanelState:
    """What a command works on: the app, the worker's name, and its consumer (``consumer.controller`` is the worker)."""

    def __init__(self, app: Any, hostname: str, consumer: Any) -> None:
        self.app = app
        self.hostname = hostname
        self.consumer = consumer

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
        command = _Registration(**options)
        return command(args[0]) if args else command


class _Registration:
    """A decorator that adds a function to the panel."""

    def __init__(self, name: str | None = None, alias: str | None = None, type: str = 'control', visible: bool = True,
                 default_timeout: float = 1.0, help: str | None = None, signature: str | None = None,
                 args: Sequence[tuple[str, Any]] | None = None, variadic: str | None = None) -> None:
        self.name = name
        self.info = CommandInfo(alias, type, visible, default_timeout, help or '', signature, args, variadic)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        name = self.name or function.__name__
        summary = self.info.help or (function.__doc__ or '').strip().split('\n')[0]
        Panel.data[name] = function
        Panel.meta[name] = self.info._replace(help=summary)
        if self.info.alias:
            Panel.data[self.info.alias] = function
        return function


def control_command(**options: Any) -> Any:
    """Decorator for a command that changes something."""
    return Panel.register(type='control', **options)


def inspect_command(**options: Any) -> Any:
    """Decorator for a command that only looks."""
    return Panel.register(type='inspect', **options)
