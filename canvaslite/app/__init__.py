"""The application: what a program defines, configures, and asks for the rest."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from canvaslite.app.application import Celery
    from canvaslite.app.declare import shared_task
    from canvaslite.app.report import bugreport
    from canvaslite.current import app_or_default

__all__ = ('Celery', 'app_or_default', 'bugreport', 'shared_task')

#: Loaded on first use: whoever imports one module of this room does not get all of it.
_HOMES = {
    'Celery': 'canvaslite.app.application',
    'shared_task': 'canvaslite.app.declare',
    'bugreport': 'canvaslite.app.report',
    'app_or_default': 'canvaslite.current',
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(_HOMES[name]), name)
