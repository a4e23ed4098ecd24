"""Publishing while connections are lost, refused or scarce."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest
from amqp.exceptions import ChannelError, PreconditionFailed
from kombu import Queue
from kombu.exceptions import EncodeError, OperationalError

from canvaslite import Celery, chain, chord, group
from tests.integration.proxy import Proxy

MakeApp = Callable[..., Celery]
Count = Callable[..., Counter[str]]


@pytest.fixture
def make_app(close_later: Callable[[Celery], Celery]) -> MakeApp:
    def make(url: str, confirm: bool = False, **settings: Any) -> Celery:
        app = close_later(Celery('t', broker=url, set_as_current=False))
        app.conf.update(broker_transport_options={'confirm_publish': confirm}, result_backend='disabled://', **settings)
        return app
    return make


@pytest.fixture
def count(broker_url: str) -> Iterator[Count]:
    """Take every message of the default queue, and wait for so many if need be; how often each task id was there."""
    with kombu.Connection(broker_url) as connection:
        channel = connection.default_channel

        def count(awaited: int = 0) -> Counter[str]:
            channel.queue_declare('celery', durable=True, auto_delete=False)
            found: Counter[str] = Counter()
            until = time.monotonic() + 10
            while True:  # what is not confirmed may still be on its way
                messages = iter(lambda: channel.basic_get('celery', no_ack=True), None)
                found.update(message.headers['id'] for message in messages)
                if sum(found.values()) >= awaited or time.monotonic() > until:
                    return found
        yield count


def publish_numbered(app: Celery, numbers: range, **options: Any) -> None:
    for number in numbers:
        app.publisher.publish('t', (number,), {}, {'task_id': f'id-{number}'}, **options)


@pytest.mark.parametrize('confirm', [False, True], ids=['unconfirmed', 'confirmed'])
@pytest.mark.parametrize('cut_after', [1_000, 100_000, 600_000])
def test_a_burst_through_a_broken_connection_loses_nothing(
        cut_after: int, confirm: bool, proxy: Proxy, make_app: MakeApp, count: Count) -> None:
    app = make_app(proxy.url, confirm)
    publish_numbered(app, range(1))
    with app.publisher.burst() as burst:
        proxy.cut_after(cut_after)
        publish_numbered(app, range(1, 1500), producer=burst)
    assert count(1500).keys() == {f'id-{number}' for number in range(1500)}


@pytest.mark.parametrize('confirm', [False, True], ids=['unconfirmed', 'confirmed'])
def test_a_message_after_a_lost_connection_arrives_once(
        confirm: bool, proxy: Proxy, make_app: MakeApp, count: Count) -> None:
    app = make_app(proxy.url, confirm)
    for number in range(3):
        publish_numbered(app, range(number, number + 1))
        proxy.cut()
    publish_numbered(app, range(3, 4))
    app.publisher.settle_streams()
    found = count()
    assert found.keys() == {'id-0', 'id-1', 'id-2', 'id-3'} or not confirm
    assert 'id-3' in found


def test_without_retry_the_caller_sees_the_loss(proxy: Proxy, make_app: MakeApp) -> None:
    app = make_app(proxy.url, task_publish_retry=False)
    publish_numbered(app, range(1))
    with pytest.raises(OperationalError, match='task_publish_retry_policy'), app.publisher.burst() as burst:
        proxy.cut_after(100_000)
        publish_numbered(app, range(1, 1500), producer=burst)
    publish_numbered(app, range(1500, 1501))


def test_a_refused_message_is_an_error_and_the_others_are_not_sent_again(
        broker_url: str, make_app: MakeApp, count: Count) -> None:
    app = make_app(broker_url, True, task_queues=[
        Queue('celery', queue_arguments={'x-max-length': 2, 'x-overflow': 'reject-publish'})],
        task_publish_retry_policy={'max_retries': 1, 'interval_start': 0})
    with pytest.raises(OperationalError, match='refused'), app.publisher.burst() as burst:
        publish_numbered(app, range(8), producer=burst)
    with kombu.Connection(broker_url) as connection:
        channel = connection.default_channel
        found = [message.headers['id'] for message in iter(lambda: channel.basic_get('celery', no_ack=True), None)]
    assert len(found) == len(set(found)) >= 2


def test_a_message_that_reaches_no_queue_is_an_error_when_mandatory(broker_url: str, make_app: MakeApp) -> None:
    app = make_app(broker_url, True)
    with pytest.raises(ChannelError, match='nowhere'):
        app.publisher.publish('t', (), {}, {'exchange': 'amq.direct', 'routing_key': 'nowhere', 'mandatory': True})


def test_a_queue_that_exists_otherwise_is_brokers_error_and_the_next_task_is_sent(
        broker_url: str, make_app: MakeApp, count: Count) -> None:
    app = make_app(broker_url)
    count()
    with pytest.raises(PreconditionFailed):
        app.publisher.publish('t', (), {}, {'queue': Queue('celery', durable=False)})
    publish_numbered(app, range(1))
    assert count(1) == {'id-0': 1}


@pytest.mark.parametrize('retry', [True, False])
def test_an_unreachable_broker_is_named_with_its_setting_and_without_password(retry: bool, make_app: MakeApp) -> None:
    app = make_app('amqp://guest:secret@127.0.0.1:1/', task_publish_retry=retry,
                   task_publish_retry_policy={'max_retries': 1, 'interval_start': 0, 'interval_max': 0})
    with pytest.raises(OperationalError) as caught:
        app.publisher.publish('t')
    text = str(caught.value)
    assert 'amqp://guest:**@127.0.0.1:1//' in text and 'refused' in text and 'broker_url' in text
    assert 'secret' not in text and '\n' not in text


def test_refused_credentials_are_no_reason_to_try_again(broker_url: str, make_app: MakeApp) -> None:
    app = make_app(broker_url.replace('guest:guest', 'guest:wrong'), task_publish_retry_policy={'interval_start': 100})
    with pytest.raises(OperationalError, match=r'ACCESS_REFUSED.*broker_url'):
        app.publisher.publish('t')


def test_the_next_host_is_used_when_the_first_does_not_answer(
        broker_url: str, make_app: MakeApp, count: Count) -> None:
    app = make_app(f'amqp://guest:guest@127.0.0.1:1/;{broker_url}')
    publish_numbered(app, range(2))
    assert count(2) == {'id-0': 1, 'id-1': 1}


def test_arguments_that_cannot_be_sent_are_an_error_of_the_call(broker_url: str, make_app: MakeApp,
                                                                count: Count) -> None:
    app = make_app(broker_url)
    endless: list[Any] = []
    endless.append(endless)
    for argument in (object(), endless):
        with pytest.raises(EncodeError), app.publisher.burst() as burst:
            publish_numbered(app, range(1), producer=burst)
            app.publisher.publish('t', (argument,), {}, {}, producer=burst)
    assert not count()


def test_ten_threads_with_one_channel_publish_nested_canvases(broker_url: str, make_app: MakeApp,
                                                             count: Count) -> None:
    app = make_app(broker_url, broker_pool_limit=1, broker_pool_acquire_timeout=30)

    @app.task(name='add', ignore_result=True)
    def add(x: int, y: int) -> int:
        return x + y

    def publish() -> None:
        try:
            for _ in range(3):
                inner = group(add.si(n, n) for n in range(300))
                group(add.si(1, 1), inner, chain(add.si(1, 2), add.s(3))).apply_async()
        except Exception as exc:
            failures.append(exc)

    failures: list[Exception] = []
    threads = [threading.Thread(target=publish) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)
    assert sum(count(10 * 3 * 302).values()) == 10 * 3 * 302


def test_threads_that_publish_first_at_the_same_time_send_whole_messages(broker_url: str, make_app: MakeApp) -> None:
    app = make_app(broker_url)
    with app.publisher.burst():
        pass
    barrier = threading.Barrier(8)

    def publish() -> None:
        barrier.wait()
        publish_numbered(app, range(20))

    threads = [threading.Thread(target=publish) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    app.publisher.settle_streams()
    with kombu.Connection(broker_url) as connection:
        channel = connection.default_channel
        messages = list(iter(lambda: channel.basic_get('celery', no_ack=True), None))
    assert len(messages) == 160
    assert {message.headers['origin'].split('@')[0] for message in messages} == {f'gen{os.getpid()}'}


@pytest.mark.parametrize('confirm', [False, True], ids=['unconfirmed', 'confirmed'])
def test_publishing_beside_a_burst_that_holds_the_only_channel_does_not_wait(
        confirm: bool, broker_url: str, make_app: MakeApp, count: Count) -> None:
    app = make_app(broker_url, confirm, broker_pool_limit=1, broker_pool_acquire_timeout=1)
    with app.publisher.burst() as burst:
        publish_numbered(app, range(500), producer=burst)
        publish_numbered(app, range(500, 510))
        with app.publisher.burst() as inner:
            publish_numbered(app, range(510, 1200), producer=inner)
    assert count(1200) == {f'id-{number}': 1 for number in range(1200)}


def test_a_pool_without_a_free_channel_says_which_settings_to_raise(broker_url: str, make_app: MakeApp) -> None:
    app = make_app(broker_url, broker_pool_limit=1, broker_pool_acquire_timeout=0.1)
    caught: list[Exception] = []

    def publish() -> None:
        try:
            app.publisher.publish('t')
        except OperationalError as exc:
            caught.append(exc)

    with app.publisher.burst() as burst:
        publish_numbered(app, range(500), producer=burst)
        thread = threading.Thread(target=publish)
        thread.start()
        thread.join(10)
    assert 'broker_pool_limit' in str(caught[0])


def test_a_forked_child_has_connections_of_its_own(broker_url: str, make_app: MakeApp,
                                                   count: Count) -> None:
    app = make_app(broker_url)
    publish_numbered(app, range(2))
    child = os.fork()
    if not child:
        status = 1
        try:
            publish_numbered(app, range(10, 20))
            status = 0
        finally:
            os._exit(status)
    publish_numbered(app, range(2, 10))
    assert os.waitpid(child, 0)[1] == 0
    publish_numbered(app, range(20, 21))
    assert count(21) == {f'id-{number}': 1 for number in range(21)}


@pytest.mark.parametrize('limit', [0, None])
def test_a_pool_may_be_off_or_without_limit(limit: int | None, broker_url: str, make_app: MakeApp,
                                            count: Count) -> None:
    app = make_app(broker_url, broker_pool_limit=limit)
    publish_numbered(app, range(5))
    assert sum(count(5).values()) == 5


def test_a_chord_through_a_broken_connection_is_whole(proxy: Proxy, redis_url: str, make_app: MakeApp,
                                                      count: Count) -> None:
    app = make_app(proxy.url)
    app.conf.result_backend = redis_url

    @app.task(name='add')
    def add(x: int, y: int) -> int:
        return x + y

    publish_numbered(app, range(1))
    count(1)
    proxy.cut_after(100_000)
    chord([add.s(n, n) for n in range(800)], add.si(0, 0)).apply_async()
    assert len(count(800)) == 800


def test_a_burst_takes_nothing_after_its_end(broker_url: str, make_app: MakeApp) -> None:
    app = make_app(broker_url)
    with app.publisher.burst() as burst:
        publish_numbered(app, range(1), producer=burst)
    with pytest.raises(RuntimeError, match='inside its with block'):
        publish_numbered(app, range(1), producer=burst)
