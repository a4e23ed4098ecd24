"""canvaslite: tasks and canvases over AMQP, compatible with Celery.

The public names are loaded on first use, so that ``import canvaslite`` costs nothing and a process that
only sends tasks never loads the worker. Tools see the same names through the imports under ``TYPE_CHECKING``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from canvaslite.version import __version__

if TYPE_CHECKING:
    from canvaslite import exceptions, signals, states
    from canvaslite.app.application import Celery, bugreport
    from canvaslite.app.declare import shared_task
    from canvaslite.app.task import Task
    from canvaslite.canvas import (  # isort: skip
        Signature, StampingVisitor, chain, chord, chunks, group, maybe_signature, signature, starmap, subtask, xmap,
        xstarmap)
    from canvaslite.current import app_or_default, current_app, current_task
    from canvaslite.utils.uuid import uuid

__all__ = (
    # the application and its tasks
    'Celery', 'Task', 'shared_task', 'current_app', 'current_task', 'app_or_default', 'bugreport',
    # canvases
    'Signature', 'signature', 'maybe_signature', 'subtask', 'chain', 'group', 'chord', 'chunks', 'xmap', 'xstarmap',
    'starmap', 'StampingVisitor',
    # vocabulary
    'states', 'exceptions', 'signals', 'uuid', '__version__',
)

#: Where each public name lives. A module stands for itself.
_HOMES = {
    **dict.fromkeys(('Celery', 'bugreport'), 'canvaslite.app.application'),
    'shared_task': 'canvaslite.app.declare',
    'Task': 'canvaslite.app.task',
    **dict.fromkeys(('current_app', 'current_task', 'app_or_default'), 'canvaslite.current'),
    **dict.fromkeys(('Signature', 'signature', 'maybe_signature', 'subtask', 'chain', 'group', 'chord', 'chunks',
                     'xmap', 'xstarmap', 'starmap', 'StampingVisitor'), 'canvaslite.canvas'),
    'uuid': 'canvaslite.utils.uuid',
    **{name: f'canvaslite.{name}' for name in ('states', 'exceptions', 'signals')},
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module = import_module(_HOMES[name])
    globals()[name] = value = module if name in ('states', 'exceptions', 'signals') else getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
