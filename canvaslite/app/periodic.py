"""Entries of the schedule that a program adds: ``app.add_periodic_task``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ('describe_periodic_task',)


def describe_periodic_task(app: Any, schedule: Any, sig: Any, args: Any, kwargs: Mapping[str, Any] | None,
                           name: str | None, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and entry for `sig`, a signature or a task, to be run as `schedule` says."""
    if hasattr(sig, 'clone'):
        sig = sig.clone(args or (), dict(kwargs or {}))
    else:
        sig = app.signature(sig.name, args or (), dict(kwargs or {}))
    return name or repr(sig), {
        'schedule': schedule,
        'task': sig.name,
        'args': sig.args,
        'kwargs': sig.kwargs,
        'options': {**sig.options, **options},
    }
