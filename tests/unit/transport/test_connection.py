"""Which transport a broker URL gets."""

from __future__ import annotations

import pickle

import pytest
from kombu.transport import get_transport_cls, memory, pyamqp

from canvaslite.transport.amqp import SSLTransport, Transport
from canvaslite.transport.connection import BrokerConnection


@pytest.mark.parametrize('url', ['amqp://guest@localhost//', 'pyamqp://localhost', 'localhost:5672', None])
def test_rabbitmq_urls_get_the_fast_transport(url: str | None) -> None:
    assert type(BrokerConnection(url).transport) is Transport


def test_amqps_gets_the_fast_transport_with_tls() -> None:
    connection = BrokerConnection('amqps://localhost')

    assert type(connection.transport) is SSLTransport
    assert connection.ssl is True
    assert connection.transport.default_connection_params['port'] == 5671


def test_a_transport_named_in_full_is_the_fast_one_when_it_is_kombus_own() -> None:
    connection = BrokerConnection('amqp://localhost', transport='kombu.transport.pyamqp:Transport')

    assert type(connection.transport) is Transport


def test_other_transports_are_kombus() -> None:
    assert type(BrokerConnection('memory://').transport) is memory.Transport


def test_a_transport_class_of_the_users_own_is_kept() -> None:
    class Own(pyamqp.Transport):  # type: ignore[misc]
        pass

    assert type(BrokerConnection('amqp://localhost', transport=Own).transport) is Own


def test_clones_pickles_and_failover_keep_the_choice() -> None:
    connection = BrokerConnection('amqp://first;pyamqp://second')

    assert type(connection.clone().transport) is Transport
    assert type(pickle.loads(pickle.dumps(connection)).transport) is Transport
    connection.switch('pyamqp://second')
    assert connection.hostname == 'second'
    assert type(connection.transport) is Transport


def test_kombu_itself_is_left_as_it_is() -> None:
    BrokerConnection('amqp://localhost').transport

    assert get_transport_cls('amqp') is pyamqp.Transport


def test_the_password_does_not_show() -> None:
    assert 'secret' not in repr(BrokerConnection('amqp://user:secret@localhost//'))
