"""How a chord is joined, on every store that can: the body is sent once, when the last part is there."""

from __future__ import annotations

import json
import multiprocessing
import random
import threading
import uuid
from collections import Counter

import amqp
import pytest

from canvaslite import states, wire
from canvaslite.backends.chords import BUSY, CLAIMED, DONE, RECORDED, Opening, Part, pack_callback
from canvaslite.exceptions import ChordError
from canvaslite.result import GroupResult
from canvaslite.transport.amqp import Connection

from .conftest import CROSSING, JOINING, KEEPING, on

fork = multiprocessing.get_context('fork')


class Chord:
    """A chord whose header nobody runs: its parts are returned by hand."""

    def __init__(self, app, size, **options):
        self.app = app
        self.gid, self.body_id = str(uuid.uuid4()), str(uuid.uuid4())
        self.ids = [str(uuid.uuid4()) for _ in range(size)]
        app.backend.on_task_call(None, self.body_id)
        self.body = app.signature({'task': 'body', 'args': [], 'kwargs': {}, 'subtask_type': None, 'immutable': False,
                                   'options': {'task_id': self.body_id, 'reply_to': app.thread_oid, **options}})

    @property
    def slots(self):
        return [(task_id, place) for place, task_id in enumerate(self.ids)]

    def opening(self):
        """What the store is told when it begins."""
        return Opening(self.gid, len(self.ids), self.body, pack_callback(self.app, self.body), self.slots, None)

    def open(self, size_known=True):
        results = [self.app.AsyncResult(task_id) for task_id in self.ids]
        if size_known:
            self.body['chord_size'] = len(self.ids)
        self.app.backend.apply_chord((self.gid, results), self.body, slots=self.slots)
        return self

    def request(self, place, make, **more):
        return make(self.ids[place], group=self.gid, group_index=place, chord={**self.body, **more}, task='header')


def messages(app):
    """What has been sent, as ``(task, task id, args)``, taken from the broker."""
    found = []
    with app.connection_for_read() as connection:
        queue = app.amqp.queues['celery'](connection.default_channel)
        queue.declare()
        while (message := queue.get(no_ack=True)) is not None:
            found.append((message.headers['task'], message.headers['id'], message.decode()[0]))
    return found


def body_headers(app):
    """The headers of the one message that has been sent."""
    with app.connection_for_read() as connection:
        return app.amqp.queues['celery'](connection.default_channel).get(no_ack=True).headers


def reader(app, make_app):
    """Another client of the store; with rpc only the sender may read."""
    return app if app.store == 'rpc' else make_app()


@on(JOINING)
def test_the_body_is_sent_with_the_values_in_the_order_of_the_header(app, request_of):
    chord = Chord(app, 4).open()

    for place in (2, 0, 3, 1):
        assert messages(app) == []
        app.backend.mark_as_done(chord.ids[place], place * 10, chord.request(place, request_of))

    assert messages(app) == [('body', chord.body_id, [[0, 10, 20, 30]])]


@on(JOINING)
def test_the_size_may_become_known_after_the_first_parts(app, request_of):
    chord = Chord(app, 3).open(size_known=False)
    for place in (0, 1):
        app.backend.mark_as_done(chord.ids[place], place, chord.request(place, request_of))

    app.backend.set_chord_size(chord.gid, 3)
    app.backend.mark_as_done(chord.ids[2], 2, chord.request(2, request_of))

    assert messages(app) == [('body', chord.body_id, [[0, 1, 2]])]


@on(JOINING)
def test_parts_are_counted_where_results_are_not_kept(app, make_app, request_of):
    chord = Chord(app, 2).open()

    for place in (0, 1):
        app.backend.mark_as_done(chord.ids[place], place, chord.request(place, request_of), store_result=False)

    assert messages(app) == [('body', chord.body_id, [[0, 1]])]
    assert make_app().AsyncResult(chord.ids[0]).state == states.PENDING


@on(JOINING)
def test_a_part_that_comes_twice_counts_once(app, request_of):
    chord = Chord(app, 3).open()

    for place in (0, 0, 1, 1, 0):
        app.backend.mark_as_done(chord.ids[place], place, chord.request(place, request_of))
    assert messages(app) == []
    app.backend.mark_as_done(chord.ids[2], 2, chord.request(2, request_of))

    assert messages(app) == [('body', chord.body_id, [[0, 1, 2]])]


@on(JOINING)
def test_a_part_that_comes_after_the_body_was_sent_changes_nothing(app, request_of):
    chord = Chord(app, 2).open()
    for place in (0, 1):
        app.backend.mark_as_done(chord.ids[place], place, chord.request(place, request_of))
    assert len(messages(app)) == 1

    for place in (0, 1, 1):
        app.backend.mark_as_done(chord.ids[place], place, chord.request(place, request_of))

    assert messages(app) == []


@on(JOINING)
def test_the_first_outcome_of_a_part_counts(app, request_of):
    chord = Chord(app, 2).open()

    app.backend.mark_as_done(chord.ids[0], 'first', chord.request(0, request_of))
    app.backend.mark_as_failure(chord.ids[0], ValueError('a copy'), request=chord.request(0, request_of))
    app.backend.mark_as_done(chord.ids[0], 'third', chord.request(0, request_of))
    app.backend.mark_as_done(chord.ids[1], 'other', chord.request(1, request_of))

    assert messages(app) == [('body', chord.body_id, [['first', 'other']])]


@on(JOINING)
def test_values_of_every_kind_arrive_in_the_body(app, request_of):
    values = [None, False, '', 'Größe ☃', {'a': [1, None]}, [[]], 1.5, 'x' * 100_000]
    chord = Chord(app, len(values)).open()

    for place, value in enumerate(values):
        app.backend.mark_as_done(chord.ids[place], value, chord.request(place, request_of))

    assert messages(app) == [('body', chord.body_id, [values])]


@on(JOINING)
def test_a_failed_part_fails_the_body_and_calls_its_errback_once(app, make_app, request_of):
    errback = {'task': 'told elsewhere', 'args': [], 'kwargs': {}, 'options': {}, 'subtask_type': None,
               'immutable': False}
    chord = Chord(app, 3, link_error=[errback]).open()

    app.backend.mark_as_done(chord.ids[0], 0, chord.request(0, request_of))
    app.backend.mark_as_failure(chord.ids[1], ValueError('the second'), request=chord.request(1, request_of))
    app.backend.mark_as_done(chord.ids[2], 2, chord.request(2, request_of))
    app.backend.mark_as_failure(chord.ids[1], ValueError('again'), request=chord.request(1, request_of))

    result = reader(app, make_app).AsyncResult(chord.body_id)
    with pytest.raises(ChordError, match=rf"{chord.ids[1]} raised ValueError\('the second'\)"):
        result.get(timeout=5)
    assert [(task, args) for task, _, args in messages(app)] == [('told elsewhere', [chord.body_id])]


@on(JOINING)
def test_a_revoked_part_fails_the_body(app, make_app, request_of):
    chord = Chord(app, 2).open()

    app.backend.mark_as_done(chord.ids[0], 0, chord.request(0, request_of))
    app.backend.mark_as_revoked(chord.ids[1], 'not needed', request=chord.request(1, request_of))

    with pytest.raises(ChordError, match=chord.ids[1]):
        reader(app, make_app).AsyncResult(chord.body_id).get(timeout=5)
    assert messages(app) == []


@on(JOINING)
def test_a_chord_waits_for_a_part_that_was_added(app, request_of):
    chord = Chord(app, 2).open()
    added = str(uuid.uuid4())

    app.backend.mark_as_done(chord.ids[0], 0, chord.request(0, request_of))
    app.backend.add_to_chord(chord.gid, app.AsyncResult(added))
    app.backend.mark_as_done(chord.ids[1], 1, chord.request(1, request_of))
    assert messages(app) == []
    app.backend.mark_as_done(added, 2, request_of(added, group=chord.gid, group_index=2, chord=dict(chord.body)))

    assert messages(app) == [('body', chord.body_id, [[0, 1, 2]])]


@on(JOINING)
def test_a_chord_may_be_sent_again_under_its_id(app, request_of):
    chord = Chord(app, 2).open()
    app.backend.mark_as_done(chord.ids[0], 'old', chord.request(0, request_of))

    chord.open()
    app.backend.mark_as_done(chord.ids[1], 'new', chord.request(1, request_of))
    assert messages(app) == []
    app.backend.mark_as_done(chord.ids[0], 'new', chord.request(0, request_of))

    assert messages(app) == [('body', chord.body_id, [['new', 'new']])]


@on(JOINING)
def test_chords_do_not_mix(app, request_of):
    chords = [Chord(app, 3).open() for _ in range(4)]

    for place in range(3):
        for number, chord in enumerate(chords):
            app.backend.mark_as_done(chord.ids[place], [number, place], chord.request(place, request_of))

    assert sorted(messages(app), key=str) == sorted(
        (('body', chord.body_id, [[[number, place] for place in range(3)]]) for number, chord in enumerate(chords)),
        key=str)


@on(CROSSING)
def test_a_forked_child_may_return_the_last_part(app, request_of):
    chord = Chord(app, 2).open()
    app.backend.mark_as_done(chord.ids[0], 0, chord.request(0, request_of))

    child = fork.Process(target=app.backend.mark_as_done, args=(chord.ids[1], 1, chord.request(1, request_of)))
    child.start()
    child.join(20)

    assert child.exitcode == 0
    assert messages(app) == [('body', chord.body_id, [[0, 1]])]


@on(CROSSING)
def test_processes_that_return_all_parts_twice_and_at_once_send_each_body_once(app, make_app, request_of):
    chords = [Chord(app, 5).open() for _ in range(12)]
    parts = [(place, chord.request(place, request_of)) for chord in chords for place in range(5)] * 2

    def work(seed, share):
        random.Random(seed).shuffle(share)
        for place, request in share:
            app.backend.mark_as_done(request.id, place, request)

    random.Random(7).shuffle(parts)
    workers = [fork.Process(target=work, args=(seed, parts[seed::4])) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    sent = messages(app)
    assert Counter(task_id for _, task_id, _ in sent) == {chord.body_id: 1 for chord in chords}
    assert all(args == [[0, 1, 2, 3, 4]] for _, _, args in sent)
    client = reader(app, make_app)
    assert all(client.AsyncResult(task_id).get(timeout=5) == place
               for chord in chords for place, task_id in enumerate(chord.ids))


@on(JOINING)
def test_the_claim_has_one_holder_until_it_is_given_back(app):
    join, chord = app.backend.join, Chord(app, 1).open()
    part = Part(chord.gid, chord.ids[0], 0, states.SUCCESS, 'value')

    first = join.part(part)
    assert first.status == CLAIMED
    assert join.part(part).status == BUSY
    assert join.renew(first.claim, 10)
    join.release(first.claim)
    second = join.part(part)
    assert second.status == CLAIMED

    assert not join.renew(first.claim, 10)
    assert not join.finish(first.claim)
    assert join.renew(second.claim, 10)
    assert [(part.task_id, part.state, part.result) for part in join.parts(second.claim)] == [
        (chord.ids[0], states.SUCCESS, 'value')]
    assert join.finish(second.claim)
    assert join.part(part).status == DONE
    assert not join.renew(second.claim, 10)


@on(KEEPING)
def test_a_claim_whose_lease_ended_is_anybody_s(app):
    join, chord = app.backend.join, Chord(app, 1).open()
    part = Part(chord.gid, chord.ids[0], 0, states.SUCCESS, 'value')

    dead = join.part(part)
    assert join.renew(dead.claim, 0.001)

    report = join.part(part)
    while report.status == BUSY:
        report = join.part(part)
    assert report.status == CLAIMED
    assert report.claim.token != dead.claim.token
    assert not join.finish(dead.claim)


@on(JOINING)
def test_a_body_that_cannot_be_sent_leaves_the_chord_to_the_next_copy_of_a_part(app, make_app, request_of):
    chord = Chord(app, 1).open()
    away = make_app(broker_url='amqp://guest:guest@127.0.0.1:1//', broker_connection_timeout=1,
                    task_publish_retry=False)

    with pytest.raises(Exception) as caught:
        away.backend.mark_as_done(chord.ids[0], 'value', chord.request(0, request_of))
    assert isinstance(caught.value, OSError) or 'refused' in str(caught.value)
    assert messages(app) == []
    app.backend.mark_as_done(chord.ids[0], 'value', chord.request(0, request_of))

    assert messages(app) == [('body', chord.body_id, [['value']])]


@on(tuple(name for name in KEEPING if name not in ('redis', 'memcached')))
def test_a_part_of_a_chord_that_was_opened_elsewhere_is_none_of_ours(app, request_of):
    chord = Chord(app, 1)

    report = app.backend.join.part(Part(chord.gid, chord.ids[0], 0, states.SUCCESS, 'value'))

    assert report.status == RECORDED
    assert messages(app) == []


@on(KEEPING)
def test_a_group_in_the_header_is_saved_for_those_who_wait(app, make_app):
    inner = GroupResult(str(uuid.uuid4()), [app.AsyncResult(str(uuid.uuid4()))], app=app)
    chord = Chord(app, 1)

    app.backend.apply_chord((chord.gid, [inner]), chord.body)

    assert make_app().backend.restore_group(chord.gid).results == [inner]


@on(JOINING)
def test_a_group_in_the_header_gives_a_nested_value(app, request_of):
    chord = Chord(app, 3)
    first, *others = [app.AsyncResult(task_id) for task_id in chord.ids]

    app.backend.apply_chord((chord.gid, [first, GroupResult(str(uuid.uuid4()), others, app=app)]), chord.body)
    app.backend.set_chord_size(chord.gid, 3)
    for place in range(3):
        app.backend.mark_as_done(chord.ids[place], place, chord.request(place, request_of))

    assert messages(app) == [('body', chord.body_id, [[0, [1, 2]]])]


@on(('rpc',))
def test_the_claim_of_a_process_that_died_is_anybody_s(app):
    join, chord = app.backend.join, Chord(app, 2).open()
    first, second = (Part(chord.gid, chord.ids[place], place, states.SUCCESS, place) for place in (0, 1))
    assert join.part(first).status == RECORDED
    claimed = fork.Event()

    def claim_and_stay():
        if join.part(second).status == CLAIMED:
            claimed.set()
        threading.Event().wait()

    child = fork.Process(target=claim_and_stay)
    child.start()
    assert claimed.wait(20)
    assert join.part(second).status == BUSY
    child.kill()
    child.join(20)

    report = join.part(second)
    while report.status == BUSY:
        report = join.part(second)
    assert report.status == CLAIMED
    assert [part.result for part in join.parts(report.claim)] == [0, 1]


@on(('rpc',))
def test_parts_that_come_twice_are_read_once_each_and_the_count_stays_right(app):
    join, chord = app.backend.join, Chord(app, 5).open()
    part = [Part(chord.gid, task_id, place, states.SUCCESS, place, 5) for place, task_id in enumerate(chord.ids)]

    for place in (0, 0, 1, 0, 1, 2, 0, 3, 3, 1):
        assert join.part(part[place]).status == RECORDED
    report = join.part(part[4])

    assert report.status == CLAIMED
    assert [part.result for part in join.parts(report.claim)] == [0, 1, 2, 3, 4]
    assert join.finish(report.claim)
    assert join.part(part[4]).claim is None
    with pytest.raises(amqp.NotFound), app.connection_for_read() as connection:
        connection.default_channel.queue_declare(wire.CHORD_QUEUE_PREFIX + chord.gid, passive=True)


@on(('rpc',))
def test_a_part_that_is_not_the_last_takes_one_round_trip(app, request_of, monkeypatch):
    join, chord, writes = app.backend.join, Chord(app, 4).open(), []
    send_frames, write_method = Connection.send_frames, Connection.write_method
    monkeypatch.setattr(Connection, 'send_frames', lambda *args: writes.append(args) or send_frames(*args))
    monkeypatch.setattr(Connection, 'write_method', lambda *args: writes.append(args) or write_method(*args))

    def cost(place):
        before = len(writes)
        report = join.part(Part(chord.gid, chord.ids[place], place, states.SUCCESS, place, 4))
        return report.status, len(writes) - before

    assert [cost(place) for place in range(3)] == [(RECORDED, 1)] * 3
    status, most = cost(3)
    assert status == CLAIMED
    assert most > 1


@on(('rpc',))
def test_late_copies_of_parts_leave_room_for_what_is_said_of_the_body(app, request_of):
    app.task(name='body', acks_late=True)(lambda values: values)
    chord = Chord(app, 3).open()
    for place in (0, 1, 2):
        app.backend.mark_as_done(chord.ids[place], place, chord.request(place, request_of))
    headers = body_headers(app)
    for place in (0, 1, 2):
        app.backend.mark_as_done(chord.ids[place], place, chord.request(place, request_of))
    request = request_of(chord.body_id, task='body', headers=headers)

    app.backend.mark_as_done(chord.body_id, 'ran', request)

    assert app.backend.get_outcome(chord.body_id, request)['status'] == states.SUCCESS


@on(('rpc',))
def test_errbacks_are_sent_once_although_who_sent_them_could_not_go_on(app, request_of, monkeypatch):
    chord = Chord(app, 2, link_error=[app.signature('errback').set(task_id='told')]).open()
    app.backend.mark_as_failure(chord.ids[0], ValueError('no'), request=chord.request(0, request_of))

    def lose_broker(*args, **kwargs):
        raise ConnectionError('the broker is away')

    with monkeypatch.context() as patch, pytest.raises(ConnectionError):
        patch.setattr(app.backend, 'fail_from_current_stack', lose_broker)
        app.backend.mark_as_done(chord.ids[1], 1, chord.request(1, request_of))
    app.backend.mark_as_done(chord.ids[1], 1, chord.request(1, request_of))

    assert messages(app) == [('errback', 'told', [chord.body_id])]


@on(('rpc',))
def test_tasks_are_added_to_a_chord_however_many_of_it_are_there(app):
    join, chord = app.backend.join, Chord(app, 3).open()

    def part(task_id, place=None):
        return join.part(Part(chord.gid, task_id, place, states.SUCCESS, task_id, 3))

    for added in ('d', 'e', 'f', 'g'):
        join.extend(chord.gid, added)
    reports = [part(*slot) for slot in (*chord.slots[:2], ('d',), ('e',), ('f',), ('g',))]
    assert {report.status for report in reports} == {RECORDED}
    report = part(*chord.slots[2])

    assert report.status == CLAIMED
    assert sorted(part.result for part in join.parts(report.claim)) == sorted([*chord.ids, 'd', 'e', 'f', 'g'])


@pytest.mark.parametrize('size', [3, 5])
@on(('rpc',))
def test_a_chord_that_is_sent_again_begins_anew_whatever_the_old_one_has(app, request_of, size):
    old = Chord(app, 3).open()
    for place in (0, 1):
        app.backend.mark_as_done(old.ids[place], 'old', old.request(place, request_of))
    chord = Chord(app, size)
    chord.gid = old.gid

    chord.open()
    for place in range(size):
        assert messages(app) == []
        app.backend.mark_as_done(chord.ids[place], place, chord.request(place, request_of))

    assert messages(app) == [('body', chord.body_id, [list(range(size))])]


@on(('rpc',))
def test_nothing_of_a_chord_is_left_at_the_broker_when_its_body_has_run(app, request_of):
    app.task(name='body', acks_late=True)(lambda values: values)
    chord = Chord(app, 2).open()
    for place in (0, 1, 1):
        app.backend.mark_as_done(chord.ids[place], place, chord.request(place, request_of))
    attempt = body_headers(app)[wire.ATTEMPT_HEADER]
    body = request_of(chord.body_id, task='body', headers={wire.ATTEMPT_HEADER: attempt})

    assert app.backend.get_outcome(chord.body_id, body)['status'] == states.PENDING
    app.backend.mark_as_done(chord.body_id, 'value', body)
    meta = app.backend.get_outcome(chord.body_id, body)
    assert (meta['status'], meta['result']) == (states.SUCCESS, 'value')
    app.backend.join.end_run(chord.body_id, attempt, True)
    while not app.backend.get_outcome(chord.body_id, body).get('settled'):
        pass

    with app.connection_for_read() as connection, pytest.raises(amqp.NotFound):
        connection.default_channel.queue_declare(f'canvaslite-chord-{chord.gid}', passive=True)


@on(('rpc',), broker_url='memory://')
def test_rpc_refuses_chords_where_the_broker_is_not_rabbitmq(app):
    with pytest.raises(NotImplementedError, match='only on RabbitMQ'):
        Chord(app, 1).open()


@on(('memory', 'file', 'memcached'))
def test_the_value_that_counts_is_the_one_that_is_stored(app, request_of):
    chord = Chord(app, 1).open()
    app.backend.store_result(chord.ids[0], 'stored', states.SUCCESS)  # and whoever did it died

    app.backend.mark_as_done(chord.ids[0], 'of a second run', chord.request(0, request_of))

    assert messages(app) == [('body', chord.body_id, [['stored']])]


def celery_counts(app, chord, place, value):
    """A part as a Celery before 5.7 adds it: without a note which slots there are."""
    part = json.dumps([1, chord.ids[place], states.SUCCESS, value])
    app.backend.client.zadd(f'celery-taskset-meta-{chord.gid}.j', {part: place})


@on(('redis',))
def test_a_task_that_ran_in_an_old_celery_and_here_is_one_part(app, request_of):
    chord = Chord(app, 2).open()

    celery_counts(app, chord, 0, 'there')
    app.backend.mark_as_done(chord.ids[0], 'here', chord.request(0, request_of))
    assert messages(app) == []
    app.backend.mark_as_done(chord.ids[1], 'other', chord.request(1, request_of))

    assert messages(app) == [('body', chord.body_id, [['there', 'other']])]


@on(('redis',))
def test_a_task_that_ran_twice_in_an_old_celery_is_one_part(app, request_of):
    chord = Chord(app, 3).open()

    for value in ('first', 'second'):
        celery_counts(app, chord, 0, value)
    app.backend.mark_as_done(chord.ids[1], 'other', chord.request(1, request_of))
    assert messages(app) == []
    app.backend.mark_as_done(chord.ids[2], 'third', chord.request(2, request_of))

    assert messages(app) == [('body', chord.body_id, [['first', 'other', 'third']])]


@on(JOINING)
def test_a_part_that_is_added_twice_is_one(app, request_of):
    chord = Chord(app, 1).open()
    added = str(uuid.uuid4())

    for _ in range(2):  # by a task that ran again, as its process died
        app.backend.add_to_chord(chord.gid, app.AsyncResult(added))
    app.backend.mark_as_done(chord.ids[0], 0, chord.request(0, request_of))
    assert messages(app) == []
    app.backend.mark_as_done(added, 1, request_of(added, group=chord.gid, group_index=1, chord=dict(chord.body)))

    assert messages(app) == [('body', chord.body_id, [[0, 1]])]


@on(KEEPING)
def test_what_is_added_to_a_chord_that_is_over_leaves_it_over(app, request_of):
    chord = Chord(app, 1).open()
    app.backend.mark_as_done(chord.ids[0], 0, chord.request(0, request_of))
    assert len(messages(app)) == 1

    app.backend.add_to_chord(chord.gid, app.AsyncResult('late'))

    if app.store == 'redis':
        assert app.backend.client.keys(f'*{chord.gid}.*') == [f'celery-taskset-meta-{chord.gid}.c'.encode()]
    assert app.backend.join.part(Part(chord.gid, chord.ids[0], 0, states.SUCCESS, 'late')).status == DONE
