"""An app on an in-memory broker and a store of its own, and jobs made as a worker's parent makes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from canvaslite import Celery
from canvaslite.execution.entry import Executor
from canvaslite.execution.outcome import Outcome
from canvaslite.protocol.job import AMQP_PROPERTIES, Job, Verdict
from canvaslite.transport.properties import encode_properties
from canvaslite.utils.uuid import uuid


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Celery]:
    with Celery('unit', broker='memory://', backend=f'file://{tmp_path}', set_as_current=False) as app:
        app.conf.task_default_queue = f'unit-{uuid()}'
        yield app


def make_job(task: str, args: Any = (), kwargs: Any = None, embed: Any = None, body: bytes | None = None,
             content_type: str = 'application/json', verdict: Verdict | None = None, redelivered: bool = False,
             **headers: Any) -> Job:
    """A job as it comes from RabbitMQ."""
    headers = {'id': uuid(), 'task': task, 'lang': 'py', 'retries': 0, **headers}
    if body is None:
        body = json.dumps([args, kwargs or {}, embed or {}]).encode()
    head = encode_properties(headers, content_type=content_type, content_encoding='utf-8', reply_to='reply',
                             correlation_id=str(headers['id']), priority=3)
    return Job(AMQP_PROPERTIES, head, body, '', 'unit-queue', redelivered, verdict)


@pytest.fixture
def execute(app: Celery) -> Callable[..., Outcome]:
    """Run a task, given by name or itself, through an executor."""
    executor: list[Executor] = []

    def execute(task: Any, *args: Any, **kwargs: Any) -> Outcome:
        if not executor:
            executor.append(Executor(app, 'worker@unit'))
        return executor[0].run(make_job(getattr(task, 'name', task), *args, **kwargs))
    return execute


@pytest.fixture
def sent(app: Celery) -> Callable[..., list[tuple[dict[str, Any], list[Any]]]]:
    """Headers and body of the messages in a queue (by default the default one), which is emptied."""
    def sent(name: str | None = None) -> list[tuple[dict[str, Any], list[Any]]]:
        messages = []
        with app.connection_for_read() as connection:
            queue = app.amqp.queues[name or app.conf.task_default_queue](connection.default_channel)
            queue.declare()
            while (message := queue.get(no_ack=True)) is not None:
                messages.append((message.headers, json.loads(message.body)))
        return messages
    return sent
