"""`Task`: what a decorated function becomes, and the base of class-based tasks."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Iterable, Mapping
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from canvaslite.app.replace import add_to_chord, replace
from canvaslite.app.retry import retry, signature_from_request
from canvaslite.app.services import Services
from canvaslite.canvas import chunks, signature, xmap, xstarmap
from canvaslite.canvas.records import record_links
from canvaslite.context import Context, RunStack
from canvaslite.current import get_current_app, get_current_worker_task, task_stack
from canvaslite.exceptions import CDeprecationWarning, MaxRetriesExceededError, OperationalError, Replaced
from canvaslite.result import allow_join_result
from canvaslite.utils.functional import maybe_list, user_stacklevel
from canvaslite.utils.imports import FoundByName, instantiate
from canvaslite.utils.typevars import C, P, R
from canvaslite.utils.uuid import uuid

if TYPE_CHECKING:
    from canvaslite.result.async_result import AsyncResult as _AsyncResult
    from canvaslite.result.async_result import EagerResult

__all__ = ('Context', 'Task')

#: Attributes of a task that are execution options of its messages.
EXECUTION_OPTIONS = (
    'queue', 'routing_key', 'exchange', 'priority', 'expires', 'serializer', 'delivery_mode', 'compression',
    'time_limit', 'soft_time_limit', 'immediate', 'mandatory',
)

#: Those of them that say where a message goes, and are to be said by ``task_routes``.
_ROUTING = {'queue', 'exchange', 'exchange_type', 'routing_key', 'delivery_mode', 'priority'}

#: What an app's own `send_task` may rely on to be among its options.
_UNSAID = dict.fromkeys((*EXECUTION_OPTIONS, 'link', 'link_error', 'shadow'))

#: Few processes run tasks in place, and what runs them takes as long to import as all the rest.
apply_locally = FoundByName('canvaslite.app.eager:apply_locally')
apply_through_serializer = FoundByName('canvaslite.app.eager:apply_through_serializer')


class _ClassApp:
    """``Task.app``: the app of a task class, bound when first asked for."""

    def __get__(self, task: Task | None, cls: type[Task]) -> Any:
        return cls._get_app()

    def __set__(self, task: Task, app: Any) -> None:
        type(task).bind(app)


class Task(Generic[P, R, C]):
    """A function that workers run, and the ways to ask for it.

    Class attributes are the task's options; those that are None take the value of the setting in `from_config`
    when the task is bound to its app.
    """

    MaxRetriesExceededError = MaxRetriesExceededError
    OperationalError = OperationalError

    #: Class of a worker's requests for this task, or its qualified name.
    Request: Any = 'canvaslite.worker.request:Request'

    #: Registered name.
    name: Any = None
    #: Check arguments against the function's signature before sending (default: the app's ``strict_typing``).
    typing: bool | None = None
    #: How often `retry` may send the task again; None is always.
    max_retries: int | None = 3
    #: Seconds before a retry.
    default_retry_delay: float = 3 * 60
    #: Runs allowed in a time, in each worker: ``'100/s'``, ``'100/m'``, ``'100/h'``, or None.
    rate_limit: Any = None
    #: Do not store results.
    ignore_result: bool | None = None
    #: Note in the result which tasks this one has sent.
    trail = True
    #: Send monitoring events.
    send_events = True
    #: Store errors although results are ignored.
    store_errors_even_if_ignored: bool | None = None
    store_eager_result: bool | None = None
    #: Name of the serializer of messages.
    serializer: str | None = None
    compression: str | None = None
    #: Seconds after which a worker kills the task, or interrupts it with ``SoftTimeLimitExceeded``.
    time_limit: float | None = None
    soft_time_limit: float | None = None
    #: Store the state STARTED when a worker starts the task.
    track_started: bool | None = None
    #: Acknowledge the message when the task has ended, not when it starts.
    acks_late: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    acks_on_failure: bool | None = None
    acks_on_timeout: bool | None = None
    #: With `acks_late`: requeue the message, or send the task again, when the process running it dies.
    reject_on_worker_lost: bool | None = None
    retry_on_worker_lost: bool | None = None
    #: Expected errors: failures of which the log shows no traceback.
    throws: tuple[type[BaseException], ...] = ()
    #: Seconds, or a time, after which the task is not to be run any more.
    expires: float | datetime | None = None
    priority: int | None = None
    #: Longest text of a result in logs and events, in characters.
    resultrepr_maxsize = 1024
    #: Kept for old code; means nothing.
    abstract = True

    #: Requests running in this thread, the innermost last; each bound class has its own.
    request_stack: Any = None
    #: A function of the task's signature that does nothing, to check arguments with.
    __header__: Any = None

    #: With ``pydantic=True``: what makes and dumps the models.
    _models: Any = None

    __bound__: bool
    __v2_compat__ = False
    _app: Any = None
    _backend: Any = None
    _default_request: Context | None = None
    _exec_options: dict[str, Any] | None = None

    #: Attributes that take the value of a setting if they are None.
    from_config: ClassVar[tuple[tuple[str, str], ...]] = (
        ('rate_limit', 'task_default_rate_limit'), ('priority', 'task_default_priority'),
        *((name, f'task_{name}') for name in (
            'serializer', 'time_limit', 'soft_time_limit', 'track_started', 'acks_late', 'acks_on_failure_or_timeout',
            'acks_on_failure', 'acks_on_timeout', 'reject_on_worker_lost', 'retry_on_worker_lost', 'ignore_result',
            'store_eager_result', 'store_errors_even_if_ignored')),
    )

    # -- belonging to an app ----------------------------------------------------------------------------------

    @classmethod
    def bind(cls, app: Any) -> Any:
        """Make this a task of `app`: take the settings' values for what is not set."""
        # A subclass of a bound class is not bound by that: it must have a request stack of its own.
        was_bound, cls.__bound__ = '__bound__' in cls.__dict__, True
        cls._app = app
        cls._exec_options = None
        if not was_bound:
            for attribute in _ROUTING & cls.__dict__.keys():
                warnings.warn(CDeprecationWarning(
                    f'The {attribute!r} task attribute is deprecated, and of no effect in Celery 6: use the setting '
                    f'task_routes instead'), stacklevel=user_stacklevel())
        if cls.typing is None:
            cls.typing = app.strict_typing
        for attribute, setting in cls.from_config:
            if getattr(cls, attribute, None) is None:
                setattr(cls, attribute, app.conf[setting])
        for attribute in ('acks_on_failure', 'acks_on_timeout'):
            if getattr(cls, attribute) is None:
                setattr(cls, attribute, cls.acks_on_failure_or_timeout is not False)
        if not was_bound:
            cls.annotate()
            cls.request_stack = RunStack()
        cls.on_bound(app)
        return app

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Called when the task class is bound to an app."""

    @classmethod
    def _get_app(cls) -> Any:
        if cls._app is None:
            cls._app = get_current_app()
        if '__bound__' not in cls.__dict__:
            cls.bind(cls._app)
        return cls._app

    app: Any = _ClassApp()

    @classmethod
    def annotate(cls) -> None:
        """Set the attributes that ``task_annotations`` gives this task; a name beginning with ``@`` wraps a method.

        An annotation is a mapping of task names (``'*'`` for all) to attributes, or an object (or the qualified name of
        its class) with ``annotate(task)`` and ``annotate_any()``. For all tasks comes after for this one, as in Celery.
        """
        for annotation in maybe_list(cls.app.conf.task_annotations, scalars=(Mapping, str)) or ():
            if isinstance(annotation, Mapping):
                found = [annotation.get(cls.name), annotation.get('*')]
            else:
                source = instantiate(annotation) if isinstance(annotation, str) else annotation
                found = [source.annotate(cls), source.annotate_any()]
            for name, value in (pair for attributes in found for pair in (attributes or {}).items()):
                if name.startswith('@'):
                    cls.add_around(name[1:], value)
                else:
                    setattr(cls, name, value)

    @classmethod
    def add_around(cls, attr: str, around: Any) -> None:
        """Replace the method `attr` by `around(method)`."""
        original = getattr(cls, attr)
        original = getattr(original, '__wrapped__', None) or original
        wrapped = around(original)
        wrapped.__wrapped__ = original
        setattr(cls, attr, wrapped)

    def overrides(self, name: str) -> bool:
        """Whether the task has a method of its own in place of the base class's."""
        return name in self.__dict__ or getattr(type(self), name) is not getattr(Task, name)

    @property
    def backend(self) -> Any:
        """The result store of this task: its own if one was set, else the app's."""
        backend = self._backend
        return self._get_app().backend if backend is None else backend

    @backend.setter
    def backend(self, value: Any) -> None:
        self._backend = value

    # -- running ------------------------------------------------------------------------------------------------

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """Run the task here and now, as a plain function."""
        request = self.request_stack.top
        if request is not None and request._protected:
            # The worker called an overriding __call__, which calls this one: the run has its request already.
            request._protected = 0
            return self.run(*args, **kwargs)
        task_stack.push(self)
        self.push_request(args=args, kwargs=kwargs)
        try:
            return self.run(*args, **kwargs)
        finally:
            self.pop_request()
            task_stack.pop()

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The task's own code: a class-based task defines it."""
        raise NotImplementedError(f'The task {self.name or type(self).__name__} does not define run()')

    @property
    def request(self) -> Context:
        """The run in progress in this thread, as the task sees it."""
        request: Context | None = self.request_stack.top
        if request is None:
            request = self._default_request = self._default_request or Context()
        return request

    def push_request(self, *args: Any, **kwargs: Any) -> None:
        """Begin a run within the current one, which it is like but for the attributes given."""
        self.request_stack.push(Context(*args, **{**self.request.__dict__, **kwargs}))

    def pop_request(self) -> None:
        """End the innermost run."""
        self.request_stack.pop()

    # -- asking for a run ----------------------------------------------------------------------------------------

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> _AsyncResult[R]:
        """Send the task with these arguments; `apply_async` without options."""
        return self.apply_async(args, kwargs)

    def apply_async(self, args: Any = None, kwargs: Any = None, task_id: str | None = None, producer: Any = None,
                    link: Any = None, link_error: Any = None, shadow: str | None = None, add_to_parent: bool = True,
                    **options: Any) -> _AsyncResult[R]:
        """Send the task, and return the `AsyncResult` of it.

        `options` are the execution options: countdown (seconds) or eta (datetime), expires (seconds or datetime),
        queue, exchange, routing_key, priority, serializer, compression, headers, time_limit, soft_time_limit,
        ignore_result, retry, retry_policy, and kombu's publishing options. With ``task_always_eager`` the task runs
        here instead.

        Raises `TypeError` for arguments that do not fit the task's signature, `ValueError` for a soft time limit
        above the hard one, ``EncodeError`` for arguments that cannot be serialized, and ``OperationalError`` when
        the broker cannot be reached.
        """
        if self.soft_time_limit and self.time_limit and self.soft_time_limit > self.time_limit:
            raise ValueError('soft_time_limit must be less than or equal to time_limit')
        if self.typing and self.__header__ is not None:
            self.__header__(*(args or ()), **(kwargs or {}))
        shadow = shadow or self.shadow_name(args, kwargs, options)
        options = {**self._get_exec_options(), **options}
        if 'ignore_result' not in options:
            options['ignore_result'] = self.ignore_result
        if self._models is not None and options.get('serializer') != 'pickle':
            args, kwargs = self._models.dump_arguments(args, kwargs)
        app = self._get_app()
        if app.conf.task_always_eager:
            return apply_through_serializer(self, app, args, kwargs, task_id=task_id, link=link,
                                            link_error=link_error, **options)
        options['task_id'] = task_id = task_id or uuid()
        if link is not None:
            options['link'] = link
        if link_error is not None:
            options['link_error'] = link_error
        if shadow:
            options['shadow'] = shadow
        if options.get('link'):
            record_links(app, self.name, options)
        return self._publish(app, args, kwargs, task_id, options, producer, add_to_parent)

    def _publish(self, app: Any, args: Any, kwargs: Any, task_id: str, options: dict[str, Any], producer: Any,
                 add_to_parent: bool) -> Any:
        if 'send_task' in app.__dict__ or type(app).send_task is not Services.send_task:  # of the user's own
            return app.send_task(
                self.name, args, kwargs, task_type=self, producer=producer, result_cls=self.AsyncResult,
                **({} if add_to_parent else {'add_to_parent': False}), **{**_UNSAID, **options})
        ignored, reply_to = options['ignore_result'], options.get('reply_to')
        if not ignored and (reply_to is None or reply_to == app.thread_oid):  # else another waits for it
            self.backend.on_task_call(producer, task_id)
        app.publisher.publish(self.name, args, kwargs, options, task=self, producer=producer)
        result = self.AsyncResult(task_id)
        result.ignored = ignored
        if add_to_parent and task_stack.stack:
            parent = get_current_worker_task()
            if parent is not None:
                parent.add_trail(result)
        return result

    def _get_exec_options(self) -> dict[str, Any]:
        if self._exec_options is None:
            values = {name: getattr(self, name, None) for name in EXECUTION_OPTIONS}
            self._exec_options = {name: value for name, value in values.items() if value is not None}
        return self._exec_options

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> EagerResult[R]:
        """Run the task here, as a worker would, and return the `EagerResult` of it.

        `options` are those of `apply_async`, and `throw`: raise the task's errors (default: ``task_eager_propagates``).
        """
        return apply_locally(self, args, kwargs, **options)

    def shadow_name(self, args: Any, kwargs: Any, options: dict[str, Any]) -> str | None:
        """The name to show in logs and monitors in place of the task's own; None for its own. To be overridden."""
        return None

    def AsyncResult(self, task_id: str, **kwargs: Any) -> _AsyncResult[R]:
        """The result of the run `task_id`."""
        return self._get_app().AsyncResult(task_id, backend=self.backend, task_name=self.name, **kwargs)

    # -- canvas -----------------------------------------------------------------------------------------------------

    def signature(self, args: Any = None, *starargs: Any, **starkwargs: Any) -> Any:
        """A signature of this task: its arguments and execution options, to be sent later."""
        starkwargs.setdefault('app', self.app)
        return signature(self, args, *starargs, **starkwargs)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> Any:
        """A signature with these arguments."""
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Any:
        """An immutable signature with these arguments: results of other tasks are not passed to it."""
        return self.signature(args, kwargs, immutable=True)

    def chunks(self, it: Iterable[Any], n: int) -> Any:
        """`it`, argument tuples, as tasks that run `n` calls each."""
        return chunks(self.s(), it, n, app=self.app)

    def map(self, it: Iterable[Any]) -> Any:
        """One task that calls this one for each of `it`."""
        return xmap(self.s(), it, app=self.app)

    def starmap(self, it: Iterable[Any]) -> Any:
        """One task that calls this one for each argument tuple of `it`."""
        return xstarmap(self.s(), it, app=self.app)

    # -- what a task may do while it runs ------------------------------------------------------------------------

    retry, replace, add_to_chord = retry, replace, add_to_chord
    signature_from_request = subtask_from_request = signature_from_request

    def on_replace(self, sig: Any) -> Any:
        """Called to send the replacement; an override must return ``super().on_replace(sig)``."""
        if self.request.is_eager:
            with allow_join_result():
                return sig.apply().get()
        sig.delay()
        raise Replaced('Replaced by new task')

    def update_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None,
                     **kwargs: Any) -> None:
        """Store `state`, with `meta` as the result, for the current run or for `task_id`."""
        self.backend.store_result(self.request.id if task_id is None else task_id, meta, state,
                                  request=self.request, **kwargs)

    def send_event(self, type_: str, retry: bool = True, retry_policy: Mapping[str, Any] | None = None,
                   **fields: Any) -> None:
        """Send a monitoring event about the current run, if the app sends events."""
        events = getattr(self.app, 'events', None)
        if events is not None:
            with events.default_dispatcher(hostname=self.request.hostname) as dispatcher:
                dispatcher.send(type_, uuid=self.request.id, retry=retry,
                                retry_policy=retry_policy or self.app.conf.task_publish_retry_policy, **fields)

    def add_trail(self, result: Any) -> Any:
        """Note `result` as that of a task which the current run has sent."""
        if self.trail:
            self.request.children.append(result)
        return result

    # -- hooks --------------------------------------------------------------------------------------------------------

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called in the worker before the task's code; an error in it is the task's failure."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called in the worker when the task has succeeded and its result is stored."""

    def on_retry(self, exc: BaseException | None, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called in the worker when the task will be run again."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called in the worker when the task has failed and its error is stored."""

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called in the worker after success or failure; `retval` is the result or the exception."""

    # -- identity ----------------------------------------------------------------------------------------------

    __class_getitem__: Any = classmethod(types.GenericAlias)

    def __reduce__(self) -> tuple[Any, ...]:
        # A task is pickled as its name; the module is imported where it is not registered.
        module = type(self).__module__
        return restore_task, (self.name, module if module in sys.modules else None), None

    __name__: Any = property(lambda self: type(self).__name__)

    def __repr__(self) -> str:
        app = self._app
        compatible = ' (v2 compatible)' if self.__v2_compat__ else ''
        return (f'<@task: {self.name} of {app.main or "__main__"} at {id(app):#x}{compatible}>' if app
                else '<unbound task>')


def restore_task(name: str, module: str | None = None) -> Any:
    """The current app's task of that name: what a pickled task is unpickled with."""
    if module:
        import_module(module)
    return get_current_app().tasks[name]
