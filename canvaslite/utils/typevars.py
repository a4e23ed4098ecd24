"""What the types of tasks and results say to a type checker: parameters, the result, and what a call gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, TypeVar

    #: Of a `Task` of which nothing is said, anything is known.
    P = ParamSpec('P', default=...)
    R = TypeVar('R', default=Any)
    C = TypeVar('C', default=Any)
else:
    from typing import ParamSpec, TypeVar

    P, R, C = ParamSpec('P'), TypeVar('R'), TypeVar('C')
