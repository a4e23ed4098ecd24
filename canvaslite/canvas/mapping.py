"""`xmap`, `xstarmap`, `chunks`: one task called for each item of an iterable."""

from __future__ import annotations

from itertools import islice
from typing import Any, ClassVar

from canvaslite.canvas.groups import group
from canvaslite.canvas.members import as_members
from canvaslite.canvas.signatures import Signature, maybe_signature, signature
from canvaslite.utils.functional import given, maybe_list
from canvaslite.utils.saferepr import truncate
from canvaslite.wire import CHUNKS, MAP, STARMAP


class _basemap(Signature):
    """A signature of a built-in task that is given another task and items for it."""

    _task_name: ClassVar[str] = ''
    #: The item in its representation.
    _item: ClassVar[str] = ''

    def __init__(self, task: Any, it: Any, **options: Any) -> None:
        super().__init__(self._task_name, (), {'task': task, 'it': as_members(it)}, immutable=True, **options)

    @classmethod
    def from_dict(cls, d: Any, app: Any = None) -> Any:
        """The signature that `d` describes."""
        return cls(**d['kwargs'], app=app, **d['options'])

    def _route_name(self) -> Any:
        task = self['kwargs'].get('task')
        return task['task'] if isinstance(task, dict) else getattr(task, 'name', task)

    def _call(self) -> dict[str, Any]:
        return {'task': self['kwargs']['task'], 'it': list(self['kwargs']['it'])}

    def apply_async(self, args: Any = None, kwargs: Any = None, **opts: Any) -> Any:  # type: ignore[override]
        """Send it as one job, routed like the task that it calls."""
        options = self._merge_options(self['options'], given(opts))
        route_name = options.pop('route_name', None) or self._route_name()
        return self.type.apply_async((), self._call(), route_name=route_name, **options)

    def _apply(self, args: Any, kwargs: Any, **options: Any) -> Any:
        return self.type.apply((), self._call(), **{**self['options'], **given(options)})

    def __repr__(self) -> str:
        call = self['kwargs']
        return f'[{call["task"]["task"]}({self._item}) for x in {truncate(repr(call["it"]), 100)}]'


@Signature.register_type()
class xmap(_basemap):
    """``[task(x) for x in it]``, in one job."""

    _task_name, _item = MAP, 'x'


@Signature.register_type()
class xstarmap(_basemap):
    """``[task(*x) for x in it]``, in one job."""

    _task_name, _item = STARMAP, '*x'


@Signature.register_type()
class chunks(_basemap):
    """``[task(*x) for x in it]`` in jobs of `n` items each. In a canvas they are the group of these jobs.

    ``chunks(it, n, task)`` is the same. With `chunk_size` in place of `n` it is taskito's, a group of the calls
    ``task(part)``, where a part is a list of so many items.
    """

    KIND, _task_name = 'chunks', CHUNKS

    def __new__(cls, task: Any, it: Any, *args: Any, chunk_size: int | None = None, **options: Any) -> Any:
        if chunk_size is None:
            return super().__new__(cls)
        call = signature(task)
        return group((call.clone((part,)) for part in split(it, chunk_size)), **options)

    def __init__(self, task: Any, it: Any, n: Any, **options: Any) -> None:
        if isinstance(it, int) and not isinstance(n, int):
            task, it, n = n, task, it
        super().__init__(task, it, **options)
        self['kwargs']['n'], self['subtask_type'] = n, 'chunks'

    def __call__(self, **options: Any) -> Any:  # type: ignore[override]
        """Send all jobs."""
        return self.apply_async(**options)

    def apply_async(self, args: Any = None, kwargs: Any = None, **opts: Any) -> Any:  # type: ignore[override]
        """Send all jobs, routed like the task that they call; returns a `GroupResult`."""
        return self.group().apply_async(args or (), kwargs or {}, route_name=self._route_name(), **opts)

    def _apply(self, args: Any, kwargs: Any, **options: Any) -> Any:
        return self.group().apply(args, kwargs, **options)

    def group(self) -> Any:
        """The group of its jobs, with what was linked to the chunks linked to it."""
        call = self['kwargs']
        parts = split(call['it'], call['n'])
        jobs = group([xstarmap(call['task'], part, app=self._app) for part in parts], app=self._app)
        for key in ('link', 'link_error'):
            for linked in maybe_list(self['options'].get(key)) or () if jobs.tasks else ():
                getattr(jobs, key)(maybe_signature(linked, app=self._app))
        return jobs

    @classmethod
    def apply_chunks(cls, task: Any, it: Any, n: int, app: Any = None) -> Any:
        """Send all jobs at once."""
        return cls(task, it, n, app=app)()

    __repr__ = Signature.__repr__


def starmap(task: Any, it: Any, **options: Any) -> Any:
    """Taskito's: the group of the calls ``task(*x)``, one for each argument tuple of `it`."""
    call = signature(task)
    return group((call.clone(tuple(args)) for args in it), **options)


def split(it: Any, size: int) -> Any:
    """Lists of `size` items each of `it`, the last one shorter. Raises `ValueError` for a size below 1."""
    if size < 1:
        raise ValueError(f'a chunk has at least one item, not {size}')
    items = iter(it)
    return iter(lambda: list(islice(items, size)), [])
