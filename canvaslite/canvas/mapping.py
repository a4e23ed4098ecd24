"""`xmap`, `xstarmap`, `chunks`: one task called for each item of an iterable."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar

from canvaslite.canvas.groups import group
from canvaslite.canvas.members import as_members
from canvaslite.canvas.signatures import Signature
from canvaslite.utils.saferepr import truncate
from canvaslite.wire import CHUNKS, MAP, STARMAP

__all__ = ('xmap', 'xstarmap', 'chunks')


class _ItemsSignature(Signature):
    """A signature of a built-in task that is given another task and items for it."""

    _task_name: ClassVar[str] = ''

    def __init__(self, task: Any, it: Any, **options: Any) -> None:
        super().__init__(self._task_name, (), {'task': task, 'it': as_members(it)}, immutable=True, **options)

    @classmethod
    def from_dict(cls, d: Any, app: Any = None) -> Any:
        """The signature that `d` describes."""
        return cls(**d['kwargs'], app=app, **d['options'])

    def _route_name(self) -> Any:
        task = self['kwargs'].get('task')
        return task['task'] if isinstance(task, dict) else getattr(task, 'name', task)


class _basemap(_ItemsSignature):
    def apply_async(self, args: Any = None, kwargs: Any = None, **opts: Any) -> Any:  # type: ignore[override]
        """Send it as one job, routed like the task that it calls."""
        options = self._merge_options(self['options'], {name: value for name, value in opts.items()
                                                        if value is not None})
        route_name = options.pop('route_name', None) or self._route_name()
        items = self['kwargs']
        return self.type.apply_async((), {'task': items['task'], 'it': list(items['it'])}, route_name=route_name,
                                     **options)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run it in this process; returns an `EagerResult`."""
        items = self['kwargs']
        options = {**self['options'], **{name: value for name, value in options.items() if value is not None}}
        return self.type.apply((), {'task': items['task'], 'it': list(items['it'])}, **options)

    def _repr_call(self, item: str) -> str:
        task = self['kwargs']['task']
        return f'[{task["task"]}({item}) for x in {truncate(repr(self["kwargs"]["it"]), 100)}]'


@Signature.register_type()
class xmap(_basemap):
    """``[task(x) for x in it]``, in one job."""

    _task_name: ClassVar[str] = MAP

    def __repr__(self) -> str:
        return self._repr_call('x')


@Signature.register_type()
class xstarmap(_basemap):
    """``[task(*x) for x in it]``, in one job."""

    _task_name: ClassVar[str] = STARMAP

    def __repr__(self) -> str:
        return self._repr_call('*x')


@Signature.register_type()
class chunks(_ItemsSignature):
    """``[task(*x) for x in it]`` in jobs of `n` items each. In a canvas they are the group of these jobs."""

    KIND: ClassVar[str] = 'chunks'
    _task_name: ClassVar[str] = CHUNKS

    def __init__(self, task: Any, it: Any, n: int, **options: Any) -> None:
        super().__init__(task, it, **options)
        self['kwargs']['n'] = n

    def __call__(self, **options: Any) -> Any:  # type: ignore[override]
        """Send all jobs."""
        return self.apply_async(**options)

    def apply_async(self, args: Any = None, kwargs: Any = None, **opts: Any) -> Any:  # type: ignore[override]
        """Send all jobs, routed like the task that they call; returns a `GroupResult`."""
        return self.group().apply_async(args or (), kwargs or {}, route_name=self._route_name(), **opts)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run all jobs in this process; returns a `GroupResult`."""
        return self.group().apply(args, kwargs, **options)

    def group(self) -> Any:
        """The group of its jobs."""
        task, app = self['kwargs']['task'], self._app
        return group([xstarmap(task, part, app=app) for part in self._parts()], app=app)

    def _parts(self) -> Iterator[list[Any]]:
        items = iter(self['kwargs']['it'])
        while part := list(islice(items, self['kwargs']['n'])):
            yield part

    @classmethod
    def apply_chunks(cls, task: Any, it: Any, n: int, app: Any = None) -> Any:
        """Send all jobs at once."""
        return cls(task, it, n, app=app)()

    def __repr__(self) -> str:
        return self.reprcall()
