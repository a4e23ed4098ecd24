"""Finding modules and what is in them by name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from traceback import extract_tb
from types import ModuleType
from typing import Any

from kombu.utils.imports import symbol_by_name as symbol_by_name


class FoundByName:
    """A function known by its name, and imported when it is first called."""

    __slots__ = ('function', 'name')

    def __init__(self, name: str) -> None:
        self.name = name
        self.function: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.function is None:
            self.function = symbol_by_name(self.name)
        return self.function(*args, **kwargs)


def instantiate(name: Any, *args: Any, **kwargs: Any) -> Any:
    """An instance of the class of that name."""
    return symbol_by_name(name)(*args, **kwargs)


def qualname(obj: Any) -> str:
    """Dotted name of a function or class, or of the class of any other object."""
    if not hasattr(obj, '__name__'):
        obj = type(obj)
    name: str = getattr(obj, '__qualname__', obj.__name__)
    return name if '.' in name else f'{obj.__module__}.{name}'


@contextmanager
def cwd_in_path() -> Iterator[None]:
    """Within it, modules of the current directory are found first."""
    try:
        directory = os.getcwd()
    except FileNotFoundError:  # deleted under our feet
        directory = ''
    if not directory or directory in sys.path:
        yield
        return
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        if directory in sys.path:
            sys.path.remove(directory)


def import_from_cwd(module: str, package: str | None = None) -> ModuleType:
    """Import `module`, looking in the current directory first."""
    with cwd_in_path():
        return import_module(module, package=package)


def describe_missing(exc: ModuleNotFoundError) -> str:
    """Which module is not there, and what asked for it, or what to do where we did by its name."""
    asked = [frame for frame in extract_tb(exc.__traceback__) if not frame.filename.startswith('<frozen')][-1]
    if asked.filename == import_module.__code__.co_filename:
        return f'there is no module {exc.name!r} here; run in its folder or pass --workdir'
    return f'{asked.filename}, line {asked.lineno}, imports {exc.name!r}, which is not there'
