"""What happens to a chord whose processes die, or that takes too long: somebody else ends it, on every store."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import uuid
from contextlib import nullcontext

import amqp
import pytest

from canvaslite import states, wire
from canvaslite.backends.chords import BUSY, CLAIMED, DONE, ENDED, RECORDED, Part
from canvaslite.backends.filesystem import FolderRecord
from canvaslite.backends.keyjoin import Keys
from canvaslite.backends.queuejoin import QueueJoin
from canvaslite.backends.sweeping import CLOCK_SKEW
from canvaslite.exceptions import ChordError, TaskRevokedError
from canvaslite.utils.time import second_done

from .conftest import JOINING, KEEPING, on
from .test_joins import Chord, messages, reader

LATER = 3600.0

fork = multiprocessing.get_context('fork')


@pytest.fixture
def later(app, monkeypatch):
    """Let an hour pass for those who look after chords."""
    clock = time.time

    def pass_by(seconds=LATER):
        monkeypatch.setattr(time, 'time', lambda: clock() + seconds)
        if app.store == 'rpc':
            hasten(app)

    return pass_by


def hasten(app):
    """Move what RabbitMQ keeps for later to where it would move it itself after some seconds."""
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        while (message := channel.basic_get(wire.CHORDS_WATCHED_QUEUE, no_ack=True)) is not None:
            channel.basic_publish(message, '', wire.CHORDS_DUE_QUEUE)
        channel.queue_declare(wire.CHORDS_DUE_QUEUE, passive=True)


@on(KEEPING)
def test_a_chord_is_looked_at_only_when_it_is_due(app, later):
    chord = Chord(app, 2).open()

    assert app.backend.join.due(time.time(), 10) == []
    assert app.backend.join.look(chord.gid, time.time()).status == BUSY
    assert list(app.backend.join.due(time.time() + LATER, 10)) == [chord.gid]
    assert app.backend.join.look(chord.gid, time.time() + LATER).status == RECORDED


@on(KEEPING)
def test_the_body_of_a_chord_whose_claim_ran_out_is_sent_by_a_sweep(app, make_app, later):
    chord = Chord(app, 2).open()
    join = app.backend.join
    for place in range(2):
        report = join.part(Part(chord.gid, chord.ids[place], place, states.SUCCESS, place))
    assert report.status == CLAIMED
    assert join.renew(report.claim, 0.001)  # and then it dies
    other = make_app()
    time.sleep(0.01)

    later()
    assert other.backend.sweep_chords() == 1

    assert messages(app) == [('body', chord.body_id, [[0, 1]])]
    assert join.part(Part(chord.gid, chord.ids[0], 0, states.SUCCESS, 'late')).status == DONE
    assert other.backend.sweep_chords() == 0
    assert not join.finish(report.claim)


@on(KEEPING)
def test_outcomes_that_were_stored_but_not_counted_are_counted_by_a_sweep(app, make_app, later):
    chord = Chord(app, 3).open()
    app.backend.join.part(Part(chord.gid, chord.ids[1], 1, states.SUCCESS, 'counted'))
    for place in (0, 2):
        app.backend.store_result(chord.ids[place], f'stored {place}', states.SUCCESS)

    later()
    assert make_app().backend.sweep_chords() == 1

    assert messages(app) == [('body', chord.body_id, [['stored 0', 'counted', 'stored 2']])]


@on(KEEPING)
def test_a_failure_that_was_stored_but_not_counted_fails_the_chord(app, make_app, later):
    chord = Chord(app, 2).open()
    app.backend.join.part(Part(chord.gid, chord.ids[0], 0, states.SUCCESS, 'value'))
    app.backend.store_result(chord.ids[1], ValueError('no value'), states.FAILURE)

    later()
    assert app.backend.sweep_chords() == 1

    with pytest.raises(ChordError, match=rf"{chord.ids[1]} raised ValueError\('no value'\)"):
        reader(app, make_app).AsyncResult(chord.body_id).get(timeout=5)


@on(KEEPING)
def test_what_is_stored_of_a_part_and_is_no_result_fails_the_chord(app, make_app, later):
    chord = Chord(app, 3).open()
    app.backend.store_result(chord.ids[0], 'stored', states.SUCCESS)
    for place in (1, 2):
        app.backend.store_result(chord.ids[place], 5, states.FAILURE)  # no exception

    for looks in range(1, 4):  # each counts one of them
        later(looks * LATER)
        app.backend.sweep_chords()

    with pytest.raises(ChordError, match='raised UnreadableResult'):
        reader(app, make_app).AsyncResult(chord.body_id).get(timeout=5)


@on(KEEPING)
def test_a_sweep_leaves_a_chord_alone_that_is_under_way(app, later):
    chord = Chord(app, 2).open()
    app.backend.store_result(chord.ids[0], 'value', states.SUCCESS)

    later()
    assert app.backend.sweep_chords() == 0
    assert messages(app) == []

    app.backend.join.part(Part(chord.gid, chord.ids[1], 1, states.SUCCESS, 'other'))


@on(JOINING, result_chord_deadline=1800)
def test_a_chord_fails_when_its_deadline_has_passed(app, make_app, later):
    chord = Chord(app, 2, link_error=[{'task': 'told elsewhere', 'args': [], 'kwargs': {}, 'options': {}}]).open()
    app.backend.join.part(Part(chord.gid, chord.ids[0], 0, states.SUCCESS, 'value'))

    later()
    assert app.backend.sweep_chords() == 1

    with pytest.raises(ChordError, match='result_chord_deadline'):
        reader(app, make_app).AsyncResult(chord.body_id).get(timeout=5)
    assert [(task, args) for task, _, args in messages(app)] == [('told elsewhere', [chord.body_id])]
    assert app.backend.join.part(Part(chord.gid, chord.ids[1], 1, states.SUCCESS, 'late')).status == DONE


@on(JOINING, result_chord_deadline=None)
def test_without_a_deadline_a_chord_waits(app, later):
    chord = Chord(app, 2).open()

    later(10 * 365 * 86400)
    app.backend.sweep_chords()

    assert messages(app) == []
    assert app.backend.join.part(Part(chord.gid, chord.ids[1], 1, states.SUCCESS, 'value')).status == RECORDED


@on(JOINING)
def test_a_chord_that_is_ended_revokes_its_body_and_takes_no_more_parts(app, make_app):
    chord = Chord(app, 2, link_error=[{'task': 'told elsewhere', 'args': [], 'kwargs': {}, 'options': {}}]).open()
    app.backend.join.part(Part(chord.gid, chord.ids[0], 0, states.SUCCESS, 'value'))

    assert app.backend.abort_chord(chord.gid, 'not needed')

    result = reader(app, make_app).AsyncResult(chord.body_id)
    with pytest.raises(TaskRevokedError, match='not needed'):
        result.get(timeout=5)
    assert result.state == states.REVOKED
    assert messages(app) == []
    assert app.backend.join.part(Part(chord.gid, chord.ids[1], 1, states.SUCCESS, 'late')).status == DONE
    assert not app.backend.abort_chord(chord.gid)


@on(JOINING)
def test_a_chord_that_is_forgotten_leaves_nothing(app):
    chord = Chord(app, 2).open()
    app.backend.join.part(Part(chord.gid, chord.ids[0], 0, states.SUCCESS, 'value'))

    app.backend.join.forget(chord.gid)

    assert app.backend.join.due(time.time() + LATER, 10) == []
    assert app.backend.join.outbox(chord.gid) is None
    assert not app.backend.abort_chord(chord.gid)


@on(KEEPING)
def test_a_chord_that_is_begun_again_goes_on_as_it_is(app):
    chord = Chord(app, 2)
    opening = chord.opening()
    join = app.backend.join
    join.open(opening)
    join.part(Part(chord.gid, chord.ids[0], 0, states.SUCCESS, 'value'))

    join.open(opening._replace(again=True))

    report = join.part(Part(chord.gid, chord.ids[1], 1, states.SUCCESS, 'other'))
    assert report.status == CLAIMED
    assert join.finish(report.claim)
    join.open(opening._replace(again=True))
    assert join.part(Part(chord.gid, chord.ids[1], 1, states.SUCCESS, 'other')).status == DONE


@on(('redis',))
def test_a_chord_of_which_the_store_lost_everything_is_taken_up_again(app, request_of, later):
    chord = Chord(app, 2).open()
    app.backend.mark_as_done(chord.ids[0], 'value', chord.request(0, request_of))
    app.backend.client.delete(*app.backend.client.keys(f'*{chord.gid}*'), 'canvaslite-join-due')

    app.backend.mark_as_done(chord.ids[1], 'other', chord.request(1, request_of, chord_size=2))

    outbox = app.backend.join.outbox(chord.gid)
    assert outbox is not None
    assert list(app.backend.join.due(time.time() + LATER, 10)) == [chord.gid]
    app.backend.mark_as_done(chord.ids[0], 'value', chord.request(0, request_of, chord_size=2))
    assert messages(app) == [('body', chord.body_id, [['value', 'other']])]


@on(('redis',))
def test_a_part_that_comes_when_even_the_tombstone_is_gone_changes_nothing(app, request_of):
    chord = Chord(app, 1).open()
    app.backend.mark_as_done(chord.ids[0], 'value', chord.request(0, request_of))
    assert len(messages(app)) == 1
    app.backend.store_result(chord.body_id, 'done', states.SUCCESS)
    app.backend.client.delete(*app.backend.client.keys(f'*{chord.gid}*'))

    app.backend.mark_as_done(chord.ids[0], 'value', chord.request(0, request_of))

    assert messages(app) == []
    assert app.backend.client.keys(f'*{chord.gid}*') == []


@on(KEEPING)
def test_no_more_is_looked_at_than_is_asked_for(app):
    chords = {Chord(app, 1).open().gid for _ in range(5)}

    first = app.backend.join.due(time.time() + LATER, 3)

    assert len(set(first)) == 3
    assert chords.issuperset(first)


@on(KEEPING)
def test_the_result_of_an_earlier_run_under_the_same_id_is_not_counted(app, later):
    chord = Chord(app, 1)
    app.backend.store_result(chord.ids[0], 'old', states.SUCCESS)
    opening = chord.opening()
    app.backend.join.open(opening)
    outbox = app.backend.join.outbox(chord.gid)
    assert list(outbox.slots) == [(chord.ids[0], 0)]
    assert abs(outbox.opened - time.time()) < 60
    assert second_done({'date_done': '2020-01-01T00:00:00+00:00'}) < outbox.opened - CLOCK_SKEW
    assert str(uuid.UUID(chord.gid)) == chord.gid


@on(KEEPING)
def test_of_the_copies_of_a_body_one_runs(app):
    join, body = app.backend.join, str(uuid.uuid4())

    assert join.take_run(body, '1', 60) == '1'
    assert join.take_run(body, '2', 60) == '1'  # it is held back
    assert join.take_run(body, '1', 60) == '1'  # it died, and was delivered again
    assert join.take_run(body, ENDED, 60) == ENDED
    assert join.take_run(body, '2', 60) == ENDED
    assert join.due(time.time() + LATER, 10) == []


@on(KEEPING)
def test_of_the_copies_of_a_body_that_ask_at_once_one_runs(app):
    copies, holders = ('1', '2', '3', '4'), []
    together = threading.Barrier(len(copies))

    def ask(attempt):
        for body in bodies:
            together.wait(30)
            holders.append((body, app.backend.join.take_run(body, attempt, 60)))

    bodies = [str(uuid.uuid4()) for _ in range(20)]
    asking = [threading.Thread(target=ask, args=(attempt,)) for attempt in copies]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(60)

    assert len(holders) == len(copies) * len(bodies)
    assert len(set(holders)) == len(bodies)


@on(('rpc',))
def test_rabbitmq_itself_says_when_a_chord_is_to_be_looked_at(app, make_app):
    chord = Chord(app, 2).open()
    join, other = app.backend.join, make_app().backend.join
    assert join.due(time.time() + LATER, 10) == []

    begun, found = time.monotonic(), []
    while not found:
        assert time.monotonic() < begun + 20
        time.sleep(0.2)
        found = other.due(time.time(), 10)

    assert found == [chord.gid]
    assert time.monotonic() > begun + 5
    assert join.due(time.time(), 10) == [], 'it waits again'
    assert join.look(chord.gid, time.time()).status == BUSY
    assert other.look(chord.gid, time.time()).status == RECORDED
    assert other.look(chord.gid, time.time()).status == BUSY


@on(('rpc',))
@pytest.mark.parametrize('holds', [True, False], ids=['the claim', 'a part that was refused'])
def test_a_chord_whose_last_process_died_with(holds, app, make_app, request_of, later, monkeypatch):
    chord = Chord(app, 2).open()
    app.backend.mark_as_done(chord.ids[0], 0, chord.request(0, request_of))
    came_there = fork.Event()

    def stay(*args):
        came_there.set()
        threading.Event().wait()

    def return_the_last():
        monkeypatch.setattr(QueueJoin, 'parts' if holds else '_claim', stay)
        app.backend.mark_as_done(chord.ids[1], 1, chord.request(1, request_of))

    child = fork.Process(target=return_the_last)
    child.start()
    assert came_there.wait(20)
    if holds:
        later()
        assert make_app().backend.sweep_chords() == 0, 'it lives'
    child.kill()
    child.join(20)
    assert messages(app) == []

    other, ended = make_app(), 0
    if not holds:  # its message comes again
        app.backend.mark_as_done(chord.ids[1], 1, chord.request(1, request_of))
        ended = 1
    while not ended:  # the broker may not have noticed the death
        later()
        ended = other.backend.sweep_chords()

    assert messages(app) == [('body', chord.body_id, [[0, 1]])]
    later()
    assert other.backend.sweep_chords() == 0
    later()
    assert other.backend.join.due(time.time(), 10) == [], 'nothing is left to be looked at'
    assert messages(app) == []


@on(('rpc',))
def test_a_process_that_dies_looking_at_chords_leaves_them_to_the_next(app, make_app, later):
    chords = {Chord(app, 2).open().gid for _ in range(3)}
    later()
    looked = fork.Event()

    def look_and_stay():
        app.backend.join.due(time.time(), 10)
        looked.set()
        threading.Event().wait()

    child = fork.Process(target=look_and_stay)
    child.start()
    assert looked.wait(20)
    child.kill()
    child.join(20)

    later()
    assert set(make_app().backend.join.due(time.time(), 10)) == chords


@on(KEEPING)
def test_apps_with_another_default_queue_leave_a_chord_alone(app, make_app):
    chord = Chord(app, 1).open()
    other = make_app(task_default_queue='elsewhere')

    assert other.backend.join.due(time.time() + LATER, 10) == []
    assert list(make_app().backend.join.due(time.time() + LATER, 10)) == [chord.gid]


@on(('redis',))
def test_a_chord_that_an_old_celery_has_ended_is_forgotten_when_its_body_has_ended(app, later):
    chord = Chord(app, 2, link_error=[{'task': 'told elsewhere', 'args': [], 'kwargs': {}, 'options': {}}]).open()
    app.backend.join.part(Part(chord.gid, chord.ids[0], 0, states.SUCCESS, 'value'))
    app.backend.client.delete(*(f'celery-taskset-meta-{chord.gid}.{letter}' for letter in 'jts'))

    later()
    assert app.backend.sweep_chords() == 0
    assert list(app.backend.join.due(time.time() + LATER, 10)) == [chord.gid], 'the body may yet be lost'
    app.backend.store_result(chord.body_id, 'done', states.SUCCESS)
    later(2 * LATER)
    assert app.backend.sweep_chords() == 0

    assert app.backend.join.due(time.time() + 10 * LATER, 10) == []
    assert app.backend.join.part(Part(chord.gid, chord.ids[1], 1, states.SUCCESS, 'late')).status == DONE
    assert messages(app) == []


@on(('memcached',))
def test_a_part_that_comes_after_the_end_leaves_nothing(app):
    chord, join = Chord(app, 1).open(), app.backend.join
    part = Part(chord.gid, chord.ids[0], 0, states.SUCCESS, 'value')
    assert join.finish(join.part(part).claim)

    assert join.part(part).status == DONE

    keys = Keys(chord.gid)
    names = [keys.part(f'{chord.ids[0]}:0'), keys.missing, keys.outbox, *keys.lists]
    assert join.store.get_many(names) == {}
    assert list(join.store.get_many([keys.head])) == [keys.head]


@on(('file',))
def test_the_folder_of_a_chord_that_never_began_is_cleaned_up(app, later):
    folder = FolderRecord(app.backend, 'never begun').path
    os.makedirs(folder)

    app.backend.cleanup()
    assert os.path.isdir(folder), 'it may just be beginning'
    later(2 * LATER)
    app.backend.cleanup()

    assert not os.path.exists(folder)


@on(('rpc',))
@pytest.mark.parametrize('stays', [True, False], ids=['that waits for it', 'that does not'])
def test_parts_that_come_between_the_body_and_the_end_of_the_queue_are_removed_by_sweeps(app, make_app, later, stays):
    chord = Chord(app, 2)
    if not stays:
        chord.body = app.signature({**chord.body, 'task': 'celery.group', 'subtask_type': 'group',
                                    'kwargs': {'tasks': [chord.body]}})
    chord.open()
    with app.connection_for_write() as connection:  # whoever has sent the body died before it could remove the queue
        channel = connection.default_channel
        channel.queue_purge(f'canvaslite-chord-{chord.gid}')
        part = Part(chord.gid, chord.ids[0], 0, states.SUCCESS, 'late', 2)
        assert app.backend.join.part(part).status == RECORDED

        for _ in range(2):
            later()
            assert make_app().backend.sweep_chords() == 0

        assert make_app().backend.join.due(time.time(), 10) == [], 'nothing is left to be looked at'
        with nullcontext() if stays else pytest.raises(amqp.NotFound):
            assert channel.queue_declare(f'canvaslite-chord-{chord.gid}', passive=True).message_count == 0
    assert messages(app) == []
