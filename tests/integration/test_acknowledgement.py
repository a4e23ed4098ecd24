"""Which messages of late tasks are acknowledged, come again, or are dead letters, by how their task ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fixtures import load_app

#: By task: how it ends, at which run it does not, what its result is then, and whether its message is a dead letter.
ENDS: dict[str, tuple[str, int, int, str, bool]] = {
    'fail_unacknowledged': ('fail', 100, 1, 'ValueError', True),
    'fail_unacknowledged_old': ('fail', 100, 1, 'ValueError', True),
    'fail_acknowledged': ('fail', 100, 1, 'ValueError', False),
    'hang_unacknowledged': ('hang', 2, 2, '2', False),
    'hang_acknowledged': ('hang', 100, 1, 'TimeLimitExceeded', False),
    'hang_early': ('hang', 100, 1, 'TimeLimitExceeded', False),
    'hang_softly': ('hang', 100, 1, 'SoftTimeLimitExceeded', False),
    'die_rejected': ('die', 2, 2, '2', False),
    'die_retried': ('die', 3, 3, '3', False),
    'die_early': ('die', 100, 1, 'WorkerLostError', False),
    'die_alone': ('die', 100, 1, 'WorkerLostError', False),
    'reject_requeued': ('reject and requeue', 4, 4, '4', False),
    'reject_early': ('reject and requeue', 100, 1, 'Reject', False),
    'reject_dropped': ('reject', 100, 1, 'Reject', True),
}


def test_each_end_of_a_task_has_its_acknowledgement(
    servers: dict[str, str], start_worker: Callable[..., Any], tmp_path: Path
) -> None:
    app = load_app('acks').app
    try:
        with app.connection_for_write() as connection:
            dead = connection.default_channel
            dead.queue_declare('dead', auto_delete=False)
            worker = start_worker('acks', '-c', '3', '-l', 'INFO', RUNS=str(tmp_path), **servers)
            results = {name: app.signature(f'acks.{name}', args=(name, how, until)).apply_async()
                       for name, (how, until, *_) in ENDS.items()}
            values = {name: result.get(timeout=20, propagate=False) for name, result in results.items()}
            assert worker.stop() == 0
            letters = [message.headers['task'] for message in iter(lambda: dead.basic_get('dead', no_ack=True), None)]
            seen = {name: (*ENDS[name][:2], len((tmp_path / name).read_text()),
                           type(value).__name__ if isinstance(value, Exception) else str(value),
                           f'acks.{name}' in letters) for name, value in values.items()}
            assert seen == ENDS
            assert len(letters) == 3
            assert not app.amqp.queues['acks'](dead).queue_declare().message_count
    finally:
        app.close()
