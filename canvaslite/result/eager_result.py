"""`EagerResult`: the result of a task that was called here and now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vine import Thenable

from canvaslite import states
from canvaslite.exceptions import TaskRevokedError
from canvaslite.result.async_result import AsyncResult
from canvaslite.result.blocking import assert_will_not_block

__all__ = ('EagerResult',)


@Thenable.register
class EagerResult(AsyncResult):
    """What ``Task.apply`` returns: it is ready from the start, and no store knows of it."""

    def __init__(self, id: str, ret_value: Any, state: str, traceback: str | None = None,
                 name: str | None = None) -> None:
        self.id = id
        self._result = ret_value
        self._state = state
        self._traceback = traceback
        self._name = name

    @property
    def _cache(self) -> dict[str, Any]:  # type: ignore[override]
        return {'task_id': self.id, 'result': self._result, 'status': self._state, 'traceback': self._traceback,
                'name': self._name}

    def _get_task_meta(self) -> dict[str, Any]:
        return self._cache

    def get(self, timeout: float | None = None, propagate: bool = True,  # type: ignore[override]
            disable_sync_subtasks: bool = True, **kwargs: Any) -> Any:
        """The return value, at once; raises the task's error if it failed."""
        if disable_sync_subtasks:
            assert_will_not_block()
        if propagate and self._state in states.PROPAGATE_STATES:
            raise self._result if isinstance(self._result, Exception) else Exception(self._result)
        if self._state == states.SUCCESS or self._state in states.PROPAGATE_STATES:
            return self._result
        return None

    wait = get  # type: ignore[assignment]

    def then(self, callback: Callable[[Any], Any], on_error: Callable[[Any], Any] | None = None,
             weak: bool = False) -> Any:
        """Call `callback(result)` at once."""
        return self.on_ready.then(callback, on_error)

    @property
    def on_ready(self) -> Any:
        """A promise that is fulfilled already."""
        return super().on_ready

    def ready(self) -> bool:
        """True."""
        return True

    def forget(self) -> None:
        """Nothing is stored."""

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """Turn the result into that of a revoked task; the task itself has run."""
        self._state = states.REVOKED
        self._result = TaskRevokedError('revoked')
        self._traceback = None

    @property
    def supports_native_join(self) -> bool:
        """False: there is no store to ask."""
        return False

    def __reduce_args__(self) -> tuple[Any, ...]:
        return self.id, self._result, self._state, self._traceback, self._name

    def __copy__(self) -> EagerResult:
        return self.__class__(*self.__reduce_args__())

    def __repr__(self) -> str:
        return f'<EagerResult: {self.id}>'
