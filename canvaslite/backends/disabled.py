"""No results: what an app without ``result_backend`` has."""

from __future__ import annotations

from typing import Any, NoReturn

from canvaslite.backends.base import BaseBackend

SET_ONE = 'set result_backend, as in result_backend = db+sqlite:///results.sqlite'
NO_RESULTS = f'No result backend is configured, so there are no results; {SET_ONE}'
NO_CHORDS = f'Starting chords requires a result backend to be configured; {SET_ONE}. ' \
            'A group followed by a task is a chord too, because it must wait for the group'


class DisabledBackend(BaseBackend):
    """Stores nothing. What would need a stored result raises `NotImplementedError`, as Celery's does."""

    thread_safe = True
    keeps_results = False

    def store_result(self, *args: Any, **kwargs: Any) -> None:
        """Keep nothing."""

    def ensure_chords_allowed(self) -> NoReturn:
        """Raise: the parts of a chord could be counted nowhere."""
        raise NotImplementedError(NO_CHORDS)

    def as_uri(self, include_password: bool = False) -> str:
        """``disabled://``."""
        return 'disabled://'

    def _is_disabled(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(NO_RESULTS)

    get_task_meta = get_task_metas = get_state = get_status = get_result = get_traceback = _is_disabled
    get_children = wait_for = wait_for_pending = get_many = iter_native = forget = _is_disabled
    save_group = restore_group = get_group_meta = delete_group = _is_disabled
