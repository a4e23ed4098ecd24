"""Tasks that end their process, or their worker, whenever they run: not for ever, and who waits for them is told."""

from __future__ import annotations

from typing import Any

import pytest

from canvaslite import chord
from canvaslite.exceptions import ChordError, WorkerLostError
from tests.faults.site import Site


def make_site(broker_url: str, backend: str, *, queue_arguments: dict[str, Any] | None = None, **conf: Any) -> Site:
    """A site whose queue has a dead-letter queue called ``dead``."""
    site = Site(broker_url, backend, **conf)
    arguments = {'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead', **(queue_arguments or {})}
    site.configure(task_queues={site.queue: {'queue_arguments': arguments}})
    with site.app.connection_for_write() as connection:
        connection.default_channel.queue_declare('dead', auto_delete=False)
    return site


def dead(site: Site) -> list[str]:
    """Ids of the messages in the dead-letter queue."""
    with site.app.connection_for_write() as connection:
        messages = iter(lambda: connection.default_channel.basic_get('dead', no_ack=True), None)
        return [message.headers['id'] for message in messages]


@pytest.mark.parametrize(('store', 'kind'), [('redis', 'classic'), ('sqlite', 'quorum'), ('rpc', 'classic')])
def test_a_task_that_kills_its_process_three_times_is_a_failed_part_and_a_dead_letter(
    request: pytest.FixtureRequest, broker_url: str, store: str, kind: str
) -> None:
    backend = request.getfixturevalue(f'{store}_url')
    with make_site(broker_url, backend, queue_arguments={'x-queue-type': kind}) as site:
        worker = site.start()
        poison = site.signature('poison', 1).set(task_id='the-poison')
        result = chord([poison, site.signature('pid')], site.signature('collect')).apply_async()
        error = result.get(timeout=20, propagate=False)
        assert isinstance(error, ChordError) and 'the-poison raised WorkerLostError' in str(error), error
        worker.await_line('CRITICAL.*the-poison.*dead-letter.*happened 3 times')
        assert site.runs() == {1: 3}
        assert site.task('pid').get(timeout=60) in worker.children(), 'the worker goes on'
        assert worker.stop() == 0
        assert dead(site) == ['the-poison']


@pytest.mark.parametrize(('store', 'conf'), [
    ('redis', {'task_redelivery_limit': 2}),
    ('rpc', {'task_redelivery_limit': 2}),
    ('redis', {'queue_arguments': {'x-queue-type': 'quorum', 'x-delivery-limit': 2}}),
], ids=['redis', 'rpc', 'queue'])
def test_a_task_that_kills_its_whole_worker_is_not_begun_for_ever(
    request: pytest.FixtureRequest, broker_url: str, store: str, conf: dict[str, Any]
) -> None:
    with make_site(broker_url, request.getfixturevalue(f'{store}_url'), **conf) as site:
        result = site.task('poison', 1, 'parent')
        for _ in range(2):
            site.start('-c', '1', ready=False).wait()
        worker = site.start('-c', '1')
        with pytest.raises(WorkerLostError, match='happened 2 times'):
            result.get(timeout=60)
        assert site.task('pid').get(timeout=60)
        assert site.runs() == {1: 2}
        assert worker.stop() == 0
        assert dead(site) == [result.id]


@pytest.mark.parametrize('store', ['redis', 'rpc'])
def test_a_message_that_is_given_back_again_and_again_is_not_taken_for_poison(
    request: pytest.FixtureRequest, broker_url: str, store: str
) -> None:
    with make_site(broker_url, request.getfixturevalue(f'{store}_url'), task_redelivery_limit=2) as site:
        worker = site.start()
        result = site.task('come_back', 6)
        assert result.get(timeout=60) == 6
        assert worker.stop() == 0
        assert dead(site) == []
