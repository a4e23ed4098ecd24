"""Finding the app that ``-A`` names, and the modules that hold its tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from importlib import import_module
from types import ModuleType
from typing import Any

from canvaslite.current import active_apps
from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.utils.imports import describe_missing, import_from_cwd, symbol_by_name


def find_app(name: Any) -> Any:
    """The app of that name, looked for in the current directory first; an app is returned as it is.

    ``proj``, ``proj.celery`` and the like: the module's attribute ``app``, then ``celery``, then the submodule
    ``proj.celery``, then any app that the module holds. ``proj.celery:app`` and ``proj.app``: that very object. Raises
    `ImproperlyConfigured` where there is none.
    """
    if not isinstance(name, str):
        return name
    try:
        found = _find_object(name)
        if isinstance(found, ModuleType) and ':' not in name:
            found = _find_in_module(found, name)
    except ModuleNotFoundError as exc:
        raise ImproperlyConfigured(f'cannot load app {name!r}: {describe_missing(exc)}') from exc
    except AttributeError as exc:
        raise ImproperlyConfigured(f'cannot load app {name!r}: {exc}') from exc
    except ValueError as exc:
        raise ImproperlyConfigured(f'{name!r} is no name of an app: expected module or module:attribute') from exc
    if found is None or isinstance(found, ModuleType):
        raise ImproperlyConfigured(f'there is no app in module {name!r}: expected one called app or celery, '
                                   f'or name it as {name}:attribute')
    return found


def _find_object(name: str) -> Any:
    try:
        return symbol_by_name(name, imp=import_from_cwd)
    except AttributeError:
        if ':' in name:
            raise
        return import_from_cwd(name)  # its last part is a module


def _find_in_module(module: ModuleType, name: str) -> Any:
    for attribute in ('app', 'celery'):
        found = getattr(module, attribute, None)
        if found is not None and not isinstance(found, ModuleType):
            return found
    if hasattr(module, '__path__') and not name.endswith('.celery'):
        submodule = _import_if_there(f'{name}.celery')
        found = submodule and _find_in_module(submodule, f'{name}.celery')
        if found is not None:
            return found
    apps = active_apps()
    return next((value for value in vars(module).values() if any(value is app for app in apps)), None)


def _import_if_there(name: str) -> ModuleType | None:
    """The module, or None where there is none. Raises `ImportError` where an import in it fails."""
    try:
        return import_from_cwd(name)
    except ModuleNotFoundError as exc:
        if exc.name == name:
            return None
        raise


_discovering = threading.local()


def autodiscover_tasks(packages: Iterable[str] | Callable[[], Iterable[str]] | None, related_name: str | None = 'tasks',
                       **_: Any) -> list[ModuleType]:
    """Import the module `related_name` of each of `packages` that has one; the package itself where it is empty.

    `packages` may be a function that returns them; a package's name also that of a class in one, as Django's apps are.
    A receiver of ``import_modules``. Raises `ImportError`.
    """
    # A module found so may itself call for a discovery while it is imported.
    if getattr(_discovering, 'active', False):
        return []
    _discovering.active = True
    try:
        named = packages() if callable(packages) else packages
        found = [_find_related_module(package, related_name) for package in named or ()]
    finally:
        _discovering.active = False
    return [module for module in found if module is not None]


def _find_related_module(package: str, related_name: str | None) -> ModuleType | None:
    try:
        module = import_module(package)
    except ModuleNotFoundError:
        package = package.rpartition('.')[0]
        if not package:
            raise
    else:
        if not related_name:
            return module
    return _import_if_there(f'{package}.{related_name}')
