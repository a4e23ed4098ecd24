"""No message ends a worker, keeps a place in it, or makes it tell a secret: the corpus, and some random messages."""

from __future__ import annotations

from tests.faults.bad_messages import Lane, corpus, remote_control, try_random

#: Seconds: the machine that tests may be busy with other things.
PATIENCE = 20.0


def test_a_worker_goes_on_after_every_message_of_the_corpus(broker_url: str, redis_url: str) -> None:
    with Lane('canvaslite', broker_url, redis_url, patience=PATIENCE) as lane:
        toll = lane.try_all({**corpus(), **remote_control()})
        lane.note_peak()
        assert not toll.faults, str(toll)
        # Not even half of what a bomb of the corpus would become.
        assert toll.peak_kib < 100_000
        assert lane.worker is not None and lane.worker.stop() == 0


def test_a_worker_goes_on_after_random_messages(broker_url: str, redis_url: str) -> None:
    # In this pool it is the main process that reads them.
    with Lane('canvaslite', broker_url, redis_url, '-P', 'solo', patience=PATIENCE) as lane:
        try_random(lane, 60, 5)
        assert lane.toll.messages > 30
