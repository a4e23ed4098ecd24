"""The scenarios: functions that say and send something with the canvas and the tasks of whichever package they get."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

Scenario = Callable[[Any, Any, Any], None]

#: All scenarios, by name: the function's, with spaces.
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    """Decorator: a function of the stage, the package's canvas module and the project's tasks is a scenario."""
    name = function.__name__.strip('_').replace('_', ' ')
    if name in SCENARIOS:
        raise ValueError(f'two scenarios are called {name!r}')
    SCENARIOS[name] = function
    return function


for module in iter_modules(__path__):
    import_module(f'{__name__}.{module.name}')
