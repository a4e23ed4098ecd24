"""How an app reaches its broker, and what it does about forks."""

from __future__ import annotations

import os
import pickle
import threading
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from canvaslite import Celery
from canvaslite.transport.amqp import SSLTransport, Transport


def make_app(**options: Any) -> Celery:
    return Celery('connections', set_as_current=False, **options)


@pytest.mark.parametrize(('url', 'transport'), [
    ('amqp://h//', Transport), ('pyamqp://h//', Transport), ('amqps://h//', SSLTransport),
])
def test_rabbitmq_is_reached_by_our_own_transport(url: str, transport: type) -> None:
    app = make_app(broker=url)
    assert app.connection_for_read().get_transport_cls() is transport
    assert app.connection_for_write().clone().get_transport_cls() is transport
    with app.connection_or_acquire() as pooled:
        assert pooled.get_transport_cls() is transport


def test_other_brokers_are_reached_by_kombus() -> None:
    with make_app(broker='memory://').connection_for_write() as connection:
        assert type(connection.transport).__module__ == 'kombu.transport.memory'


def test_what_is_not_given_is_taken_from_the_settings() -> None:
    app = make_app(broker='amqp://h', changes={
        'broker_user': 'me', 'broker_password': 'secret', 'broker_vhost': 'v', 'broker_port': 1234,
        'broker_login_method': 'EXTERNAL', 'broker_connection_timeout': 9, 'broker_use_ssl': {'x': 1},
        'broker_transport_options': {'a': 1, 'b': 1}, 'broker_failover_strategy': 'shuffle'})
    connection = app.connection(transport_options={'b': 2}, heartbeat=5)
    assert (connection.userid, connection.password) == ('me', 'secret')
    assert (connection.virtual_host, connection.port) == ('v', 1234)
    assert (connection.login_method, connection.connect_timeout, connection.ssl) == ('EXTERNAL', 9, {'x': 1})
    assert (connection.transport_options, connection.heartbeat) == ({'a': 1, 'b': 2}, 5)
    given = app.connection('amqp://other:pass@there:1//w', ssl=False, connect_timeout=1)
    assert (given.hostname, given.userid, given.ssl, given.connect_timeout) == ('there', 'other', False, 1)


def test_reading_and_writing_may_go_different_ways() -> None:
    app = make_app(changes={'broker_read_url': 'amqp://reader//', 'broker_write_url': 'amqp://writer//'})
    assert app.connection_for_read().hostname == 'reader'
    assert app.connection_for_write().hostname == 'writer'
    assert app.connection().hostname == 'writer'
    assert app.connection_for_read('amqp://given//').hostname == 'given'


@pytest.mark.parametrize('urls', ['amqp://one//;amqp://two//', ['amqp://one//', 'amqp://two//']])
def test_several_urls_are_tried_in_turn(urls: Any) -> None:
    connection = make_app(broker=urls).connection_for_write()
    assert connection.hostname == 'one'
    connection.maybe_switch_next()
    assert connection.hostname == 'two'


def test_a_pool_lends_as_many_connections_as_it_may() -> None:
    app = make_app(broker='memory://', changes={'broker_pool_limit': 1, 'broker_pool_acquire_timeout': 0.01})
    given = object()
    with app.connection_or_acquire(given) as connection:  # type: ignore[arg-type]
        assert connection is given
    with app.connection_or_acquire() as first:
        with pytest.raises(OperationalError, match='broker_pool_limit'), app.connection_or_acquire():
            pass
        with app.connection_or_acquire(pool=False) as other:
            assert other is not first
    with app.connection_or_acquire() as again:
        assert again is first
    app.close()


def test_producers_come_from_a_pool_too() -> None:
    app = make_app(broker='memory://', changes={'broker_pool_limit': 1, 'broker_pool_acquire_timeout': 0.01})
    with app.producer_or_acquire() as producer:
        assert producer.connection.as_uri().startswith('memory://')
        with pytest.raises(OperationalError, match='producer'), app.producer_or_acquire():
            pass
        with app.producer_or_acquire(producer) as given:
            assert given is producer


def test_a_forked_child_leaves_the_parents_connections_alone() -> None:
    app = make_app(broker='memory://')
    told: list[int] = []
    app.on_after_fork.connect(lambda sender, **_: told.append(os.getpid()), weak=False)
    with app.connection_or_acquire() as connection:
        pool, oid = app.pool, app.oid
        child = os.fork()
        if not child:
            os._exit(0 if app.pool is not pool and app.oid != oid and told == [os.getpid()] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert app.pool is pool
        assert connection.connected or connection.connect()
    assert told == []


def test_an_apps_id_is_its_own_and_a_threads_is_too() -> None:
    one, two = make_app(), make_app()
    assert len({one.oid, two.oid, one.thread_oid}) == 3
    assert (one.oid, one.thread_oid) == (one.oid, one.thread_oid)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(one.thread_oid))
    thread.start()
    thread.join()
    assert found[0] != one.thread_oid


def test_an_app_is_pickled_by_what_was_said_about_it() -> None:
    app = make_app(broker='memory://', config_source={'task_default_queue': 'q'}, namespace='NS')
    app.conf.worker_concurrency = 3
    copy = pickle.loads(pickle.dumps(app))
    assert type(copy) is Celery
    assert (copy.main, copy.namespace, copy.conf.broker_url) == ('connections', 'NS', 'memory://')
    assert (copy.conf.task_default_queue, copy.conf.worker_concurrency) == ('q', 3)


def test_results_are_pickled_by_the_app() -> None:
    app = make_app(backend='cache+memory://')
    app.set_current()
    result = pickle.loads(pickle.dumps(app.AsyncResult('some-id')))
    assert (result.id, result.app) == ('some-id', app)
