"""Finding modules and what is in them by name."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ('NotAPackage', 'symbol_by_name', 'instantiate', 'qualname', 'cwd_in_path', 'find_module', 'import_from_cwd',
           'reload_from_cwd', 'module_file')


class NotAPackage(Exception):
    """A dotted name goes through something that is not a package."""


def symbol_by_name(name: Any, aliases: Mapping[str, str] | None = None, imp: Callable[..., ModuleType] | None = None,
                   package: str | None = None) -> Any:
    """The object called ``module:attribute`` or ``module.attribute``; what is not a string is returned as it is.

    As kombu's function of this name, without the imports that kombu's brings along.

    Raises:
        ImportError: there is no such module.
        AttributeError: the module has no such attribute.
        ValueError: the name cannot be one of a module.
    """
    if not isinstance(name, str):
        return name
    name = (aliases or {}).get(name, name)
    module_name, _, attribute = name.rpartition(':' if ':' in name else '.')
    if not module_name:
        module_name, attribute = (package, attribute) if package else (attribute, '')
    try:
        module = (imp or importlib.import_module)(module_name, package=package)
    except ValueError as exc:
        raise ValueError(f"Couldn't import {name!r}: {exc}") from exc
    return getattr(module, attribute) if attribute else module


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
def cwd_in_path() -> Iterator[str | None]:
    """Within it, modules of the current directory are found first."""
    try:
        directory: str | None = os.getcwd()
    except FileNotFoundError:  # deleted under our feet
        directory = None
    if not directory or directory in sys.path:
        yield directory
        return
    sys.path.insert(0, directory)
    try:
        yield directory
    finally:
        if directory in sys.path:
            sys.path.remove(directory)


def import_from_cwd(module: str, imp: Callable[..., ModuleType] | None = None,
                    package: str | None = None) -> ModuleType:
    """Import `module`, looking in the current directory first."""
    with cwd_in_path():
        return (imp or importlib.import_module)(module, package=package)


def find_module(module: str, path: Any = None, imp: Callable[[str], ModuleType] | None = None) -> ModuleType:
    """Import the dotted name `module`.

    Raises:
        NotAPackage: a part of the name before the last is a plain module, as in ``celeryconfig.py``.
    """
    load = imp or importlib.import_module
    with cwd_in_path():
        try:
            return load(module)
        except ImportError as exc:
            culprit = _first_that_is_no_package(module, load)
            if culprit:
                raise NotAPackage(culprit) from exc
            raise


def _first_that_is_no_package(module: str, load: Callable[[str], ModuleType]) -> str | None:
    parts = module.split('.')
    for count in range(1, len(parts)):
        parent = '.'.join(parts[:count])
        try:
            found = load(parent)
        except ImportError:
            return None
        if not hasattr(found, '__path__'):
            return parent
    return None


def reload_from_cwd(module: ModuleType, reloader: Callable[[ModuleType], ModuleType] | None = None) -> ModuleType:
    """Load `module` again, looking in the current directory first."""
    with cwd_in_path():
        return (reloader or importlib.reload)(module)


def module_file(module: ModuleType) -> str:
    """Path of the module's source."""
    name = module.__file__ or ''
    return name[:-1] if name.endswith('.pyc') else name
