"""``@app.task`` and ``@shared_task`` as a type checker sees them: a task keeps the signature of its function."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, Literal, Protocol, TypeVar, overload

from canvaslite.utils.typevars import P, R

if TYPE_CHECKING:
    from canvaslite.app.task import Task

#: The class that `base` names; a type checker cannot say that it has the signature of the function as well.
B = TypeVar('B')


class Declare(Protocol):
    """What ``@app.task(...)`` does with a function."""

    @overload
    def __call__(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, fun: Callable[P, R], /) -> Task[P, R, R]: ...


class DeclareBound(Protocol):
    """The same with ``bind=True``: the first parameter is the task itself."""

    @overload
    def __call__(self, fun: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /
                 ) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, fun: Callable[Concatenate[Any, P], R], /) -> Task[P, R, R]: ...


class TaskDecorator(Protocol):
    """``task`` of an app, and ``shared_task``."""

    @overload
    def __call__(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, fun: Callable[P, R], /) -> Task[P, R, R]: ...
    @overload
    def __call__(self, *, base: type[B], **options: Any) -> Callable[[Callable[..., Any]], B]: ...
    @overload
    def __call__(self, *, filter: Callable[[Any], B], **options: Any) -> Callable[[Callable[..., Any]], B]: ...
    @overload
    def __call__(self, *, bind: Literal[True], **options: Any) -> DeclareBound: ...
    @overload
    def __call__(self, *, bind: Literal[False] = ..., **options: Any) -> Declare: ...
    @overload
    def __call__(self, fun: Callable[..., Any], /, **options: Any) -> Any: ...
