"""`chord`: a body that runs once, with the list of what a header's tasks gave."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from canvaslite.canvas.copying import copy_options
from canvaslite.canvas.counting import count_parts
from canvaslite.canvas.freezing import Freezing, bind_end, drive, first_ancestor
from canvaslite.canvas.groups import group
from canvaslite.canvas.members import LazyMembers
from canvaslite.canvas.representation import repr_chord
from canvaslite.canvas.signatures import Signature, maybe_signature, own_app, signature
from canvaslite.canvas.stamping import collect_stamps
from canvaslite.canvas.steps import is_signature, unroll_groups
from canvaslite.current import current_app
from canvaslite.exceptions import CPendingDeprecationWarning
from canvaslite.result.blocking import allow_join_result
from canvaslite.utils.callers import user_stacklevel
from canvaslite.utils.functional import maybe_list
from canvaslite.utils.uuid import uuid
from canvaslite.wire import CHORD

__all__ = ('_chord', 'chord')

#: What `_chord` itself has in its keyword arguments; anything else there is the header's.
_PARTS = frozenset({'header', 'body', 'kwargs'})

#: Options that are not passed on to the body: its parent is the task that completes the header.
_NOT_FOR_BODY = frozenset({'add_to_parent', 'link', 'link_error', 'parent_id', 'producer', 'task_id'})


@Signature.register_type(name='chord')
class _chord(Signature):
    """Tasks side by side (the header), and one that runs when all of them have succeeded, with the list of values.

    `header` is a group, or an iterable of signatures, which a generator may be; a chain or another group given as the
    header stands for its tasks. The body may be given later, in the call: ``chord(header)(body)``.
    """

    KIND: ClassVar[str] = 'chord'
    PARTS: ClassVar[tuple[str, ...]] = ('header', 'body')

    #: Results of the header and of the body, once a disposable chord is frozen.
    _frozen: tuple[Any, Any] | None = None
    #: The header's members are held by canvases only, by this one alone or (`_shared`) by others too.
    _owned: bool = False
    _shared: bool = False

    def __init__(self, header: Any, body: Any = None, task: str = CHORD, args: Any = None, kwargs: Any = None,
                 app: Any = None, **options: Any) -> None:
        parts = {**(kwargs or {'kwargs': {}}), 'header': _as_header(header, app),
                 'body': maybe_signature(body, app=app)}
        super().__init__(task, args, parts, app=app, **options)
        self['subtask_type'] = 'chord'

    @classmethod
    def from_dict(cls, d: Any, app: Any = None) -> Any:
        """The chord that `d` describes."""
        d = cls.revive_parts(d, app)
        parts = d['kwargs']
        chord = cls(parts.pop('header', None), parts.pop('body', None), kwargs=parts, app=app,
                    options=d['options'], args=d.get('args'), immutable=bool(d.get('immutable')))
        chord.update((key, d[key]) for key in d if key not in chord)
        return chord

    @property
    def tasks(self) -> Any:
        """The header: a list of signatures, or a group once it was frozen or stamped."""
        header = self['kwargs']['header']
        if self._shared:
            header = self['kwargs']['header'] = _copy_header(header)
        self._owned = self._shared = False
        return header

    @tasks.setter
    def tasks(self, header: Any) -> None:
        self['kwargs']['header'] = header
        self._owned = self._shared = False

    @property
    def body(self) -> Any:
        """What runs last, or None."""
        return self['kwargs'].get('body')

    @body.setter
    def body(self, body: Any) -> None:
        self['kwargs']['body'] = body

    # --- copies -------------------------------------------------------------------------------------------------

    def clone(self, args: Any = None, kwargs: Any = None, **opts: Any) -> Any:
        """A copy of the chord, its header and its body, with partial arguments and options added."""
        copy = super().clone(args, kwargs, **opts)
        copy._owned = True
        return copy

    def copy_parts(self, copy: Callable[[Any], Any]) -> dict[str, Any]:
        """The keyword arguments, with copies of the header's members and of the body."""
        parts = dict(self['kwargs'])
        header = parts['header']
        parts['header'] = copy(header) if is_signature(header) else [copy(member) for member in header]
        if 'body' in parts:
            parts['body'] = copy(parts['body'])
        return parts

    def with_body(self, body: Any, keep_header: bool = False) -> Any:
        """A chord like this one with another body.

        The header is copied; or shared until somebody looks at it, where no user holds its members; or with
        `keep_header` it is the very same, made a group, so that freezing the one fixes the ids of the other.
        """
        if keep_header:
            header: Any = self.header_group()
        elif self._owned:
            header = self['kwargs']['header']
            self._shared = True
        else:
            header = _copy_header(self['kwargs']['header'])
        chord = Signature.__new__(type(self))
        chord.update(self, kwargs={**self['kwargs'], 'header': header, 'body': body},
                     options=copy_options(self['options'], {}))
        chord._app, chord._disposable = self._app, self._disposable
        chord._owned, chord._shared = not keep_header, self._shared and not keep_header
        return chord

    def header_group(self) -> Any:
        """The header as a group, which it is from now on."""
        header = self.tasks
        if not (is_signature(header) and header.KIND == 'group'):
            options = {'task_id': self.id} if self.id else {}
            header = self.tasks = group(header, app=self._app, **options)
            header._disposable = self._disposable
        return header

    # --- running ------------------------------------------------------------------------------------------------

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send it, with another body if one is given."""
        return self.apply_async((), {'body': body} if body else {}, **options)

    def apply_async(self, args: Any = None, kwargs: Any = None, task_id: str | None = None,  # type: ignore[override]
                    producer: Any = None, publisher: Any = None, connection: Any = None, router: Any = None,
                    result_cls: Any = None, **options: Any) -> Any:
        """Send the header, with partial arguments for each of its tasks; returns the result of the body.

        `task_id` is the body's; ``countdown`` and ``eta`` delay the header; ``link`` and ``link_error`` are added to
        the body's; other options are everybody's.
        """
        kwargs = dict(kwargs or {})
        body = kwargs.pop('body', None) or self.body
        args, kwargs = self._partials(args, kwargs)
        callbacks: dict[str, Any] = {name: options.pop(name) for name in ('link', 'link_error') if name in options}
        delay = {name: options.pop(name) for name in ('countdown', 'eta') if options.get(name) is not None}
        if not self._disposable or body is not self.body:
            body = maybe_signature(body, app=self._app).clone()
        body['options'] = body._merge_options(body['options'], _options_for_body(options))
        app = self._app_for(body)
        if app.conf.task_always_eager:
            body = _link_to_body(body, {**self['options'], **callbacks})
            with allow_join_result():
                return self.apply(args, kwargs, body=body, task_id=task_id, **options)
        return self.run(self._header_to_run(app), body, args, **self._run_options(
            task_id, kwargs, producer, delay, {**self['options'], **options, **callbacks}))

    def _header_to_run(self, app: Any) -> Any:
        header = self['kwargs']['header']
        if is_signature(header) and header.KIND == 'group':
            return header if self._disposable else header.clone()
        members = header if self._disposable else _copy_header(header)
        run = group(members, app=app, task_id=self.id or uuid())
        run._disposable = True
        return run

    def _run_options(self, task_id: str | None, kwargs: dict[str, Any], producer: Any, delay: dict[str, Any],
                     merged: dict[str, Any]) -> dict[str, Any]:
        own_id = merged.pop('task_id', None)
        for name in ('countdown', 'eta'):
            merged.pop(name, None)  # of `run` these are the pauses between two looks at an unfinished header
        given = {'header_delay': delay} if delay else {}
        if producer is not None:
            merged['producer'] = producer
        return {**merged, **given, 'task_id': own_id if task_id is None else task_id, 'kwargs': kwargs}

    def run(self, header: Any, body: Any, partial_args: Any, app: Any = None, interval: float | None = None,
            countdown: float = 1, max_retries: int | None = None, eager: bool = False, task_id: str | None = None,
            kwargs: Any = None, header_delay: Any = None, producer: Any = None, **options: Any) -> Any:
        """Send `header` with `body` to follow; both are used up. Returns the result of the body.

        `interval`, `countdown` and `max_retries` say how a store that cannot count looks for the end of the header.
        """
        app = app or self._app_for(body)
        options = {**self['options'], **options}
        delay = {name: options.pop(name, None) for name in ('countdown', 'eta')}
        delay.update(header_delay or {})
        body = _unwrap(_link_to_body(body, options))
        options.pop('task_id', None)
        body['options'] = body._merge_options(body['options'], _options_for_body(options))
        group_id = header.id or uuid()
        header.id = group_id
        root_id = body['options'].get('root_id')
        _ready_to_run(header)
        _ready_to_run(body)
        # A body that is part of another chord is counted there: its end is, where it is a canvas.
        outer = {name: body['options'][name] for name in ('chord', 'group_index') if name in body['options']}
        result = body.freeze(task_id or uuid(), group_id=body['options'].get('group_id') or group_id, root_id=root_id,
                             **outer)
        header_args = header._freeze_group_tasks(group_id=group_id, chord=body, root_id=root_id)
        if header['kwargs']['tasks']:
            body['chord_size'] = count_parts(header)
            app.backend.apply_chord(header_args, body, interval=interval, countdown=countdown, max_retries=max_retries)
            # What follows the chord, and the outer chord, are the body's.
            options = {name: value for name, value in {**options, **delay, 'producer': producer}.items()
                       if value is not None and name not in ('chain', 'chord')}
            header_result = header.apply_async(partial_args, kwargs, task_id=group_id, **options)
        else:
            body.apply_async(([],), **({} if producer is None else {'producer': producer}))
            header_result = app.GroupResult(*header_args)
        first_ancestor(result).parent = header_result
        return result

    def apply(self, args: Any = None, kwargs: Any = None, propagate: bool = True, body: Any = None,
              **options: Any) -> Any:
        """Run the header and then the body in this process; returns the `EagerResult` of the body."""
        if body is None:
            body = _link_to_body(self.body.clone(), {**self['options'], **options})
        args, kwargs = self._partials(args, kwargs)
        header = self['kwargs']['header']
        header = header.clone() if is_signature(header) else group(_copy_header(header), app=self.app)
        members = header.apply(args, kwargs)
        with allow_join_result():
            values = members.get(propagate=propagate)
        return body.apply(args=(values,))

    def _partials(self, args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Arguments for each task of the header."""
        own = {name: value for name, value in self['kwargs'].items() if name not in _PARTS}
        own.update(self['kwargs'].get('kwargs') or {})
        if self['immutable']:
            return self['args'], own
        return (*(args or ()), *(self['args'] or ())), {**own, **(kwargs or {})}

    def accept_partial(self, args: Any = None, kwargs: Any = None) -> None:
        """Add partial arguments for each task of the header, in place."""
        if self['immutable']:
            return
        self['args'] = (*(args or ()), *(self['args'] or ()))
        if kwargs:
            self['kwargs']['kwargs'] = {**(self['kwargs'].get('kwargs') or {}), **kwargs}

    # --- freezing, counting -------------------------------------------------------------------------------------

    def freeze(self, _id: str | None = None, group_id: str | None = None, chord: Any = None,
               root_id: str | None = None, parent_id: str | None = None, group_index: int | None = None) -> Any:
        """Fix the ids of the header and the body; returns the result of the body (None without one).

        `_id`, the group and the outer chord are the body's.
        """
        return drive(self.freezing(_id, group_id, chord, root_id, parent_id, group_index))

    def freezing(self, _id: str | None = None, group_id: str | None = None, chord: Any = None,
                 root_id: str | None = None, parent_id: str | None = None, group_index: int | None = None) -> Freezing:
        """`freeze`, to be driven."""
        own = self._disposable
        header = self.header_group()
        if own:
            header._disposable = True
            self.body = _unwrap(self.body)
        body = self.body
        header_id, header_results = yield header.freezing_all(None, None if own else body, root_id, parent_id)
        self.id = header_id
        if own:
            for member in header['kwargs']['tasks']:
                bind_end(member, None, None)  # each would carry the body, which the chord has already
        if body is None:
            return None
        of_body = {'_id': _id, 'root_id': root_id, 'chord': chord, 'group_id': group_id, 'group_index': group_index}
        if body.KIND == 'task':
            result = body.freeze(**of_body)
        else:
            body._disposable = body._disposable or own
            result = yield body.freezing(**of_body)
        first_ancestor(result).parent = self.app.GroupResult(header_id, header_results)
        return result

    _freeze = freeze

    @classmethod
    def _descend(cls, sig_obj: Any) -> int:
        return count_parts(sig_obj)

    def __length_hint__(self) -> int:
        """How many tasks must end before the body runs."""
        header = self['kwargs']['header']
        return count_parts(header) if is_signature(header) else sum(map(count_parts, header))

    # --- links, stamps ------------------------------------------------------------------------------------------

    def link(self, callback: Any) -> Any:
        """Run `callback` with the body's result when the body succeeds."""
        self.body.link(callback)
        return callback

    def link_when_applied(self, callbacks: Any) -> None:
        """Run what is linked to a chain that ends here, when the body has run in this process."""
        self.body.extend_list_option('link', callbacks)

    def link_error(self, errback: Any) -> Any:
        """Run `errback` when the chord fails.

        With the setting ``task_allow_error_cb_on_chord_header`` also for each task of the header that fails.
        """
        errback = maybe_signature(errback)
        if not self.app.conf.task_allow_error_cb_on_chord_header:
            warnings.warn('with task_allow_error_cb_on_chord_header=False an errback of a chord is not called for '
                          'each failing task of the header; try the setting True, it is to become the default',
                          CPendingDeprecationWarning, stacklevel=user_stacklevel())
        self.link_error_of_chain(errback)
        return errback

    def link_error_of_chain(self, errback: Any) -> None:
        """Run `errback` when the chord fails, as `link_error` does."""
        links_header = self.app.conf.task_allow_error_cb_on_chord_header
        for member in maybe_list(self.tasks) or ():
            if links_header and getattr(member, 'KIND', '') != 'chord':
                member.link_error(errback.clone(immutable=True))
            elif isinstance(member, _chord):
                member.link_error_of_chain(errback)
        if self.body is not None:
            self.body.link_error(errback)

    def set_immutable(self, immutable: bool) -> None:
        """Say of each task of the header whether it takes no arguments but its own."""
        header = self.tasks
        for member in header.tasks if is_signature(header) else header:
            member.set_immutable(immutable)

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp the header's tasks, the body, and what is linked to the chord, in place; returns itself."""
        said = (visitor.on_chord_header_start(self, **headers) or {}) if visitor is not None else None
        headers = collect_stamps(headers, said, self['options'], append_stamps)
        self.stamp_links(visitor, append_stamps, **headers)
        members = self.header_group().tasks
        for place, member in enumerate(members):
            members[place] = member = maybe_signature(member, app=self._app)
            member.stamp(visitor, append_stamps, **headers)
        if visitor is not None:
            visitor.on_chord_header_end(self, **headers)
        if self.body is not None:
            if visitor is not None:
                headers = collect_stamps(headers, visitor.on_chord_body(self, **headers) or {}, self['options'],
                                         append_stamps)
            self.body.stamp(visitor, append_stamps, **headers)
        return self

    # --- the rest -----------------------------------------------------------------------------------------------

    @property
    def app(self) -> Any:
        """Its own app, else that of its first task or of its body, else the current one."""
        return self._app_for(self.body)

    @app.setter
    def app(self, app: Any) -> None:
        self._app = app

    def _app_for(self, body: Any) -> Any:
        return self.own_app() or own_app(body) or current_app

    def own_app(self) -> Any:
        """The app that it, its first task or its body is bound to, or None."""
        header = self['kwargs']['header']
        members = header['kwargs']['tasks'] if is_signature(header) else header
        return self._app or (own_app(members[0]) if members else None) or own_app(self.body)

    def __repr__(self) -> str:
        return repr_chord(self)


#: The public name; `_chord` is the one to use where an argument is called ``chord``.
chord = _chord


def _as_header(header: Any, app: Any) -> Any:
    """The members of a header: a list, lazy for a generator."""
    header = maybe_signature(header, app=app) if isinstance(header, dict) and not is_signature(header) else header
    if is_signature(header):
        return header.tasks if header.KIND in ('group', 'chain') else [header]
    if isinstance(header, (list, tuple)):
        return [signature(member, app=app) for member in header]
    return LazyMembers(signature(member, app=app) for member in header or ())


def _copy_header(header: Any) -> Any:
    return header.clone() if is_signature(header) else [member.clone() for member in header]


def _options_for_body(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a chord that are the body's."""
    return {name: value for name, value in options.items() if name not in _NOT_FOR_BODY}


def _ready_to_run(sig: Any) -> None:
    """Let a canvas that will not be used again be frozen and sent without more copies."""
    if sig.KIND != 'task':
        sig._disposable = True


def _unwrap(body: Any) -> Any:
    """The only step of a chain of one, the group of chunks, anything else as it is.

    A Celery worker that sends such a chain does not pass its arguments on to a group in it.
    """
    if body is not None and body.KIND == 'chunks':
        body = body.group()
    while body is not None and body.KIND == 'chain' and len(body['kwargs']['tasks']) == 1:
        if body._frozen is not None:
            break
        body = unroll_groups(body.unchain_tasks()[0])
    return body


def _link_to_body(body: Any, options: dict[str, Any]) -> Any:
    """Take ``link`` and ``link_error`` out of a chord's `options` and link them to the body (a copy that is our own).

    A callback goes where `link` of the body puts it. An errback goes to each member of a group, or to the group's own
    errbacks if it has some: these take the members' place when it runs. Otherwise it is the body's own option, where
    those who handle a failed header look for it.
    """
    for callback in maybe_list(options.pop('link', None)) or ():
        callback = maybe_signature(callback, app=body._app, clone=True)
        if body.KIND == 'group' and not body['kwargs']['tasks']:
            body.append_to_list_option('link', callback)
        else:
            body.link(callback)
    for errback in maybe_list(options.pop('link_error', None)) or ():
        errback = maybe_signature(errback, app=body._app, clone=True)
        if body.KIND == 'group':
            _link_error_to_members(body, errback)
        else:
            body.append_to_list_option('link_error', errback)
    return body


def _link_error_to_members(sig: Any, errback: Any, has_own: bool = True) -> None:
    if sig.KIND == 'chord':
        _link_error_to_members(sig.body, errback)
    elif sig.KIND != 'group':
        sig.link_error(errback.clone())
    elif has_own and sig['options'].get('link_error') is not None:
        sig.append_to_list_option('link_error', errback.clone())
    else:
        for member in sig['kwargs']['tasks']:
            _link_error_to_members(member, errback, has_own=False)
