"""Sending a running task again: methods of `Task`, and ``autoretry_for``, which calls `retry` for the task."""

from __future__ import annotations

import functools
import inspect
import math
import random
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from types import CoroutineType
from typing import Any, NoReturn

from canvaslite.context import Context
from canvaslite.exceptions import Ignore, Reject, Retry
from canvaslite.wire import WINDOW_HEADER


def retry(task: Any, args: Any = None, kwargs: Any = None, exc: BaseException | None = None, throw: bool = True,
          eta: datetime | None = None, countdown: float | None = None, max_retries: int | None = None,
          **options: Any) -> Any:
    """Send the task again, for a later run under the same id, and end this one by raising ``Retry``.

    `exc` is what made it necessary, and what is raised when `max_retries` is reached (else
    ``MaxRetriesExceededError``); `countdown` is in seconds, default `default_retry_delay`; with `throw` false
    the ``Retry`` is returned. Outside a worker `exc` is raised at once.
    """
    request = task.request
    if max_retries is not None:
        request._override_max_retries = max_retries  # so that an automatic retry after this one keeps to it
    else:
        max_retries = task.max_retries
    if request._called_by is not None:  # for an item of a job, which begins anew
        options = {'countdown': task.default_retry_delay if countdown is None and not eta else countdown, 'eta': eta}
        limit = math.inf if max_retries is None else max_retries
        return request._called_by.retry(exc=exc, throw=throw, max_retries=limit, **options)
    if request.called_directly:
        raise_with_context(exc or Retry('Task can be retried', None))
    if not eta and countdown is None:
        countdown = task.default_retry_delay
    args, kwargs = merge_arguments(task, request, args, kwargs)
    retries = request.retries + 1
    options = {'countdown': countdown, 'eta': eta, 'retries': retries, **options}
    sig = signature_from_request(task, request, args, kwargs, **options)
    if max_retries is not None and retries > max_retries:
        if exc:
            raise_with_context(exc)
        raise task.MaxRetriesExceededError(
            f"Can't retry {task.name}[{request.id}] args:{sig.args} kwargs:{sig.kwargs}",
            task_args=sig.args, task_kwargs=sig.kwargs)
    ending = Retry(exc=exc, when=eta or countdown, is_eager=request.is_eager, sig=sig)
    if not request.is_eager:  # an eager caller applies the signature itself
        try:
            sig.apply_async(add_to_parent=False)
        except Exception as error:
            raise Reject(error, requeue=False) from error
    if throw:
        raise ending
    return ending


def raise_with_context(exc: BaseException) -> NoReturn:
    """Raise `exc`; within the handling of another exception, from that one."""
    current = sys.exc_info()[1]
    if current is exc:
        raise exc
    raise exc from current


def signature_from_request(task: Any, request: Context | None = None, args: Any = None, kwargs: Any = None,
                           queue: str | None = None, **options: Any) -> Any:
    """A signature that runs again what `request` (default: the current one) runs, at the place it came from; with
    these arguments and options, where they are given."""
    request = task.request if request is None else request
    ignored = request.__dict__.get('ignore_result')
    merged = {**request.as_execution_options(), 'ignore_result': task.ignore_result if ignored is None else ignored}
    delivery_info = request.delivery_info or {}
    if delivery_info.get('priority') is not None:
        merged['priority'] = delivery_info['priority']
    if queue:
        merged['queue'] = queue
    elif delivery_info.get('exchange') == '' and delivery_info.get('routing_key'):
        merged['queue'] = delivery_info['routing_key']  # the default exchange: the key is the queue's name
    else:
        merged.update((name, delivery_info[name]) for name in ('exchange', 'routing_key') if delivery_info.get(name))
    merged.update(options)
    window = (request.headers or {}).get(WINDOW_HEADER)
    if window:
        merged['headers'] = {**(merged['headers'] or {}), WINDOW_HEADER: window}
    return task.signature(request.args if args is None else args, request.kwargs if kwargs is None else kwargs,
                          merged)


def merge_arguments(task: Any, request: Context, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments of a retry: those given, and those of `request` that do not conflict with them."""
    if (args is None) is (kwargs is None):
        return args, kwargs
    try:
        parameters = list(inspect.signature(task.run).parameters.values())
    except (TypeError, ValueError):  # a builtin: let the call itself say what does not fit
        return args, kwargs
    if args is None:
        return _with_given(parameters, request.args or (), kwargs)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    filled = {p.name for p in positional[:len(args)] if p.kind is p.POSITIONAL_OR_KEYWORD}
    return args, {name: value for name, value in (request.kwargs or {}).items() if name not in filled}


def _with_given(parameters: list[inspect.Parameter], inherited: Any,
                kwargs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """`inherited` with the values that `kwargs` gives to its parameters, and what is left of `kwargs`."""
    kwargs, merged = dict(kwargs), list(inherited)
    for place, parameter in enumerate(parameters[:len(merged)]):
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            if parameter.kind is not parameter.POSITIONAL_ONLY:
                break
        elif parameter.name in kwargs:
            merged[place] = kwargs.pop(parameter.name)
    return tuple(merged), kwargs


# -- automatic retries ------------------------------------------------------------------------------------------------

class AutoRetry:
    """A task's code that is retried when it raises one of certain errors. Takes the place of ``task.run``."""

    def __init__(self, task: Any, run: Callable[..., Any], option: Callable[[str, Any], Any]) -> None:
        self.task = task
        self.original = run
        #: Errors that are retried, and those among them that are not.
        self.retried: tuple[type[BaseException], ...] = tuple(option('autoretry_for', ()))
        self.excepted: tuple[type[BaseException], ...] = (Ignore, Retry, *option('dont_autoretry_for', ()))
        self.retry_kwargs: Mapping[str, Any] = option('retry_kwargs', {})
        #: Factor of the growing delay, in seconds; 0 for the task's own delay.
        self.backoff = float(option('retry_backoff', False))
        self.backoff_max = int(option('retry_backoff_max', 600))
        self.jitter = bool(option('retry_jitter', True))
        functools.update_wrapper(self, run)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            value = self.original(*args, **kwargs)
            return self._finish(value) if isinstance(value, CoroutineType) else value
        except self.excepted:
            raise
        except self.retried as exc:
            raise self.task.retry(exc=exc, **self.options()) from exc

    async def _finish(self, value: CoroutineType[Any, Any, Any]) -> Any:
        try:
            return await value
        except self.excepted:
            raise
        except self.retried as exc:
            raise self.task.retry(exc=exc, **self.options()) from exc

    def options(self) -> dict[str, Any]:
        """What to call `Task.retry` with for the current request."""
        request = self.task.request
        options = dict(self.retry_kwargs)
        if self.backoff:
            options['countdown'] = backoff_interval(factor=int(max(1.0, self.backoff)), retries=request.retries,
                                                    maximum=self.backoff_max, full_jitter=self.jitter)
        override = request.__dict__.pop('_override_max_retries', None)
        if override is not None:
            options['max_retries'] = override
        return options


def backoff_interval(factor: int, retries: int, maximum: int, full_jitter: bool = False) -> int:
    """Seconds before the retry after `retries` earlier ones: doubling, at most `maximum`, with jitter a random part."""
    interval = max(0, min(maximum, factor * 2 ** min(retries, 64)))
    return random.randrange(interval + 1) if full_jitter else interval


def add_autoretry_behaviour(task: Any, **options: Any) -> None:
    """Let `task` be retried for the errors of its ``autoretry_for``; `options` go before the task's attributes."""
    def option(name: str, default: Any) -> Any:
        return options.get(name, getattr(task, name, default))

    if option('autoretry_for', ()) and not hasattr(task, '_orig_run'):
        task._orig_run, task.run = task.run, AutoRetry(task, task.run, option)
