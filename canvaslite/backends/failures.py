"""What follows from a failure: errbacks, the rest of the chain, the body of the chord.

All of it is iterative: a canvas may be as long or as deep as it likes.
"""

from __future__ import annotations

import inspect
import logging
import sys
import traceback as traceback_format
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from kombu.exceptions import OperationalError
from kombu.utils.uuid import uuid

from canvaslite import states, wire
from canvaslite.context import Context
from canvaslite.exceptions import NotRegistered
from canvaslite.utils.functional import await_here
from canvaslite.utils.uuid import successor_id

__all__ = ('FailurePropagation', 'request_of')

logger = logging.getLogger('celery.backends.failures')

#: Options that say what waits for a canvas: they hold for the part of it whose result is the canvas's result.
_AWAITING = ('chord', 'group_id', 'group_index', 'chain')


class FailurePropagation:
    """The part of a store that fails what depends on a failed task."""

    # What `store.Backend` adds.
    app: Any
    keep_outcome: Any

    def _call_task_errbacks(self, request: Any, exc: BaseException, traceback: str | None) -> None:
        """Run each errback of the request.

        One that takes ``(request, exc, traceback)`` is called here and now; one that takes only the failed task's id,
        or that is not known here, is sent as a task. What goes wrong with one is logged, and the others run.
        """
        to_call, sent = [], []
        for place, described in enumerate(request.errbacks or ()):
            try:
                errback = self.app.signature(described)
                if _takes_failure(errback):
                    to_call.append(errback)
                else:
                    sent.append(self._send_errback(errback, request, place))
            except OperationalError:
                raise  # the broker is away: all of it is done again, and none was called yet
            except Exception:
                logger.exception('Errback %r could not be sent', described)
        if sent:  # as Celery, which sends them as a group
            request.children.append(self.app.GroupResult(uuid(), sent))
        for errback in to_call:
            try:
                await_here(errback(request, exc, traceback))
            except Exception:
                logger.exception('Errback %r raised an exception', errback.task)

    def _send_errback(self, errback: Any, request: Any, place: int) -> Any:
        eager = self.app.conf.task_always_eager or (request.delivery_info or {}).get('is_eager', False)
        # By this id it is the same message, should it have to be sent again.
        options = {'task_id': errback.id or successor_id(request.id, f'errback {place}'), 'parent_id': request.id,
                   'root_id': request.root_id or request.id}
        if eager:
            return errback.apply((request.id,), **options)
        producer = self.app.publisher.errback_producer
        if producer is not None:
            options['producer'] = producer
        return errback.apply_async((request.id,), add_to_parent=False, **options)

    def _fail_chain(self, chain: Iterable[Any] | None, exc: BaseException, traceback: str | None = None,
                    store_result: bool = True, state: str = states.FAILURE) -> None:
        """Fail the tasks that would have come next, so that nobody waits for them in vain.

        Those that are parts of a chord are counted in it.
        """
        waiting: deque[Mapping[str, Any]] = deque(element for element in chain or () if isinstance(element, Mapping))
        while waiting:
            element = waiting.popleft()
            inner, ends = _inner_canvases(element)
            if inner:
                waiting.extendleft(reversed([_awaited_like(element, sig) if sig is ends else sig for sig in inner]))
                continue
            request = request_of(element)
            if request.id is not None:
                store = (store_result or self._keeps_errors(element)) and state in states.PROPAGATE_STATES
                self.keep_outcome(request.id, exc, state, traceback, request, store)
            waiting.extend(request.chain or ())

    def _keeps_errors(self, sig: Mapping[str, Any]) -> bool:
        """Whether a task keeps its errors, whatever the one before it does with its own."""
        task, ignored = self.app.tasks.get(sig.get('task')), (sig.get('options') or {}).get('ignore_result')
        if ignored if ignored is not None else getattr(task, 'ignore_result', False):
            return bool(getattr(task, 'store_errors_even_if_ignored', False))
        return True

    def chord_error_from_stack(self, callback: Any, exc: BaseException | None = None) -> None:
        """The chord has failed: call the errbacks of its body, fail the body, and what depends on it.

        `exc` is the exception being handled if it is not given. A body that is itself a canvas fails with all its
        tasks: each errback runs once for each task that it is linked to.
        """
        error = exc if exc is not None else sys.exc_info()[1] or Exception('the chord failed')
        traceback = format_traceback(error)
        waiting: deque[tuple[Mapping[str, Any], list[Any]]] = deque([(callback, [])])
        while waiting:
            sig, inherited = waiting.popleft()
            errbacks = [*inherited, *(link for link in _links(sig) if link not in inherited)]
            inner, ends = _inner_canvases(sig)
            if not inner:
                self._fail_body(sig, errbacks, error, traceback)
            elif ends is None:
                waiting.extendleft((member, errbacks) for member in reversed(inner))
            else:
                inner[-1] = _awaited_like(sig, ends)
                # Of a chain the first step would have been next, of a chord the body says that it has failed.
                told = inner.pop(0 if sig.get('task') == wire.CHAIN else -1)
                waiting.appendleft((told, errbacks))
                self._fail_chain(inner, error, traceback)

    def _fail_body(self, sig: Mapping[str, Any], errbacks: list[Any], error: BaseException,
                   traceback: str | None) -> None:
        request = request_of(sig)
        request.errbacks = errbacks
        if not request.id:
            request.id = uuid()
        try:
            self._call_task_errbacks(request, error, traceback)
        except OperationalError:
            raise  # the broker is away: all of it is done again when it is back
        except Exception as failed:
            # As Celery: that the errbacks could not be called is the greater error.
            logger.exception('The errbacks of %r could not be called', request.id)
            error = failed
        self.fail_from_current_stack(request.id, exc=error, request=request)
        self._fail_chain(request.chain, error, traceback)

    def fail_from_current_stack(self, task_id: str, exc: BaseException | None = None, request: Any = None) -> None:
        """Keep the failure of a task that never ran, by `exc` or the exception being handled."""
        error = exc if exc is not None else sys.exc_info()[1] or Exception('failed')
        self.keep_outcome(task_id, error, states.FAILURE, format_traceback(error), request, True)


def request_of(sig: Mapping[str, Any]) -> Context:
    """A request as the task of `sig` would have had it: for failing what never ran."""
    options = dict(sig.get('options') or {})
    request = Context({**sig, **options})
    request.id = options.get('task_id')
    request.group = options.get('group_id')
    request.errbacks = _links(sig)
    request.delivery_info = {}
    return request


def format_traceback(exc: BaseException) -> str | None:
    """The traceback of `exc` as text; None if it was never raised."""
    return None if exc.__traceback__ is None else ''.join(traceback_format.format_exception(exc))


def _takes_failure(errback: Any) -> bool:
    """Whether `errback` is to be called with ``(request, exc, traceback)``, and not sent with the failed task's id.

    Its own arguments, and what has a default, need not be given; by a name that says so the id is asked for.
    """
    try:
        task = errback.type
    except NotRegistered:
        return False
    header = getattr(task, '__header__', None)
    if header is None or errback.PARTS:
        return False
    if not errback.immutable and (errback.args or errback.kwargs):
        # If its own arguments do not fit, let the call itself say so.
        with suppress(TypeError, ValueError):
            filled = partial(header, *errback.args, **errback.kwargs)
            inspect.signature(filled)
            header = filled
    parameters = inspect.signature(header).parameters.values()
    positional = [parameter for parameter in parameters if parameter.kind <= parameter.POSITIONAL_OR_KEYWORD]
    required = sum(parameter.default is parameter.empty for parameter in positional)
    takes_any = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
    # A bound task may want to be retried, and so is sent as a task if it can be.
    bound = inspect.ismethod(getattr(task, '_orig_run', task.run))
    if errback.immutable:
        return not bound and (takes_any or len(positional) > 1)
    if bound or required > 1:
        return required > 1
    return takes_any or (len(positional) > 2 and positional[0].name not in ('task_id', 'id', 'uuid'))


def _links(sig: Mapping[str, Any]) -> list[Any]:
    links = (sig.get('options') or {}).get('link_error') or []
    return list(links) if isinstance(links, (list, tuple)) else [links]


def _inner_canvases(sig: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], Mapping[str, Any] | None]:
    """The signatures whose results stand for the one of `sig`, and which of them is awaited by what awaits `sig`."""
    kind, kwargs = sig.get('task'), sig.get('kwargs') or {}
    inner: list[Mapping[str, Any]] = []
    if kind == wire.CHORD and kwargs.get('body'):
        header = kwargs.get('header') or ()
        members = header['kwargs']['tasks'] if isinstance(header, Mapping) else header
        inner = [*map(_uncounted, members), kwargs['body']]
    elif kind in (wire.CHAIN, wire.GROUP):
        inner = list(kwargs.get('tasks') or ())
    return inner, inner[-1] if inner and kind != wire.GROUP else None


def _uncounted(member: Mapping[str, Any]) -> Mapping[str, Any]:
    """A header's member without the chord, which has failed as a whole."""
    return {**member, 'options': {**(member.get('options') or {}), 'chord': None}}


def _awaited_like(outer: Mapping[str, Any], sig: Mapping[str, Any]) -> Mapping[str, Any]:
    """`sig` with what waits for `outer`, where it has none of its own."""
    options = outer.get('options') or {}
    inherited = {name: options[name] for name in _AWAITING if options.get(name) is not None}
    if not inherited:
        return sig
    return {**sig, 'options': {**inherited, **(sig.get('options') or {})}}
