"""`chord`: a body that runs once, with the list of what a header's tasks gave."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kombu.exceptions import SerializerNotInstalled

from canvaslite.canvas.copying import copy_options
from canvaslite.canvas.freezing import Freezing, bind_end, drive, first_ancestor
from canvaslite.canvas.groups import group
from canvaslite.canvas.members import LazyMembers, is_linked, is_signature, is_strict, unroll_groups, with_partials
from canvaslite.canvas.parts import Canvas, Shown, apply_part, copy_members, name_module_once
from canvaslite.canvas.records import recorded
from canvaslite.canvas.signatures import Entry, Signature, maybe_signature, own_app, signature
from canvaslite.canvas.streaming import count_parts, may_stream, send_header, slots_of
from canvaslite.canvas.strict import ROUTING, joined, strict_copy
from canvaslite.current import current_app
from canvaslite.exceptions import CPendingDeprecationWarning, EncodeError
from canvaslite.result.blocking import allow_join_result
from canvaslite.utils.functional import given, maybe_list, user_stacklevel
from canvaslite.utils.uuid import uuid
from canvaslite.wire import CHORD

#: Options that are not passed on to the body: its parent is the task that completes the header.
_NOT_FOR_BODY = frozenset({'add_to_parent', 'link', 'link_error', 'max_concurrency', 'parent_id', 'producer',
                           'task_id'})


@Canvas.register_type(name='chord')
class _chord(Canvas):
    """Tasks side by side (the header), and one that runs when all of them have succeeded, with the list of values.

    `header` is a group, or an iterable of signatures, which a generator may be; a chain or another group given as the
    header stands for its tasks. The body may be given later, in the call: ``chord(header)(body)``.
    """

    KIND, PARTS, STAMPED_AS = 'chord', ('header', 'body'), 'chord_header'

    #: What runs last, or None.
    body = Entry('body', 'kwargs')

    def __init__(self, header: Any, body: Any = None, task: str = CHORD, args: Any = None, kwargs: Any = None,
                 app: Any = None, **options: Any) -> None:
        header = maybe_signature(header, app=app) if isinstance(header, dict) else header
        if is_signature(header) and header.KIND == 'group' and header['options'].get('max_concurrency'):
            options['max_concurrency'] = header['options']['max_concurrency']
        if is_signature(header) and header.KIND == 'group' and is_linked(header):
            end = joined(header.clone())
            header, body = end['kwargs']['header'], end.body if body is None else end.body | maybe_signature(body, app)
        parts = {**(kwargs or {'kwargs': {}}), 'header': _as_header(header, app), 'body': maybe_signature(body, app)}
        super().__init__(task, args, parts, app=app, **options)
        self['subtask_type'] = 'chord'

    @classmethod
    def from_dict(cls, d: Any, app: Any = None) -> Any:
        """The chord that `d` describes."""
        d = cls.revive_parts(d, app)
        parts = d['kwargs']
        header = parts.pop('header', ())
        revived = isinstance(header, list)  # nobody else holds the members: they need no copy
        chord = cls(() if revived else header, parts.pop('body', None), kwargs=parts, app=app,
                    options=d['options'], args=d.get('args'), immutable=bool(d.get('immutable')))
        if revived:
            chord['kwargs']['header'] = header
        chord.update((key, d[key]) for key in d if key not in chord)
        return chord

    def with_body(self, body: Any, keep_header: bool = False) -> Any:
        """A chord like this one with another body.

        The header is copied; or shared until somebody looks at it, where no user holds its members; or with
        `keep_header` it is the very same, made a group, so that freezing the one fixes the ids of the other.
        """
        header = self.header_group() if keep_header else self['kwargs']['header']
        self._shared = self._owned > 0
        if not (keep_header or self._owned):
            header = copy_members(header)
        chord = Signature.__new__(type(self))
        chord.update(self, kwargs={**self['kwargs'], 'header': header, 'body': body},
                     options=copy_options(self['options']))
        chord._app, chord._disposable = self._app, self._disposable
        chord._owned, chord._shared = (0, False) if keep_header else (len(header), self._shared)
        return chord

    def header_group(self) -> Any:
        """The header as a group, which it is from now on."""
        header = self.tasks
        if not (is_signature(header) and header.KIND == 'group'):
            options = {'task_id': self.id, 'max_concurrency': self['options'].get('max_concurrency')}
            header = self.tasks = group(header, app=self._app, **given(options))
            header._disposable = self._disposable
        return header

    def change_body(self) -> Any:
        """Its body, to be changed in place: a copy, which others do not hold."""
        self.body = maybe_signature(self.body, clone=True)
        return self.body

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send it, with another body if one is given."""
        return self.apply_async((), {'body': body} if body else {}, **options)

    def apply_async(self, args: Any = None, kwargs: Any = None, task_id: str | None = None,  # type: ignore[override]
                    producer: Any = None, publisher: Any = None, connection: Any = None, router: Any = None,
                    result_cls: Any = None, **options: Any) -> Any:
        """Send the header, with partial arguments for each of its tasks; returns the result of the body.

        `task_id`, ``link`` and ``link_error`` are the body's, ``countdown`` and ``eta`` the header's, others both's.
        """
        kwargs = dict(kwargs or {})
        body = kwargs.pop('body', None) or self.body
        if body is None:
            raise TypeError('a chord needs a body: chord(header, body), or chord(header)(body)')
        if not self._disposable and self.app.conf.canvas_strict:
            copy, options = strict_copy(self.with_body(maybe_signature(body, app=self._app)), options)
            return copy.apply_async(args, kwargs, task_id=task_id, producer=producer, **options)
        delay = given({name: options.pop(name, None) for name in ('countdown', 'eta')})
        if not self._disposable or body is not self.body:
            body = maybe_signature(body, app=self._app).clone()
        _add_options(body, options)
        app = own_app(self) or own_app(body) or current_app
        merged = {'task_id': None, **self['options'], **options}
        if app.conf.task_always_eager:
            with allow_join_result():
                return self.apply(args, kwargs, body=_link_to_body(body, merged), task_id=task_id)
        args, kwargs = self.partials(args, kwargs)
        for name in ('countdown', 'eta'):
            merged.pop(name, None)  # of `run` these are the pauses between two looks at an unfinished header
        merged.update(given({'task_id': task_id, 'header_delay': delay or None, 'producer': producer}))
        return self.run(self._header_to_run(app), body, args, kwargs=kwargs, **merged)

    def _header_to_run(self, app: Any) -> Any:
        header = self['kwargs']['header']
        if is_signature(header) and header.KIND == 'group':
            return header if self._disposable else header.clone()
        members = header if self._disposable or may_stream(header, app) else copy_members(header)
        run = group(members, app=app, task_id=self.id or uuid())
        run._disposable = True
        return run

    def run(self, header: Any, body: Any, partial_args: Any, app: Any = None, interval: float | None = None,
            countdown: float = 1, max_retries: int | None = None, eager: bool = False, task_id: str | None = None,
            kwargs: Any = None, header_delay: Any = None, producer: Any = None, **options: Any) -> Any:
        """Send `header` with `body` to follow; both are used up. Returns the result of the body.

        `interval`, `countdown` and `max_retries` say how a store that cannot count looks for the end of the header.
        """
        app = app or own_app(self) or own_app(body) or current_app
        options = {**self['options'], **options}
        delay = {name: options.pop(name, None) for name in ('countdown', 'eta')}
        delay.update(header_delay or {})
        body = _unwrap(_link_to_body(body, options))
        options.pop('task_id', None)
        _add_options(body, options)
        header['options'].update(given({'max_concurrency': options.pop('max_concurrency', None)}))
        group_id = header.id = header.id or uuid()
        root_id = body['options'].get('root_id')
        header._disposable = body._disposable = True
        # A body that is part of another chord is counted there: its end is, where it is a canvas.
        outer = {name: body['options'][name] for name in ('chord', 'group_index') if name in body['options']}
        result = body.freeze(task_id or uuid(), group_id=body['options'].get('group_id') or group_id, root_id=root_id,
                             **outer)
        # What follows the chord, and the outer chord, are the body's.
        of_header = given({**options, **delay, 'producer': producer, 'chain': None, 'chord': None})
        streams = (may_stream(header, app) and header['kwargs']['tasks']
                   and not app.backend.is_told_chord_sizes)
        header_args = () if streams else drive(header.freezing_all(group_id, body, root_id))
        members = [] if streams else header['kwargs']['tasks']
        with recorded(app, result.id, lambda record: record.chord(group_id, members, body), root_id,
                      opens=bool(streams or members)):
            if streams:
                header_result = send_header(header, body, root_id, partial_args, kwargs, of_header)
            elif members:
                slots = slots_of(header)
                body['chord_size'] = len(slots)
                app.backend.apply_chord(header_args, body, interval=interval, countdown=countdown,
                                        max_retries=max_retries, slots=slots)
                if app.backend.is_told_chord_sizes:
                    app.backend.set_chord_size(group_id, body['chord_size'])
                header_result = _send(app, header, partial_args, kwargs, {'task_id': group_id, **of_header})
            else:
                body.apply_async(([],), **given({'producer': producer}))
                header_result = app.GroupResult(*header_args)
        first_ancestor(result).parent = header_result
        return result

    def applying(self, args: Any, kwargs: Any, propagate: bool = True, body: Any = None, **options: Any) -> Freezing:
        """`apply`, to be driven."""
        if body is None:
            body = _link_to_body(self.body.clone(), {**self['options'], **options})
        header = self._header_to_run(self.app)
        args, kwargs = header.partials(*self.partials(args, kwargs))
        results = []
        for member in header._flat_members(copy=False):
            results.append((yield from apply_part(member, args, kwargs)))
        with allow_join_result():
            values = [result.get(propagate=propagate) for result in results]
        result = yield from apply_part(body, (values,), None)
        result.parent = self.app.GroupResult(self.id, results)
        return result

    def freezing(self, root_id: str | None = None, parent_id: str | None = None, **of_body: Any) -> Freezing:
        """`freeze`, to be driven; the result is None without a body."""
        own = self._disposable
        header = self.header_group()
        header._fresh = fresh = self._take_fresh()
        if own:
            header._disposable = True
            self.body = _unwrap(self.body)
        body = self.body
        self.id, header_results = yield header.freezing_all(None, None if own else body, root_id, parent_id)
        if own:
            bind_end(header, None, None)  # the group and each member would carry the body, which the chord has
        if body is None:
            return None
        if body.PARTS:
            body._disposable, body._fresh = body._disposable or own, fresh
            result = yield body.freezing(root_id=root_id, **of_body)
        else:
            result = body.freeze(root_id=root_id, **of_body)
        first_ancestor(result).parent = self.app.GroupResult(self.id, header_results)
        return result

    def __length_hint__(self) -> int:
        """How many tasks must end before the body runs."""
        header = self['kwargs']['header']
        return sum(map(count_parts, [header] if is_signature(header) else header))

    def link(self, callback: Any) -> Any:
        """Run `callback` with the body's result when the body succeeds."""
        self.change_body().link(callback)
        return callback

    def link_error(self, errback: Any) -> Any:
        """Run `errback` when the chord fails, or by ``task_allow_error_cb_on_chord_header`` a header task."""
        errback = maybe_signature(errback)
        if not (is_strict(self) or self.app.conf.task_allow_error_cb_on_chord_header):
            warnings.warn('with task_allow_error_cb_on_chord_header=False an errback of a chord is not called for '
                          'each failing task of the header; try the setting True, it is to become the default',
                          CPendingDeprecationWarning, stacklevel=user_stacklevel())
        self.link_error_of_chain(errback)
        return errback

    def link_error_of_chain(self, errback: Any) -> None:
        """Run `errback` when the chord fails, as `link_error` does."""
        links_header = not is_strict(self) and self.app.conf.task_allow_error_cb_on_chord_header
        # A chord in the header fails this one: without the setting the body's errback is told of that, once.
        for member in self.change_members() if links_header else ():
            if getattr(member, 'KIND', '') == 'chord':
                member.link_error_of_chain(errback)
            else:
                member.link_error(errback.clone(immutable=True))
        if self.body is not None:
            self.change_body().link_error(errback)

    def describe(self, show: Callable[[Any], str]) -> str:
        """Its text, of those of its parts."""
        header, body = Shown(show(self['kwargs']['header'])), self.body
        if not body:
            return f'<chord without body: {header}>'
        if body.KIND != 'chain' or not body['kwargs']['tasks']:
            return '%' + name_module_once(body, body.reprcall(header))
        first, *rest = body['kwargs']['tasks']
        return name_module_once(first, f'%({" | ".join([first.reprcall(header), *map(show, rest)])})')


def _send(app: Any, header: Any, args: Any, kwargs: Any, options: dict[str, Any]) -> Any:
    """Send the header of an open chord. If that fails nobody waits for the body, and what was sent counts no more.

    Not inside a task: that may run again, and send the header again. But what cannot be written never was sent, and
    who fails by that tells those who wait.
    """
    try:
        return header.apply_async(args, kwargs, **options)
    except Exception as exc:
        with suppress(Exception):  # that the store is away as well is not what the caller has to know
            if app.current_worker_task is None:
                app.backend.abort_chord(header.id, f'its header could not be sent: {exc!r:.200}')
            elif isinstance(exc, (EncodeError, SerializerNotInstalled)):
                app.backend.join.forget(header.id)
        raise


#: The public name; `_chord` is the one to use where an argument is called ``chord``.
chord = _chord


def _as_header(header: Any, app: Any) -> Any:
    """The members of a header: a list, lazy for a generator."""
    if is_signature(header):
        if header.KIND == 'group' and any(partials := header.partials((), {})):
            return [with_partials(member, *partials) for member in header.tasks]
        if header.KIND == 'group' and not ROUTING.isdisjoint(header['options']) and is_strict(header):
            return header.clone()
        return header.tasks if header.KIND in ('group', 'chain') else [header]
    if isinstance(header, (list, tuple)):
        return [signature(member, app=app) for member in header]
    return LazyMembers(signature(member, app=app) for member in header)


def _add_options(body: Any, options: dict[str, Any]) -> None:
    """Give a chord's body the options of the chord that are the body's too."""
    of_body = {name: value for name, value in options.items() if name not in _NOT_FOR_BODY}
    body['options'] = body._merge_options(body['options'], of_body)


def _unwrap(body: Any) -> Any:
    """The only step of a chain of one, whose arguments a Celery worker would not pass on to it; the group of chunks."""
    if body is not None and body.KIND == 'chunks':
        body = body.group()
    while body is not None and body.KIND == 'chain' and len(body['kwargs']['tasks']) == 1:
        if body._frozen is not None:
            break
        body = unroll_groups(body.unchain_tasks()[0])
    return joined(body) if body is not None and body.KIND == 'group' else body


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
