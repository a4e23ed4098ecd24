"""Bootsteps: parts of a worker that are started in the order in which they require each other, and stopped in reverse.

A program adds its own: ``app.steps['worker'].add(MyStep)`` or ``app.steps['consumer'].add(MyConsumerStep)``, classes
with ``requires = {'canvaslite.worker.steps.worker:Pool'}``, ``start(self, worker)`` and ``stop(self, worker)``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from typing import Any

from kombu.common import ignore_errors
from kombu.utils.imports import symbol_by_name

__all__ = ('Blueprint', 'ConsumerStep', 'StartStopStep', 'Step')

logger = logging.getLogger('celery.bootsteps')

RUN, CLOSE, TERMINATE = 1, 2, 3

_STATES = {0: 'initializing', RUN: 'running', CLOSE: 'closing', TERMINATE: 'terminating'}


class Step:
    """Something that is added to a parent (a worker or a consumer) when that is made."""

    #: Name of the step; module and class where not given.
    name: str = ''
    #: Short name for logs.
    label: str | None = None
    #: Steps, or their paths, that are started before this one.
    requires: Iterable[Any] = ()
    #: Started after all others; one step of a blueprint may be.
    last = False
    #: Whether it takes part, unless `include_if` says something else.
    enabled = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if 'name' not in vars(cls):
            cls.name = f'{cls.__module__}.{cls.__qualname__}'

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        """Called with the parent and its options; may set attributes of the parent."""

    def include_if(self, parent: Any) -> bool:
        """Whether it takes part."""
        return self.enabled

    def create(self, parent: Any) -> Any:
        """Make the object that the step starts and stops, if it is one object."""

    def include(self, parent: Any) -> bool:
        """Take part, if `include_if` says so."""
        if included := self.include_if(parent):
            self.create(parent)
        return included

    def info(self, parent: Any) -> dict[str, Any] | None:
        """What ``inspect stats`` shows of it."""
        return None

    @property
    def alias(self) -> str:
        return self.label or type(self).name.rsplit('.', 1)[-1]

    def __repr__(self) -> str:
        return f'<step: {self.alias}>'


class StartStopStep(Step):
    """A step that is started and stopped with its parent."""

    #: What `create` made.
    obj: Any = None

    def include(self, parent: Any) -> bool:
        if included := self.include_if(parent):
            self.obj = self.create(parent)
            parent.steps.append(self)
        return included

    def start(self, parent: Any) -> None:
        if self.obj is not None:
            self.obj.start()

    def stop(self, parent: Any) -> None:
        if self.obj is not None:
            self.obj.stop()

    def close(self, parent: Any) -> None:
        """The parent begins to stop."""

    def terminate(self, parent: Any) -> None:
        """Stop at once."""
        if self.obj is not None:
            getattr(self.obj, 'terminate', self.obj.stop)()


class ConsumerStep(StartStopStep):
    """A step of the consumer that starts kombu consumers of its own, on a channel of their own."""

    requires: Iterable[Any] = ('canvaslite.worker.steps.consumer:Connection',)
    consumers: Any = None

    def get_consumers(self, channel: Any) -> Any:
        """The consumers, on `channel`; each is started. To be overridden."""
        return ()

    def start(self, c: Any) -> None:
        channel = c.connection.channel()
        self.consumers = self.get_consumers(channel)
        for consumer in self.consumers or ():
            consumer.consume()

    def stop(self, c: Any) -> None:
        consumers, self.consumers = self.consumers or (), None
        if c.connection is not None:
            for consumer in consumers:
                ignore_errors(c.connection, consumer.cancel)
            for channel in {id(consumer.channel): consumer.channel for consumer in consumers}.values():
                if channel is not None:
                    ignore_errors(c.connection, channel.close)

    #: The connection is about to be closed.
    shutdown = stop


class Blueprint:
    """The steps of one parent: `default_steps` and `steps`; `apply` puts those that take part into ``parent.steps``."""

    name: str = ''
    default_steps: Iterable[Any] = ()

    def __init__(self, steps: Iterable[Any] | None = None, name: str | None = None) -> None:
        self.name = name or self.name or type(self).__qualname__
        self.types = [*self.default_steps, *(steps or ())]
        self.state = 0
        self.steps: dict[str, Step] = {}

    def apply(self, parent: Any, **kwargs: Any) -> Blueprint:
        """Make the steps in their order, and include them in `parent`."""
        self.steps = {step.name: step(parent, **kwargs) for step in self._sort()}
        for step in self.steps.values():
            step.include(parent)
        return self

    def _sort(self) -> list[type[Step]]:
        """The classes in an order that has every one after what it requires. Raises `KeyError` for a circle."""
        requires: dict[Any, list[Any]] = {}
        pending = [symbol_by_name(step) for step in self.types]
        while pending:
            step = pending.pop(0)
            if step not in requires:
                requires[step] = [symbol_by_name(required) for required in step.requires]
                pending += requires[step]
        for step in requires:
            if step.last:
                requires[step] = [other for other in requires if not other.last]
        try:
            return list(TopologicalSorter(requires).static_order())
        except CycleError as exc:
            raise KeyError(f'bootsteps of {self.name} require each other: {exc.args[1]}') from exc

    def start(self, parent: Any) -> None:
        """Start the steps."""
        self.state = RUN
        for step in parent.steps:
            logger.debug('| %s: Starting %s', self.name, step.alias)
            step.start(parent)

    def restart(self, parent: Any) -> None:
        """Stop the steps, to be started again."""
        self.send_all(parent, 'stop', 'restarting')

    def stop(self, parent: Any, close: bool = True, terminate: bool = False) -> None:
        """Stop the steps, those last started first."""
        if self.state in (CLOSE, TERMINATE):
            return
        if self.state != RUN:
            self.state = TERMINATE
            return
        self.send_all(parent, 'close', 'closing', reverse=False)
        self.state = CLOSE
        method, description = ('terminate', 'terminating') if terminate else ('stop', 'stopping')
        self.send_all(parent, method, description)
        self.state = TERMINATE

    def send_all(self, parent: Any, method: str, description: str | None = None, reverse: bool = True) -> None:
        """Call `method` of every step that has it. Errors are logged."""
        description = description or method
        for step in [step for step in parent.steps[::-1 if reverse else 1] if hasattr(step, method)]:
            logger.debug('| %s: %s %s...', self.name, description.capitalize(), step.alias)
            try:
                getattr(step, method)(parent)
            except Exception as exc:
                logger.exception('Error on %s %s: %r', description, step.alias, exc)

    def info(self, parent: Any) -> dict[str, Any]:
        """What ``inspect stats`` shows of all steps."""
        return {name: value for step in parent.steps for name, value in (step.info(parent) or {}).items()}

    def human_state(self) -> str:
        """The state as a word for logs."""
        return _STATES[self.state]
