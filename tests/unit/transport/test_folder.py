"""Messages in a folder are whole when they are seen."""

from __future__ import annotations

from pathlib import Path
from queue import Empty
from threading import Thread

import pytest
from kombu.exceptions import ChannelError

from canvaslite.transport.connection import BrokerConnection


def connect(folder: Path) -> BrokerConnection:
    return BrokerConnection('filesystem://', transport_options={
        'data_folder_in': str(folder), 'data_folder_out': str(folder), 'control_folder': str(folder / 'control')})


def test_a_consumer_that_looks_all_the_time_gets_each_message_whole(tmp_path: Path) -> None:
    with connect(tmp_path) as connection, connect(tmp_path) as other:
        def publish() -> None:
            queue = other.SimpleQueue('letters')
            for n in range(1000):
                queue.put({'n': n, 'text': 'x' * 5000})

        publisher = Thread(target=publish)
        queue = connection.SimpleQueue('letters')
        publisher.start()
        seen = []
        while publisher.is_alive() or len(seen) < 1000:
            try:
                message = queue.get_nowait()
            except Empty:
                continue
            message.ack()
            seen.append(message.payload['n'])
        publisher.join()
    assert sorted(seen) == list(range(1000))
    assert not list(tmp_path.glob('*.msg'))


def test_a_folder_that_is_not_there_is_named_with_its_setting(tmp_path: Path) -> None:
    with connect(tmp_path / 'missing') as connection:
        channel = connection.channel()
        with pytest.raises(ChannelError, match='data_folder_out'):
            channel._put('letters', {})
