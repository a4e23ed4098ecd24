"""What ``canvas.apply(app)`` returns: results whose ``result(timeout=)`` is a method that waits, as in taskito."""

from __future__ import annotations

from typing import Any

from canvaslite.result.async_result import AsyncResult, EagerResult
from canvaslite.result.result_set import GroupResult, ResultSet


class _Waits:
    get: Any

    def result(self, timeout: float | None = None) -> Any:
        """Wait at most `timeout` seconds and return the value, or raise the error; as ``get(timeout=)``."""
        return self.get(timeout=timeout)


class Handle(_Waits, AsyncResult):
    """An `AsyncResult` with such a method."""


class EagerHandle(_Waits, EagerResult):
    """An `EagerResult` with such a method."""


class GroupHandle(_Waits, GroupResult):
    """A `GroupResult` with such a method; its members are handles too."""


def handle_of(result: Any) -> Any:
    """The handle that stands for `result`; None stays None."""
    if isinstance(result, ResultSet):
        return GroupHandle(getattr(result, 'id', None), [handle_of(member) for member in result.results],
                           getattr(result, 'parent', None))
    if isinstance(result, EagerResult):
        handle: Any = EagerHandle(*result.__reduce_args__())
    elif isinstance(result, AsyncResult):
        handle = Handle(result.id, result.backend, None, result.app)
        handle.ignored = result.ignored
    else:
        return result
    handle.parent = result.parent
    return handle
