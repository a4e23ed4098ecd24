"""No message ends the worker: one clear line, and the next task runs."""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Callable
from types import ModuleType
from typing import Any

import kombu
import pytest

from canvaslite import chord
from canvaslite.exceptions import ChordError


def headers(**changed: Any) -> dict[str, Any]:
    ident = str(uuid.uuid4())
    return {
        'lang': 'py',
        'task': 'proj.add',
        'id': ident,
        'root_id': ident,
        'parent_id': None,
        'retries': 0,
        'eta': None,
        'expires': None,
        'group': None,
        'timelimit': [None, None],
        'argsrepr': '(1, 2)',
        'kwargsrepr': '{}',
        'origin': 'test@host',
        **changed,
    }


GOOD_BODY = json.dumps([[1, 2], {}, {'callbacks': None, 'errbacks': None, 'chain': None, 'chord': None}])
DEEP = '[' * 100_000 + ']' * 100_000

MESSAGES: dict[str, dict[str, Any]] = {
    'malformed JSON': {'body': '{"half'},
    'a body that is no triple': {'body': '{"a": 1}'},
    'a body of the wrong parts': {'body': '[1, 2, 3]'},
    'an unknown task': {'headers': headers(task='no.such.task')},
    'a wrong content type': {'content_type': 'application/x-unheard-of'},
    'an unknown encoding': {'content_encoding': 'utf-99'},
    'no headers at all': {'headers': {}},
    'no id': {'headers': {name: value for name, value in headers().items() if name != 'id'}},
    'an id that is no text': {'headers': headers(id=17)},
    'a task that is no text': {'headers': headers(task=['proj.add'])},
    'retries that are no number': {'headers': headers(retries='many')},
    'an eta that is no time': {'headers': headers(eta='tomorrow')},
    'an expiry that is no time': {'headers': headers(expires={'a': 1})},
    'time limits that are no pair': {'headers': headers(timelimit='soon')},
    'a pickle, which is not accepted': {
        'body': pickle.dumps(((1, 2), {}, {})),
        'content_type': 'application/x-python-serialize',
        'content_encoding': 'binary',
    },
    'a compression that is unknown': {'headers': headers(compression='application/x-squeeze')},
    'a compressed body that is not compressed': {'headers': headers(compression='application/x-gzip')},
    'deeply nested JSON': {'body': DEEP},
    'bytes that are no text': {'body': b'\xff\xfe\x00\x01'},
    'an empty body': {'body': ''},
}


#: Messages that are odd and yet say what is to be run.
HARMLESS = {'retries that are no number', 'an unknown encoding'}


def send(
    url: str,
    body: Any = GOOD_BODY,
    headers: dict[str, Any] | None = None,
    content_type: str = 'application/json',
    content_encoding: str = 'utf-8',
) -> None:
    with kombu.Connection(url) as connection:
        producer = kombu.Producer(connection)
        producer.publish(
            body.encode() if isinstance(body, str) else body,
            routing_key='proj',
            content_type=content_type,
            content_encoding=content_encoding,
            headers=globals()['headers']() if headers is None else headers,
        )


@pytest.mark.parametrize('kind', ['prefork', 'solo'])
def test_the_worker_goes_on_after_every_malformed_message(
    kind: str, project: ModuleType, servers: dict[str, str], start_project_worker: Callable[..., Any]
) -> None:
    worker = start_project_worker('-P', kind)
    assert project.add.delay(1, 1).get(timeout=20) == 2
    told = 0
    for name, message in MESSAGES.items():
        seen = len(worker.lines)
        send(servers['BROKER'], **message)
        assert project.add.delay(2, 2).get(timeout=20) == 4, f'after {name}'
        if name not in HARMLESS:
            worker.await_line('ERROR|CRITICAL', timeout=10, count=told + 1)
        told = sum('ERROR' in line or 'CRITICAL' in line for line in worker.lines)
        assert all(len(line) <= 2200 for line in worker.lines[seen:]), f'{name}: a line of more than 2 kB'
    assert 'Traceback' not in worker.output
    assert worker.process.poll() is None
    assert worker.stop() == 0


def test_a_body_of_ten_megabytes_passes(project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    start_project_worker()
    text = 'x' * 10_000_000
    assert project.identity.delay(text).get(timeout=60) == text


def test_an_argument_that_cannot_be_serialized_is_an_error_at_the_call(project: ModuleType) -> None:
    with pytest.raises(kombu.exceptions.EncodeError):
        project.identity.delay(object())


def test_a_result_that_cannot_be_serialized_is_the_tasks_failure(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker()
    with pytest.raises(kombu.exceptions.EncodeError):
        project.unserializable.delay().get(timeout=20)
    assert project.add.delay(1, 1).get(timeout=20) == 2


def test_an_unknown_task_fails_the_chord_that_waits_for_it(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker()
    unknown = project.app.signature('no.such.task')
    body = chord([project.add.s(1, 1), unknown], project.total.s()).delay()
    with pytest.raises(ChordError, match=r'no\.such\.task'):
        project.app.AsyncResult(body.id).get(timeout=20)
