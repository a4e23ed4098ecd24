"""What is memcached's own: several servers, what it drops, and what is too large for it."""

from __future__ import annotations

import time
import uuid

import pytest
from kombu.exceptions import EncodeError

from canvaslite import Celery, states
from canvaslite.backends.chords import RECORDED, UNKNOWN_CHORD, Part
from canvaslite.exceptions import ChordError, ImproperlyConfigured

from .conftest import on
from .test_joins import Chord, messages, reader
from .test_sweeping import LATER, later  # noqa: F401  (a fixture)


def drop(app, *names):
    app.backend.store.delete_many([f'canvaslite-join-{name}' for name in names])


@on(('memcached',))
@pytest.mark.parametrize('lost', ['', '-missing', '-slots-{}', '-body'], ids=['head', 'counter', 'lists', 'outbox'])
def test_a_chord_goes_on_without_one_of_its_records(app, request_of, lost):
    chord = Chord(app, 3).open()
    app.backend.mark_as_done(chord.ids[0], 0, chord.request(0, request_of, chord_size=3))

    drop(app, *(chord.gid + lost.format(number) for number in range(8)))
    for place in (1, 2):
        assert messages(app) == []
        app.backend.mark_as_done(chord.ids[place], place, chord.request(place, request_of, chord_size=3))

    assert messages(app) == [('body', chord.body_id, [[0, 1, 2]])]
    assert app.backend.join.due(time.time() + LATER, 10) == []


@on(('memcached',), result_chord_deadline=1800)
def test_a_chord_of_which_everything_was_dropped_fails_at_its_deadline(
        app, make_app, request_of, later):  # noqa: F811
    chord = Chord(app, 2).open()
    app.backend.mark_as_done(chord.ids[0], 0, chord.request(0, request_of, chord_size=2))
    slots = [f'{chord.gid}-part-{chord.ids[0]}:0', *(f'{chord.gid}-slots-{number}' for number in range(8))]
    drop(app, chord.gid, f'{chord.gid}-missing', f'{chord.gid}-body', *slots)
    assert app.backend.join.part(Part(chord.gid, chord.ids[1], 1, states.SUCCESS, 1)).status == UNKNOWN_CHORD

    app.backend.mark_as_done(chord.ids[1], 1, chord.request(1, request_of, chord_size=2))
    assert messages(app) == []
    later()
    assert app.backend.sweep_chords() == 1

    with pytest.raises(ChordError, match='result_chord_deadline'):
        reader(app, make_app).AsyncResult(chord.body_id).get(timeout=5)


@on(('memcached',))
def test_the_last_part_is_noticed_although_others_came_twice(app):
    chord = Chord(app, 4).open()
    join = app.backend.join
    part = [Part(chord.gid, task_id, place, states.SUCCESS, place, 4) for place, task_id in enumerate(chord.ids)]

    for place in (0, 0, 0, 1, 0, 1, 0, 2, 2):
        assert join.part(part[place]).status == RECORDED

    assert join.part(part[3]).claim is not None


@on(('memcached',))
def test_a_value_that_is_too_large_says_how_to_let_it_in(app, sent):
    with pytest.raises(EncodeError, match='-I 16m'):
        app.backend.store_result(sent(), 'x' * 2_000_000, states.SUCCESS)


@on(('memcached',))
def test_the_body_of_a_chord_may_be_large(app, request_of):
    chord = Chord(app, 1)
    chord.body['args'] = ['x' * 1_500_000]

    chord.open()

    assert app.backend.join.outbox(chord.gid).callback.count(b'x') >= 1_500_000


@on(('memcached',))
def test_keys_that_memcached_does_not_take_are_kept_all_the_same(app):
    for task_id in ('with a space', 'Größe', 'x' * 400):
        app.backend.store_result(task_id, task_id, states.SUCCESS)
        assert app.backend.get_result(task_id) == task_id


@on(('memcached',))
def test_results_are_spread_over_the_servers(app, memcached_url, make_app):
    address = memcached_url.partition('://')[2].strip('/')
    spread = make_app(result_backend=f'cache+memcached://{address};127.0.0.1:1', result_backend_max_retries=0)
    ids = [str(uuid.uuid4()) for _ in range(20)]
    away = 0
    for task_id in ids:
        try:
            spread.backend.store_result(task_id, 'value', states.SUCCESS)
        except Exception:
            away += 1

    assert 0 < away < 20, 'a server that is away is not replaced'


@pytest.mark.parametrize(('settings', 'wanted'), [
    ({'result_backend': 'cache+memcached://'}, 'cache\\+memcached://host:port'),
    ({'result_backend': 'cache+memcached://host:none'}, 'cache\\+memcached://host:port'),
    ({'result_backend': 'cache+memcached://host', 'cache_backend_options': {'binary': True}}, 'cache_backend_options'),
    ({'result_backend': 'cache+dbm://host'}, "no cache is called 'dbm'"),
])
def test_settings_that_cannot_be_are_named(settings, wanted):
    with pytest.raises(ImproperlyConfigured, match=wanted):
        _ = Celery('wrong', set_as_current=False, changes=settings).backend


def test_the_cache_may_be_named_by_its_own_setting(memcached_url):
    app = Celery('named', set_as_current=False, changes={
        'result_backend': 'cache', 'cache_backend': memcached_url.removeprefix('cache+')})
    app.backend.store_result('task', 'value', states.SUCCESS)
    assert app.backend.get_result('task') == 'value'
    app.close()
