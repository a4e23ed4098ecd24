"""`Signature`: one task call, said but not yet made; and what all canvases have in common.

A signature is a dict (``task, args, kwargs, options, subtask_type, immutable``) so that any serializer can carry it.
Chains, groups and chords are signatures too: `Signature.KIND` says which rules of composition a class follows, and
`Signature.TYPES` finds the class for a dict that came over the wire.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableSequence
from functools import partial as bind
from typing import Any, ClassVar, TypeVar

from kombu.utils.functional import reprcall

from canvaslite.canvas.copying import Copying
from canvaslite.canvas.stamping import STAMPED_HEADERS, collect_stamps
from canvaslite.canvas.steps import compose
from canvaslite.current import current_app
from canvaslite.exceptions import InvalidTaskError
from canvaslite.result.handles import handle_of
from canvaslite.utils.functional import given, maybe_list
from canvaslite.utils.uuid import uuid
from canvaslite.wire import WINDOW_HEADER

_Type = TypeVar('_Type', bound='type[Signature]')


class Entry:
    """An entry of a signature, or of the dict `within` it, as an attribute; None where there is none."""

    __slots__ = ('key', 'within')

    def __init__(self, key: str, within: str | None = None) -> None:
        self.key = key
        self.within = within

    def __get__(self, sig: Any, owner: Any = None) -> Any:
        if sig is None:
            return self
        return (sig[self.within] if self.within else sig).get(self.key)

    def __set__(self, sig: Any, value: Any) -> None:
        (sig[self.within] if self.within else sig)[self.key] = value


class Signature(dict[str, Any]):
    """A task with arguments and execution options, to be called later, elsewhere, or as part of a canvas.

    `task` is a task, the name of one, or a dict that holds a whole signature. Further keyword arguments are execution
    options. Made by ``task.s()``, ``task.si()`` or `signature`.
    """

    #: Class of each ``subtask_type``.
    TYPES: ClassVar[dict[str, type[Signature]]] = {}
    #: Which rules of composition a class follows: ``task``, ``chain``, ``group`` or ``chord``.
    KIND: ClassVar[str] = 'task'
    #: Keyword arguments in which a canvas has the signatures it is made of.
    PARTS: ClassVar[tuple[str, ...]] = ()
    #: Options that are not changed once they are set: a part would never be counted in its chord.
    _IMMUTABLE_OPTIONS: ClassVar[frozenset[str]] = frozenset({'group_id', STAMPED_HEADERS})

    _app: Any = None
    _type: Any = None
    #: A copy that nobody else holds and that is used up when it is applied: it may be changed in place.
    _disposable: bool = False
    #: All parts of it are copies that nobody else holds: they need not be copied again.
    _fresh: bool = False

    name = task = Entry('task')
    args = Entry('args')
    kwargs = Entry('kwargs')
    options = Entry('options')
    subtask_type = Entry('subtask_type')
    immutable = Entry('immutable')
    id = Entry('task_id', 'options')
    parent_id = Entry('parent_id', 'options')
    root_id = Entry('root_id', 'options')

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[_Type], _Type]:
        """Class decorator: dicts with this ``subtask_type`` (the class's name by default) become such signatures."""
        def register(registered: _Type) -> _Type:
            cls.TYPES[name or registered.__name__] = registered
            return registered
        return register

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> Any:
        """The signature that `d` describes, of the class that its ``subtask_type`` names, else `InvalidTaskError`."""
        target = cls._type_of(d)
        return Signature(d, app=app) if target is cls or target is Signature else target.from_dict(d, app=app)

    @classmethod
    def _type_of(cls, d: Mapping[str, Any]) -> type[Signature]:
        try:
            subtask_type = d.get('subtask_type')
        except AttributeError:
            raise TypeError(f'a canvas is made of signatures, not of {type(d).__name__}: {d!r:.100}') from None
        try:
            return cls.TYPES[subtask_type] if subtask_type else Signature
        except KeyError:
            raise InvalidTaskError(
                f'unknown subtask_type {subtask_type!r} in signature of {d.get("task")!r}: '
                f'register its class with Signature.register_type() where it is received') from None

    def __init__(self, task: Any = None, args: Any = None, kwargs: Any = None, options: Any = None,
                 type: Any = None, subtask_type: str | None = None, immutable: bool = False,
                 app: Any = None, **ex: Any) -> None:
        if app is not None:
            self._app = app
        if isinstance(task, dict):
            super().__init__(task)
            return
        if not isinstance(task, str) and hasattr(task, 'name'):
            self._type = task
            task = task.name
        super().__init__(task=task, args=tuple(args or ()), kwargs=kwargs or {}, options={**(options or {}), **ex},
                         subtask_type=subtask_type, immutable=immutable)

    @property
    def app(self) -> Any:
        """The app that it, or what it begins with, belongs to, else the current one."""
        return self._app if self._app is not None else own_app(self) or current_app

    @property
    def type(self) -> Any:
        """The task. Raises `NotRegistered` when the app has none of that name."""
        return self._type if self._type is not None else self.app.tasks[self['task']]

    @type.setter
    def type(self, task: Any) -> None:
        self._type = task

    @property
    def AsyncResult(self) -> Any:
        """What makes the task's results of their ids."""
        try:
            return self.type.AsyncResult
        except KeyError:  # not registered here: only its name is known
            return self.app.AsyncResult

    @property
    def _apply_async(self) -> Any:
        try:
            return self.type.apply_async
        except KeyError:
            return bind(self.app.send_task, self['task'])

    def __call__(self, *partial_args: Any, **partial_kwargs: Any) -> Any:
        """Call the task as a function, here and now; partial arguments come before its own."""
        args, kwargs, _ = self._merge(partial_args, partial_kwargs, None)
        return self.type(*args, **kwargs)

    def delay(self, *partial_args: Any, **partial_kwargs: Any) -> Any:
        """Send it; short for `apply_async` without options."""
        return self.apply_async(partial_args, partial_kwargs)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run it in this process; returns an `EagerResult`, or a `GroupResult` of them.

        With an app in place of `args` it is sent; what is returned, at once, has a method ``result(timeout=)``.
        """
        if hasattr(args, 'connection_for_write'):
            return handle_of(maybe_signature(self, app=args, clone=True).apply_async(**options))
        return self._apply(args, kwargs, **options)

    def _apply(self, args: Any, kwargs: Any, **options: Any) -> Any:
        args, kwargs, options = self._merge(args, kwargs, given(options))
        return self.type.apply(args, kwargs, **options)

    def apply_async(self, args: Any = None, kwargs: Any = None, route_name: str | None = None, **options: Any) -> Any:
        """Send it; returns an `AsyncResult`.

        Partial `args` come before its own, `kwargs` and `options` (None counts as not given) win over its own.
        """
        args, kwargs, options = self._merge(args, kwargs, given(options))
        return self._apply_async(args, kwargs, **options)

    def __invert__(self) -> Any:
        """Send it and wait for the value."""
        return self.apply_async().get()

    def _merge(self, args: Any = None, kwargs: Any = None, options: Any = None, force: bool = False
               ) -> tuple[Any, Any, dict[str, Any]]:
        """Arguments and options with partial ones added; an immutable signature takes options only, unless `force`."""
        own = self['options']
        if options:
            own = self._merge_options(own, options)
        if self.get('immutable') and not force:
            return self['args'], self['kwargs'], own
        return (tuple(args) + tuple(self['args']) if args else self['args'],
                {**self['kwargs'], **kwargs} if kwargs else self['kwargs'], own)

    def _merge_options(self, own: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        merged = {**own, **options}
        window = (own.get('headers') or {}).get(WINDOW_HEADER)
        if window and merged['headers'] is not own['headers']:
            merged['headers'] = {**(merged['headers'] or {}), WINDOW_HEADER: window}
        for fixed in self._IMMUTABLE_OPTIONS:
            if fixed in own:
                merged[fixed] = own[fixed]
        for stamp in own.get(STAMPED_HEADERS) or ():
            if stamp in own:
                merged[stamp] = own[stamp]
        return merged

    def clone(self, args: Any = None, kwargs: Any = None, **opts: Any) -> Any:
        """A copy of it and of the signatures in it, but not of arguments, with partial arguments and options added."""
        copying = Copying()
        copy = copying.finish(copying.part(self))
        if args or kwargs or opts:
            copy['args'], copy['kwargs'], copy['options'] = copy._merge(args, kwargs, opts)
        return copy

    partial = clone

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        # As in Celery a plain dict, that is what the copy of a link is: `maybe_signature` of it shares its options.
        copying = Copying(memo)
        copy: dict[str, Any] = copying.finish(copying.fill(self, {}))
        return copy

    def replace(self, args: Any = None, kwargs: Any = None, options: Any = None) -> Any:
        """A copy with other arguments or options; what is None stays."""
        copy = self.clone()
        copy.update(given({'args': args, 'kwargs': kwargs, 'options': options}))
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        # By value and by the name of `signature`, never by class path: the other side may have other classes.
        return signature, (dict(self),)

    def __json__(self) -> dict[str, Any]:
        return dict(self)

    def set(self, immutable: bool | None = None, **options: Any) -> Any:
        """Set execution options, in place; returns itself."""
        if immutable is not None:
            self.set_immutable(immutable)
        self['options'].update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Say whether it takes no arguments but its own."""
        self['immutable'] = immutable

    def freeze(self, _id: str | None = None, group_id: str | None = None, chord: Any = None,
               root_id: str | None = None, parent_id: str | None = None, group_index: int | None = None) -> Any:
        """Fix the id under which it will run; returns the result to be.

        An id that it has already stays. The other arguments are written to its options where given.
        """
        options = self['options']
        if options.get('task_id') is None:
            options['task_id'] = _id or uuid()
        if root_id:
            options['root_id'] = root_id
        if parent_id:
            options['parent_id'] = parent_id
        if 'reply_to' not in options:
            options['reply_to'] = self.app.thread_oid
        if group_id and 'group_id' not in options:
            options['group_id'] = group_id
        if chord:
            options['chord'] = chord
        if group_index is not None:
            options['group_index'] = group_index
        result, ignored = self.AsyncResult(options['task_id']), options.get('ignore_result')
        if ignored if ignored is not None else getattr(self.app.tasks.get(self['task']), 'ignore_result', False):
            result.ignored = True
        return result

    def accept_partial(self, args: Any = None, kwargs: Any = None) -> None:
        """Add partial arguments, in place, unless it is immutable."""
        if args or kwargs:
            self['args'], self['kwargs'], _ = self._merge(args, kwargs)

    def _with_list_option(self, key: str) -> Any:
        items = self['options'].setdefault(key, [])
        if not isinstance(items, MutableSequence):
            items = self['options'][key] = [items] if items is not None else []
        return items

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Add `value` to the list that the option is, unless it is in it; returns `value`."""
        items = self._with_list_option(key)
        if value not in items:
            items.append(value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Add one or several values to the list that the option is."""
        self._with_list_option(key).extend(maybe_list(value) or ())

    def link(self, callback: Any) -> Any:
        """Run `callback` with the result when it succeeds; returns `callback`."""
        return self.append_to_list_option('link', callback)

    def link_error(self, errback: Any) -> Any:
        """Run `errback` when it fails; returns `errback`."""
        return self.append_to_list_option('link_error', errback)

    def on_error(self, errback: Any) -> Any:
        """As `link_error`, but returns the signature itself."""
        self.link_error(errback)
        return self

    def link_error_of_chain(self, errback: Any) -> None:
        """Run `errback`, linked to a chain with this step, when it fails."""
        self.link_error(errback)

    def flatten_links(self) -> list[Any]:
        """Itself and all that is linked to its success, directly or not."""
        flat: list[Any] = []
        pending = [self]
        while pending:
            sig = pending.pop()
            flat.append(sig)
            pending.extend(reversed(maybe_list(sig['options'].get('link')) or ()))
        return flat

    def __or__(self, other: Any) -> Any:
        """``a | b``: the chain in which `other` gets the result."""
        return compose(self, other)

    def __ior__(self, other: Any) -> Any:  # type: ignore[override, misc]
        return self.__or__(other)

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp it and what is linked to it with `headers` and what `visitor` says, in place; returns itself.

        With `append_stamps` a stamp that is there already gets both values, else the old one stays.
        """
        self.stamp_links(visitor, append_stamps, **headers)
        said = (visitor.on_signature(self, **headers) or {}) if visitor is not None else None
        return self.set(**collect_stamps(headers, said, self['options'], append_stamps))

    def stamp_links(self, visitor: Any, append_stamps: bool = False, **headers: Any) -> None:
        """Stamp what is linked to it, but not itself."""
        for key, hook in (('link', 'on_callback'), ('link_error', 'on_errback')):
            if not self['options'].get(key):
                continue
            links = self._with_list_option(key)
            for place, link in enumerate(links):
                links[place] = link = maybe_signature(link, app=self._app, clone=True)
                said = (getattr(visitor, hook)(link, **headers) or {}) if visitor is not None else None
                link.stamp(visitor, append_stamps, **collect_stamps(headers, said, None, append_stamps))

    def election(self) -> Any:
        """Send it through an election among the workers: it runs once in the cluster."""
        task = self.type
        app = task.app
        task_id = self['options'].get('task_id') or uuid()
        with app.producer_or_acquire(None) as producer:
            options = task.backend.on_task_call(producer, task_id)
            app.control.election(task_id, 'task', self.clone(task_id=task_id, **options),
                                 connection=producer.connection)
            return task.AsyncResult(task_id)

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """The call as text, with partial arguments added."""
        args, kwargs, _ = self._merge(args, kwargs, None, force=True)
        return reprcall(self['task'], args, kwargs)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return self.reprcall()


def signature(varies: Any, *args: Any, **kwargs: Any) -> Any:
    """A new signature: of a task or task name with arguments, of a dict, or a copy of another signature."""
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, dict):
        return Signature.from_dict(varies, app=kwargs.get('app'))
    return Signature(varies, *args, **kwargs)


def maybe_signature(d: Any, app: Any = None, clone: bool = False) -> Any:
    """`d`, a dict or signature (or with `clone` its copy), as a signature, bound to `app` if given; None stays None."""
    if isinstance(d, Signature):
        d = d.clone() if clone else d
    elif isinstance(d, dict):
        return Signature.from_dict(d, app=app)
    if d is not None and app is not None:
        d._app = app
    return d


def own_app(sig: Any) -> Any:
    """The app that a signature, or what it begins with, is bound to; None if it would use the current one."""
    pending = [sig]
    while pending:
        sig = pending.pop()
        app = getattr(sig, '_app', None)
        if app is not None:
            return app
        for name in reversed(getattr(type(sig), 'PARTS', ())):
            part = sig['kwargs'].get(name)
            if part:
                pending.append(part[0] if isinstance(part, (list, tuple)) else part)
    return None


subtask, maybe_subtask = signature, maybe_signature
