"""What happens to servers and disks loses nothing of a stream of tasks: some of `stream`, `full_disk` and `soak`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from canvaslite import Celery
from canvaslite.result.nodes import CanvasRecord
from tests.faults.full_disk import CannotMount, small_disk, try_full
from tests.faults.soak import soak
from tests.faults.stream import own_servers, try_fault
from tests.rabbitmq_servers import RabbitServer
from tests.redis_servers import RedisServer


@pytest.fixture(scope='module')
def two_servers() -> Iterator[tuple[RabbitServer, RedisServer]]:
    with own_servers() as servers:
        yield servers


@pytest.mark.parametrize(('fault', 'late'), [('rabbitmq_paused', True), ('redis_restarted', False), ('wire_cut', True)])
def test_a_stream_of_canvases_survives_what_happens_to_servers_and_processes(
    two_servers: tuple[RabbitServer, RedisServer], fault: str, late: bool
) -> None:
    outcome = try_fault(*two_servers, 'canvaslite', fault, late, 1)
    assert (outcome.lost, outcome.wrong) == ([], [])
    assert max(outcome.resumed) < 30


@contextmanager
def skip_where_nothing_mounts() -> Iterator[None]:
    try:
        yield
    except CannotMount as exc:
        pytest.skip(str(exc))


@pytest.mark.parametrize('store', ['files', 'sqlite'])
def test_results_that_find_the_disk_full_are_kept_when_there_is_space_again(broker_url: str, store: str) -> None:
    with skip_where_nothing_mounts():
        outcome, lines = try_full(broker_url, 'canvaslite', store, late=False, rounds=1, seconds=2.0)
    assert (outcome.lost, outcome.wrong) == ([], [])
    assert not [line for line in lines if 'Traceback' in line]
    assert any('trying again' in line for line in lines), 'it never was full'


def test_a_record_of_a_canvas_that_finds_the_disk_full_does_not_spoil_the_next_one() -> None:
    data = b'{"at": 1.0, "end": "%s", "canvas": ["add", "%s"]}'
    with skip_where_nothing_mounts(), small_disk() as disk, \
            Celery('full', backend=f'file://{disk.folder}', set_as_current=False) as app:
        ids = [str(number) for number in range(200)]
        records = [CanvasRecord(id, [id], data % (id.encode(), id.encode())) for id in ids]
        app.backend.canvases.keep(records[0])
        kept = ids[:1]
        with disk.full():  # all but the rest of the page that the first record is on
            for record in records[1:-1]:
                with suppress(OSError):
                    app.backend.canvases.keep(record)
                    kept.append(record.run)
        assert 1 < len(kept) < 198
        app.backend.canvases.keep(records[-1])
        assert [app.backend.find_canvas(id).id for id in (*kept, ids[-1])] == [*kept, ids[-1]]


def test_a_short_soak_loses_nothing_and_leaves_nothing(broker_url: str, redis_url: str) -> None:
    report = soak(broker_url, redis_url, 'canvaslite', 6.0, expires=6.0)
    assert (report.lost, report.wrong, report.doubled, report.errors) == ([], [], 0, [])
    assert (report.messages_left, report.keys_left, report.codes) == (0, {}, [0, 0])
