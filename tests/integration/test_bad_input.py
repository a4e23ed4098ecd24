"""Large, unserializable and unknown things end as a user expects; `tests.faults.bad_messages` has those of no use."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import kombu
import pytest

from canvaslite import chord
from canvaslite.exceptions import ChordError
from tests.fixtures import load_app


def test_a_body_of_ten_megabytes_passes(project: ModuleType, start_project_worker: Callable[..., Any]) -> None:
    start_project_worker()
    text = 'x' * 10_000_000
    assert project.identity.delay(text).get(timeout=60) == text


def test_what_is_no_message_in_a_list_of_redis_ends_no_worker(
    redis_url: str, start_worker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('BROKER', redis_url)
    monkeypatch.setenv('BACKEND', redis_url)
    worker = start_worker('proj', '-c', '1', '-l', 'INFO', BROKER=redis_url, BACKEND=redis_url)
    project = load_app('proj')
    for junk in (b'{"half', b'null', b'[1]', b'[' * 100_000, b'{"body": "x"}', b'\xff',
                 b'{"body": 100000000000, "headers": {}, "properties": {"delivery_info": {}, "delivery_tag": "x"}}'):
        with project.app.connection_for_write() as connection:
            connection.default_channel.client.lpush('proj', junk)
        assert project.add.delay(2, 2).get(timeout=60) == 4
    assert 'Traceback' not in worker.output
    assert worker.stop() == 0
    project.app.close()


def test_an_argument_that_cannot_be_serialized_is_an_error_at_the_call(project: ModuleType) -> None:
    with pytest.raises(kombu.exceptions.EncodeError):
        project.identity.delay(object())


def test_a_result_that_cannot_be_serialized_is_the_tasks_failure(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker()
    with pytest.raises(kombu.exceptions.EncodeError):
        project.unserializable.delay().get(timeout=60)
    assert project.add.delay(1, 1).get(timeout=60) == 2


def test_an_unknown_task_fails_the_chord_that_waits_for_it(
    project: ModuleType, start_project_worker: Callable[..., Any]
) -> None:
    start_project_worker()
    unknown = project.app.signature('no.such.task')
    body = chord([project.add.s(1, 1), unknown], project.total.s()).delay()
    with pytest.raises(ChordError, match=r'no\.such\.task'):
        project.app.AsyncResult(body.id).get(timeout=60)
