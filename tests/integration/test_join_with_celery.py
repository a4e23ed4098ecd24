"""One chord on Redis, its parts run by Celery's side and by ours in every order: the body is sent once, and rightly."""

from __future__ import annotations

import importlib
import itertools
import logging
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from canvaslite import Celery, states
from canvaslite.context import Context
from canvaslite.exceptions import ChordError

celery = importlib.import_module('celery')
CeleryContext = importlib.import_module('celery.app.task').Context


def add_up(values):
    return sum(values)


class Fleet:
    """One app of each kind on one store and one broker."""

    def __init__(self, redis_url: str, **options: Any) -> None:
        transport = {'result_backend_transport_options': options} if options else {}
        self.ours = Celery('fleet', broker='memory://', backend=redis_url, set_as_current=False)
        self.theirs = celery.Celery('fleet', broker='memory://', backend=redis_url, set_as_current=False)
        self.ours.conf.update(transport)
        self.theirs.conf.update(transport)
        for app in (self.ours, self.theirs):
            app.task(name='fleet.body')(add_up)
            app.finalize()
        self.group_id = uuid.uuid4().hex
        self.body = {'task': 'fleet.body', 'args': [], 'kwargs': {}, 'options': {'task_id': 'body-' + self.group_id},
                     'subtask_type': None, 'immutable': False, 'chord_size': 3}

    def open(self, by: str) -> None:
        if by == 'ours':
            results = [self.ours.AsyncResult(f'{self.group_id}-{place}') for place in range(3)]
            self.ours.backend.apply_chord((self.group_id, results), self.body)
        else:
            self.theirs.backend.set_chord_size(self.group_id, 3)

    def run(self, by: str, place: int, value: Any, task_id: str | None = None) -> None:
        """Record the outcome of the header task at `place`, as a worker of that side does."""
        app, kind = (self.ours, Context) if by == 'ours' else (self.theirs, CeleryContext)
        request = kind({'id': task_id or f'{self.group_id}-{place}', 'task': 'fleet.header', 'group': self.group_id,
                        'group_index': place, 'chord': dict(self.body), 'delivery_info': {}, 'errbacks': None,
                        'chain': None, 'root_id': None, 'parent_id': None, 'ignore_result': False})
        if isinstance(value, Exception):
            app.backend.mark_as_failure(request.id, value, 'traceback', request=request)
        else:
            app.backend.mark_as_done(request.id, value, request=request)

    def sent(self) -> list[tuple[str, list[Any]]]:
        """Id and arguments of each message on the queue."""
        found = []
        with self.theirs.connection_for_read() as connection, connection.SimpleQueue('celery') as queue:
            while True:
                try:
                    message = queue.get_nowait()
                except queue.Empty:
                    return found
                message.ack()
                found.append((message.headers['id'], message.payload[0]))


@pytest.fixture
def fleet(redis_url: str) -> Iterator[Fleet]:
    fleet = Fleet(redis_url)
    fleet.sent()
    yield fleet
    fleet.ours.backend.close()


sides = ('ours', 'theirs')
orders = pytest.mark.parametrize('order', list(itertools.product(sides, repeat=3)), ids='-'.join)
opened = pytest.mark.parametrize('by', sides)


@opened
@orders
def test_the_body_is_sent_once_with_the_values_in_order(fleet, order, by):
    fleet.open(by)
    for side, place in zip(order, (2, 0, 1), strict=True):
        fleet.run(side, place, place * 10)
    assert fleet.sent() == [('body-' + fleet.group_id, [[0, 10, 20]])]
    # Celery knows nothing of our outbox: the next look at the chord removes it.
    fleet.ours.backend.join.look(fleet.group_id, time.time() + 60)
    kept = fleet.ours.backend.client.keys(f'*{fleet.group_id}.*')
    assert [key[-2:] for key in kept] == [b'.c']  # nothing but the tombstone
    assert not fleet.ours.backend.join.due(time.time() + 60, 10)


@opened
@orders
def test_a_header_task_that_runs_twice_counts_once(fleet, order, by):
    fleet.open(by)
    for side, place in zip(order, (2, 0, 1), strict=True):
        fleet.run(side, place, place)
        fleet.run('theirs' if side == 'ours' else 'ours', place, place + 100)
    assert fleet.sent() == [('body-' + fleet.group_id, [[0, 1, 2]])]


@opened
@orders
def test_a_failed_header_task_fails_the_body(fleet, order, by, caplog):
    caplog.set_level(logging.CRITICAL)
    fleet.open(by)
    for side, place in zip(order, (2, 0, 1), strict=True):
        fleet.run(side, place, ValueError('boom') if place == 0 else place)
    assert fleet.sent() == []
    body = 'body-' + fleet.group_id
    for app, kind in ((fleet.ours, ChordError), (fleet.theirs, celery.exceptions.ChordError)):
        result = app.AsyncResult(body)
        assert result.state == states.FAILURE and type(result.result) is kind and 'boom' in str(result.result)


def test_the_same_task_id_at_two_places_is_two_parts(fleet):
    fleet.open('ours')
    fleet.run('ours', 0, 'same', task_id='same')
    fleet.run('ours', 1, 'same', task_id='same')
    fleet.run('ours', 2, 'other')
    assert fleet.sent() == [('body-' + fleet.group_id, [['same', 'same', 'other']])]


@pytest.mark.parametrize('side', sides)
def test_a_chord_that_grows_waits_for_what_was_added(fleet, side):
    app = fleet.ours if side == 'ours' else fleet.theirs
    fleet.open('ours')
    app.backend.add_to_chord(fleet.group_id, None)
    for place in range(3):
        fleet.run('ours', place, place)
    assert fleet.sent() == []
    fleet.run('theirs', 3, 3)
    assert fleet.sent() == [('body-' + fleet.group_id, [[0, 1, 2, 3]])]


def test_a_frozen_chord_can_be_applied_again(fleet):
    for _ in range(2):
        fleet.open('ours')
        for place in range(3):
            fleet.run('ours', place, place)
        assert fleet.sent() == [('body-' + fleet.group_id, [[0, 1, 2]])]


@pytest.mark.parametrize('last', sides)
def test_groups_in_the_header_are_lists_for_the_body(fleet, last):
    fleet.open('ours')
    result, group = fleet.ours.AsyncResult, fleet.ours.GroupResult
    ids = [f'{fleet.group_id}-{place}' for place in range(3)]
    fleet.ours.backend.apply_chord(
        (fleet.group_id, [result(ids[0]), group('inner', [result(ids[1]), result(ids[2])])]), fleet.body)
    for place in range(3):
        fleet.run(last, place, place)
    assert fleet.sent() == [('body-' + fleet.group_id, [[0, [1, 2]]])]


@pytest.mark.parametrize('order', list(itertools.product(sides, repeat=3)), ids='-'.join)
def test_unordered_chords_are_joined_too(redis_url, order):
    fleet = Fleet(redis_url, result_chord_ordered=False)
    fleet.sent()
    fleet.open('theirs')
    for place, side in enumerate(order):
        fleet.run(side, place, place)
    assert fleet.sent() == [('body-' + fleet.group_id, [[0, 1, 2]])]
    fleet.ours.backend.close()


def test_a_broker_that_is_away_does_not_fail_the_chord(fleet, redis_url):
    cut_off = Celery('cut off', broker='amqp://127.0.0.1:1//', backend=redis_url, set_as_current=False)
    cut_off.conf.update(task_publish_retry=False, broker_connection_timeout=1)
    fleet.open('ours')
    fleet.run('ours', 0, 0)
    fleet.run('ours', 1, 1)
    connected, fleet.ours = fleet.ours, cut_off
    with pytest.raises(OperationalError):
        fleet.run('ours', 2, 2)
    fleet.ours = connected
    assert fleet.sent() == []
    fleet.run('ours', 2, 2)  # as when its message is delivered again
    assert fleet.sent() == [('body-' + fleet.group_id, [[0, 1, 2]])]


def test_values_that_cannot_be_sent_to_the_body_fail_it(fleet, caplog):
    caplog.set_level(logging.CRITICAL)
    fleet.body['options']['serializer'] = 'no such serializer'
    fleet.open('ours')
    for place in range(3):
        fleet.run('ours', place, place)
    result = fleet.ours.AsyncResult('body-' + fleet.group_id)
    assert isinstance(result.result, ChordError) and 'Callback error' in str(result.result)
