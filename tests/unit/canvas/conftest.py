"""An app on an in-memory broker, and what does the work of its workers, here and now."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from canvaslite import Celery
from canvaslite.execution.entry import Executor
from canvaslite.protocol.job import KOMBU_PROPERTIES, Job
from canvaslite.utils.uuid import uuid


@pytest.fixture
def app() -> Iterator[Celery]:
    with Celery('unit', broker='memory://', backend='cache+memory://', set_as_current=False) as app:
        app.conf.task_default_queue = f'unit-{uuid()}'

        @app.task(name='call')
        def call(*args: Any, name: str) -> Any:
            """Say who was called with what."""
            return [name, *args]

        @app.task(name='add')
        def add(x: Any, y: Any) -> Any:
            return x + y

        @app.task(name='fail')
        def fail(*args: Any) -> None:
            raise ValueError('fails')

        @app.task(name='nothing')
        def nothing(*args: Any) -> None:
            """Return None."""
        yield app


@pytest.fixture
def s(app: Celery) -> Callable[..., Any]:
    """Signature of a task that tells its name and its arguments."""
    def s(name: str, *args: Any, immutable: bool = False) -> Any:
        return app.tasks['call'].signature(args, {'name': name}, immutable=immutable)
    return s


class Queue:
    """The messages that were sent, and their execution."""

    def __init__(self, app: Celery, channel: Any) -> None:
        self.queue = app.amqp.queues[app.conf.task_default_queue](channel)
        self.queue.declare()
        self.executor = Executor(app, 'worker@unit')

    def take(self) -> list[Any]:
        """The messages that are waiting."""
        messages = []
        while (message := self.queue.get(no_ack=True)) is not None:
            messages.append(message)
        return messages

    def bodies(self) -> list[Any]:
        """What is in the messages that are waiting."""
        return [json.loads(message.body) for message in self.take()]

    def run(self) -> int:
        """Run all tasks, the ones sent last first, and all that they send; returns how many ran."""
        count = 0
        waiting = self.take()
        while waiting:
            message = waiting.pop()
            head = pickle.dumps({'headers': message.headers, 'properties': message.properties,
                                 'content_type': message.content_type, 'content_encoding': message.content_encoding})
            body = message.body if isinstance(message.body, bytes) else message.body.encode()
            self.executor.run(Job(KOMBU_PROPERTIES, head, body))
            count += 1
            waiting.extend(self.take())
        return count


@pytest.fixture
def queue(app: Celery) -> Iterator[Queue]:
    with app.connection_for_read() as connection:
        yield Queue(app, connection.default_channel)


@pytest.fixture
def value_of(queue: Queue) -> Callable[..., Any]:
    """The value of a canvas after all its tasks have run."""
    def value_of(sig: Any, *args: Any) -> Any:
        result = sig.apply_async(args)
        queue.run()
        return result.get(timeout=5)
    return value_of
