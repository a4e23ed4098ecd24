"""Objects that stand for another one which is found, or made, when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import eq
from typing import Any

#: What a proxy answers itself, whatever its target has.
_OWN = frozenset({'_proxy_find', '_get_current_object', '__evaluate__', '__evaluated__', '__maybe_evaluate__'})
#: Target of a `PromiseProxy` that was not used yet.
_UNASKED = object()

_get = object.__getattribute__


def _of_target(function: Any) -> Any:
    """A method that calls `function` with the object that the proxy stands for."""
    return lambda self, *args: function(self._get_current_object(), *args)


class Proxy:
    """Stands for what `local(*args, **kwargs)` returns, asked anew on each use."""

    __slots__ = ('__weakref__', '_proxy_find')

    # `name` and `__doc__` are of Celery's signature; the target's own are shown.
    def __init__(self, local: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
                 name: str | None = None, __doc__: str | None = None) -> None:
        object.__setattr__(self, '_proxy_find', (local, tuple(args), dict(kwargs or {})))

    def _get_current_object(self) -> Any:
        """The object this one stands for."""
        local, args, kwargs = _get(self, '_proxy_find')
        return local(*args, **kwargs)

    # Not `__getattr__`: the class has a `__doc__`, `__class__`, `__reduce_ex__` of its own that would be found first.
    def __getattribute__(self, name: str) -> Any:
        return _get(self, name) if name in _OWN else getattr(_get(self, '_get_current_object')(), name)

    # Special methods are looked up on the class: only those that a task, an app, or a context manager has.
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._get_current_object()(*args, **kwargs)

    def __enter__(self) -> Any:
        return self._get_current_object().__enter__()

    def __exit__(self, *exc_info: Any) -> Any:
        return self._get_current_object().__exit__(*exc_info)

    __setattr__, __delattr__, __eq__, __hash__ = map(_of_target, (setattr, delattr, eq, hash))
    __bool__, __dir__, __repr__, __str__ = map(_of_target, (bool, dir, repr, str))


class PromiseProxy(Proxy):
    """A proxy that asks once and keeps the answer."""

    __slots__ = ('_proxy_target',)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        object.__setattr__(self, '_proxy_target', _UNASKED)
        super().__init__(*args, **kwargs)

    def __getattribute__(self, name: str) -> Any:
        if name in _OWN:
            return _get(self, name)
        target = _get(self, '_proxy_target')
        return getattr(self.__evaluate__() if target is _UNASKED else target, name)

    def _get_current_object(self) -> Any:
        target = _get(self, '_proxy_target')
        return self.__evaluate__() if target is _UNASKED else target

    def __evaluated__(self) -> bool:
        """Whether the target was asked for already."""
        return _get(self, '_proxy_target') is not _UNASKED

    def __evaluate__(self) -> Any:
        target = Proxy._get_current_object(self)
        object.__setattr__(self, '_proxy_target', target)
        return target

    __maybe_evaluate__ = _get_current_object


def maybe_evaluate(obj: Any) -> Any:
    """What `obj` stands for if it is a `PromiseProxy`, else `obj`."""
    return obj._get_current_object() if type(obj) is PromiseProxy else obj
