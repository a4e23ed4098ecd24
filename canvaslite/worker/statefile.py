"""`StateFile`: what a worker is to know when it is started again, in the file that ``worker_state_db`` names: what is
revoked, and its logical clock.

It is JSON, replaced as a whole: within `INTERVAL` of a change, for a worker may be killed, and when the worker ends.
Its name gets an ending of its own, so that Celery's file of the same setting, which is of another kind, stays as it is.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.utils.log import worker_logger as logger
from canvaslite.worker.state import Revoked

ENDING = '.json'
#: Seconds between two writes, at least.
INTERVAL = 1.0


class StateFile:
    """Keeps `revoked` and `clock` in the file `path` + `ENDING`, and takes over at once what an earlier worker knew.

    An id that it knew is then revoked for as long as if that happened now, as with Celery. Raises
    `ImproperlyConfigured` for a file that is something else, or that cannot be written.
    """

    def __init__(self, path: str, revoked: Revoked, clock: Any, hub: Any) -> None:
        self.path = path + ENDING
        self._revoked, self._clock, self._hub = revoked, clock, hub
        self._timer: Any = None
        try:
            self._load()
            self._write()
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise ImproperlyConfigured(f'worker_state_db: {self.path} is not what a worker has written ({exc!r}). '
                                       'Name another file, or delete it.') from exc
        except OSError as exc:
            raise ImproperlyConfigured(f'worker_state_db: the file {self.path} cannot be used: {exc.strerror}. '
                                       'Name one in a folder in which this user may write.') from exc
        revoked.on_change = revoked.roots.on_change = self._write_soon

    def _load(self) -> None:
        try:
            with open(self.path, encoding='utf-8') as file:
                known = json.load(file)
        except FileNotFoundError:
            return
        self._revoked.update(known['revoked'])
        self._revoked.roots.update(known['roots'])
        self._revoked.revoke_stamps(known['stamps'])
        self._clock.adjust(int(known['clock']))

    def _write_soon(self) -> None:
        if self._timer is None:
            due = self._written_at + INTERVAL - time.monotonic()
            self._timer = self._hub.call_later(max(due, 0.0), self.save)

    def save(self) -> None:
        """Write the file now. Where that fails it is logged, and tried again when something changes."""
        self._timer = None
        try:
            self._write()
        except OSError as exc:
            logger.error('worker_state_db: the file %s cannot be written: %s. What is revoked now is not known after a '
                         'restart.', self.path, exc.strerror)

    def _write(self) -> None:
        revoked = self._revoked
        self._written_at = time.monotonic()
        revoked.purge()
        revoked.roots.purge()
        unfinished = f'{self.path}.{os.getpid()}'
        with open(unfinished, 'w', encoding='utf-8') as file:
            json.dump({'revoked': list(revoked), 'roots': list(revoked.roots), 'stamps': revoked.stamps,
                       'clock': self._clock.value}, file, default=str)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, self.path)

    def close(self) -> None:
        """Write it for the last time."""
        self._revoked.on_change = self._revoked.roots.on_change = bool
        self.save()
