"""Objects that stand for another one which is found, or made, when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ('Proxy', 'PromiseProxy', 'maybe_evaluate')

#: Special methods that a proxy hands to its target. Python looks them up on the class, so `__getattr__` is not asked.
_FORWARDED = (
    '__call__', '__lt__', '__le__', '__gt__', '__ge__', '__str__',
    '__len__', '__getitem__', '__setitem__', '__delitem__', '__iter__', '__contains__', '__reversed__',
    '__add__', '__sub__', '__mul__', '__truediv__', '__floordiv__', '__mod__', '__and__', '__or__', '__xor__',
    '__neg__', '__pos__', '__abs__', '__invert__', '__int__', '__float__', '__index__',
    '__enter__', '__exit__',
)


#: Target of a `PromiseProxy` that was not used yet.
_UNASKED = object()


class _Forward:
    """Descriptor that reads the attribute of its name from the proxy's target."""

    __slots__ = ('name', 'of_class')

    def __init__(self, name: str, of_class: Any = None) -> None:
        self.name = name
        #: What the proxy class itself answers, where it must not be the descriptor.
        self.of_class = of_class

    def __get__(self, proxy: Any, owner: type) -> Any:
        if proxy is None:
            return self if self.of_class is None else self.of_class
        return getattr(proxy._get_current_object(), self.name)

    def __set__(self, proxy: Any, value: Any) -> None:
        setattr(proxy._get_current_object(), self.name, value)


class _ForwardModule(str):
    """As `_Forward`, for ``__module__``: of a class Python wants that to be a string."""

    __slots__ = ()

    def __get__(self, proxy: Any, owner: type) -> Any:
        return self if proxy is None else proxy._get_current_object().__module__


class Proxy:
    """Stands for what `local(*args, **kwargs)` returns, asked anew on each use."""

    __slots__ = ('__weakref__', '_proxy_args', '_proxy_kwargs', '_proxy_local')

    def __init__(self, local: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
                 name: str | None = None, __doc__: str | None = None) -> None:
        # name and __doc__ are of Celery's signature; the target's own are shown.
        store = object.__setattr__
        store(self, '_proxy_local', local)
        store(self, '_proxy_args', tuple(args))
        store(self, '_proxy_kwargs', dict(kwargs or {}))

    # Both are found on every object before `__getattr__` is asked.
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self._get_current_object().__class__

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        return self._get_current_object().__dict__

    def _get_current_object(self) -> Any:
        """The object this one stands for."""
        return self._proxy_local(*self._proxy_args, **self._proxy_kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get_current_object(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get_current_object(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._get_current_object(), name)

    def __eq__(self, other: object) -> bool:
        return bool(self._get_current_object() == other)

    def __ne__(self, other: object) -> bool:
        return bool(self._get_current_object() != other)

    def __hash__(self) -> int:
        return hash(self._get_current_object())

    def __bool__(self) -> bool:
        return bool(self._get_current_object())

    def __dir__(self) -> Any:
        return dir(self._get_current_object())

    def __repr__(self) -> str:
        return repr(self._get_current_object())

    def __reduce__(self) -> Any:
        return self._get_current_object().__reduce__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Pickling a proxy pickles its target: what is sent elsewhere has no use for our way of finding it.
        return self._get_current_object().__reduce_ex__(protocol)


class PromiseProxy(Proxy):
    """A proxy that asks once and keeps the answer."""

    __slots__ = ('_proxy_target',)

    def __init__(self, local: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None,
                 name: str | None = None, __doc__: str | None = None) -> None:
        object.__setattr__(self, '_proxy_target', _UNASKED)
        super().__init__(local, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        target = self._proxy_target
        return getattr(self.__evaluate__() if target is _UNASKED else target, name)

    def _get_current_object(self) -> Any:
        target = self._proxy_target
        return self.__evaluate__() if target is _UNASKED else target

    def __evaluated__(self) -> bool:
        """Whether the target was asked for already."""
        return self._proxy_target is not _UNASKED

    def __evaluate__(self) -> Any:
        target = Proxy._get_current_object(self)
        object.__setattr__(self, '_proxy_target', target)
        return target

    def __maybe_evaluate__(self) -> Any:
        return self._get_current_object()


def _forward_special_names(*classes: type) -> None:
    for cls in classes:
        cls.__doc__ = _Forward('__doc__', cls.__doc__)  # type: ignore[assignment]
        cls.__module__ = _ForwardModule(__name__)
    for name in _FORWARDED:
        setattr(Proxy, name, _Forward(name))


_forward_special_names(Proxy, PromiseProxy)


def maybe_evaluate(obj: Any) -> Any:
    """What `obj` stands for if it is a `PromiseProxy`, else `obj`."""
    return obj._get_current_object() if type(obj) is PromiseProxy else obj
