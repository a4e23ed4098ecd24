"""`SpawnedPreparation`: what a process that is spawned, not forked, has of its parent. The app is found again by
importing the module in which it is."""

from __future__ import annotations

import pickle
import sys
from importlib import import_module
from typing import Any

from kombu.utils.imports import symbol_by_name

from canvaslite.execution.entry import Executor
from canvaslite.pools.base import Preparation

DROPIN = 'canvaslite.dropin'


class SpawnedPreparation(Preparation):
    """Stands for `preparation` until the process is there that it is for."""

    def __init__(self, preparation: Preparation) -> None:
        """Nothing of the base's own is needed before."""
        app = preparation.app
        self.made_by = type(preparation)
        self.args = preparation.hostname, preparation.pool_cls
        self.log = preparation.log
        self.dropin = any(type(finder).__module__.startswith(DROPIN) for finder in sys.meta_path)
        self.place = _place_of(app)
        #: None, or one without a place, of which there is only what can be sent.
        self.app: Any = None if self.place else app
        self.changes = {name: value for name, value in app.conf.changes.items() if _is_picklable(value)}
        self._made: Any = None

    def enter(self, index: int) -> Executor:
        """As `Preparation.enter`."""
        self._made = self.made_by(self._load(), *self.args)
        executor: Executor = self._made.enter(index)
        return executor

    def leave(self, exitcode: int) -> None:
        """As `Preparation.leave`, if it came to be."""
        if self._made is not None:
            self._made.leave(exitcode)

    def _load(self) -> Any:
        if self.dropin:
            symbol_by_name(f'{DROPIN}:install')()
        app = self.app if self.place is None else getattr(import_module(self.place[0]), self.place[1])
        app.conf.update(self.changes)
        app.import_default_modules()
        if self.log is not None:
            app.log.setup(*self.log, redirect_stdouts=app.conf.worker_redirect_stdouts,
                          redirect_level=app.conf.worker_redirect_stdouts_level)
        return app


def _place_of(app: Any) -> tuple[str, str] | None:
    """A module and the name that `app` has there."""
    for module_name, module in list(sys.modules.items()):
        if not module_name.startswith('canvaslite.'):
            for name, value in list(getattr(module, '__dict__', {}).items()):
                if value is app:
                    return module_name, name
    return None


def _is_picklable(value: Any) -> bool:
    """Whether a setting can be sent; one that cannot is made by the app's own module, which is imported."""
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True
