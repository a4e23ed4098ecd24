"""The import hook: ``celery.X`` *is* the module of ours that has its role, under its own name too.

Where one module of Celery became several here, the first of them is it, and shows the others' names as its own. What
is set on it is set in each of them that has the name: code that patches a name finds it patched where it is used.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any, cast

from canvaslite.dropin.homes import HOMES, RENAMED

_OURS, _THEIRS = 'canvaslite', 'celery'


class Facade(ModuleType):
    """A module that shows the names of other modules of ours, and those that Celery calls otherwise."""

    _others: tuple[str, ...] = ()
    _renamed: dict[str, str] = {}
    #: What was there before something was set through this module: by name, the modules and their values.
    _before: dict[str, list[tuple[Any, str, Any]]]

    def _places(self, name: str) -> Iterator[tuple[ModuleType, str]]:
        """The modules that have `name`, and what it is called there; this one, if it has it, is the first."""
        if name in self.__dict__:
            yield self, name
        if name in self._renamed:
            module, _, own_name = self._renamed[name].rpartition(':')
            yield import_module(f'{_OURS}.{module}'), own_name
        if not name.startswith('__'):
            for module in self._others:
                found = import_module(f'{_OURS}.{module}')
                if name in found.__dict__:
                    yield found, name

    def __getattr__(self, name: str) -> Any:
        for module, own_name in self._places(name):
            return getattr(module, own_name)
        own = self.__dict__.get('__getattr__')
        if own is not None:
            return own(name)
        inner = f'{_FACADES[self.__name__]}.{name}'
        if inner in HOMES:  # there, it would have been imported with the worker
            return import_module(f'{_THEIRS}.{inner}')
        raise AttributeError(f'module {self.__name__!r} has no attribute {name!r}')

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and value.__name__ == f'{self.__name__}.{name}':  # the import system does that
            if name not in self._renamed:
                super().__setattr__(name, value)
            return
        places = [] if name.startswith('__') else list(self._places(name))
        if not places:
            super().__setattr__(name, value)
            return
        values = [(module, own_name, getattr(module, own_name)) for module, own_name in places]
        same = [place for place in values if place[2] is values[0][2]]
        if name not in self.__dict__:
            self._before[name] = same
        for module, own_name, _ in same:
            ModuleType.__setattr__(module, own_name, value)

    def __delattr__(self, name: str) -> None:
        # What is not ours was only covered: whoever deletes it wants back what was there.
        if name in self.__dict__:
            super().__delattr__(name)
        for module, own_name, value in self._before.pop(name, ()):
            ModuleType.__setattr__(module, own_name, value)


def own_name(name: str) -> str:
    """The full name of our module that is Celery's module `name` (without ``celery.``; '' is the package itself)."""
    first = HOMES.get(name, (name,))[0]
    return f'{_OURS}.{first}' if first else _OURS


#: Our modules that show names which are not theirs: which of Celery's they are.
_FACADES = {own_name(name): name for name in {**HOMES, **RENAMED}
            if len(HOMES.get(name, ())) > 1 or name in RENAMED}


def make_facade(module: ModuleType) -> None:
    """Let `module` show the names that Celery's has."""
    name = _FACADES[module.__name__]
    renamed = RENAMED.get(name, {})
    module.__dict__.update(_others=HOMES.get(name, ())[1:], _renamed=renamed, _before={})
    for covered in renamed.keys() & module.__dict__.keys():
        if isinstance(module.__dict__[covered], ModuleType):
            del module.__dict__[covered]  # there, what Celery has under the name of a module of ours
    module.__class__ = Facade


class FacadeLoader(SourceFileLoader):
    """Loads a module of ours that is to be a facade."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        make_facade(module)


class AliasLoader(InspectLoader):
    """Loads nothing: the module is there."""

    def __init__(self, own: ModuleSpec) -> None:
        self._name, self._own = own.name, cast(SourceFileLoader, own.loader)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self._module = import_module(self._name)
        self._own_spec = self._module.__spec__
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own_spec  # the import system has written the alias's over it

    def get_source(self, fullname: str) -> str | None:
        return self._own.get_source(self._name)

    def get_code(self, fullname: str) -> CodeType | None:
        return self._own.get_code(self._name)


class AliasFinder(MetaPathFinder):
    """Finds ``celery`` and all below it here; never a Celery that may be installed beside."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        top, _, name = fullname.partition('.')
        if top == _OURS and fullname == own_name(name):
            spec = PathFinder.find_spec(fullname, path) if fullname in _FACADES else None
            if spec is not None:
                spec.loader = FacadeLoader(fullname, spec.origin or '')
            return spec
        if top != _THEIRS and not (top == _OURS and name in HOMES):  # ``from celery import X`` asks for canvaslite.X
            return None
        try:
            own = find_spec(own_name(name))
        except ModuleNotFoundError:
            own = None
        if own is None:
            raise ModuleNotFoundError(f'No module named {fullname!r}: there is no {own_name(name)!r}', name=fullname)
        return ModuleSpec(fullname, AliasLoader(own), origin=own.origin,
                          is_package=own.submodule_search_locations is not None)


def install() -> None:
    """Give the name ``celery`` to canvaslite in this process. Raises `RuntimeError`: the real one was imported."""
    if any(isinstance(finder, AliasFinder) for finder in sys.meta_path):
        return
    if _THEIRS in sys.modules:
        raise RuntimeError('celery was imported before canvaslite.dropin.install() could take its place')
    sys.meta_path.insert(0, AliasFinder())
    for name in _FACADES.keys() & sys.modules.keys():
        make_facade(sys.modules[name])
