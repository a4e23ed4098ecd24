"""What was acknowledged before it ran dies with its whole worker: its chord cannot be completed, and must not hang."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from canvaslite import Celery, chord
from canvaslite.exceptions import ChordError


@pytest.mark.parametrize('store', ['redis', 'sqlite', 'rpc'])
def test_a_chord_with_a_task_that_no_one_has_any_more_fails_at_its_deadline_and_says_why(
    request: pytest.FixtureRequest, broker_url: str, start_worker: Callable[..., Any], tmp_path: Path, store: str,
    rabbitmqctl: Callable[..., str]
) -> None:
    backend = {'sqlite': f'db+sqlite:///{tmp_path}/results', 'rpc': 'rpc://'}.get(store) \
        or request.getfixturevalue('redis_url')
    env = {'BROKER': broker_url, 'BACKEND': backend}
    app = Celery('caller', set_as_current=False, broker=broker_url, backend=backend)
    app.conf.update(task_default_queue='proj', result_chord_deadline=4)
    begun = tmp_path / 'begun'
    try:
        worker = start_worker('proj', '-c', '2', '-l', 'INFO', **env)
        lost = app.signature('proj.span', args=(str(begun), 'lost', 60))
        result = chord([lost, app.signature('proj.add', args=(1, 1))], app.signature('proj.collect')).apply_async()
        while not begun.exists():
            time.sleep(0.01)
        # Acknowledgements are written at the end of a turn, by when a task may have begun.
        unacknowledged = 'list_queues', '-q', '-p', broker_url.rpartition('/')[2], 'name', 'messages_unacknowledged'
        while 'proj\t0' not in rabbitmqctl(*unacknowledged):
            time.sleep(0.01)
        worker.kill()
        start_worker('proj', '-c', '2', '-l', 'INFO', **env)
        with pytest.raises(ChordError, match=r'not complete before its deadline.*a task of its header was lost'):
            result.get(timeout=15)
        assert len(begun.read_text().splitlines()) == 1, 'it did not run again'
    finally:
        app.close()
