"""What ``canvas.apply(app)`` returns: results whose ``result(timeout=)`` is a method that waits, as in taskito."""

from __future__ import annotations

from typing import Any


class Handle:
    """What makes a class of results one of handles."""

    get: Any

    def result(self, timeout: float | None = None) -> Any:
        """Wait at most `timeout` seconds and return the value, or raise the error; as ``get(timeout=)``."""
        return self.get(timeout=timeout)


def handle_of(result: Any) -> Any:
    """`result`, which nobody else has, with its members, made handles."""
    waiting, kinds = [result], dict[Any, Any]()
    while waiting:
        node = waiting.pop()
        kind = type(node)
        if node is not None and not isinstance(node, Handle):
            if kind not in kinds:
                kinds[kind] = type(kind.__name__, (Handle, kind), {'__doc__': kind.__doc__})
            node.__class__ = kinds[kind]
            waiting.extend(node.results or ())
    return result
