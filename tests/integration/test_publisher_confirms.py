"""What a sender may rely on: what was sent is at the broker, or the sender gets an error that says why not."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest
from amqp.exceptions import ChannelError, PreconditionFailed
from kombu import Queue
from kombu.exceptions import OperationalError

from canvaslite import Celery, chain, chord, group, signals
from canvaslite.current import task_stack
from tests.integration.proxy import Proxy

MakeApp = Callable[..., Celery]


def await_true(asked: Callable[[], bool], timeout: float) -> None:
    until = time.monotonic() + timeout
    while not asked():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def make_app(close_later: Callable[[Celery], Celery]) -> MakeApp:
    def make(url: str, **settings: Any) -> Celery:
        app = close_later(Celery('t', broker=url, backend=settings.pop('backend', 'disabled://'), set_as_current=False))
        app.conf.update(**settings)
        app.task(name='add')(lambda x, y: x + y)
        return app
    return make


@pytest.fixture
def taken(broker_url: str) -> Iterator[Callable[..., Counter[str]]]:
    """Take every message of a queue; how often each task id was there."""
    with kombu.Connection(broker_url) as connection:
        def taken(queue: str = 'celery') -> Counter[str]:
            channel = connection.channel()
            try:
                messages = iter(lambda: channel.basic_get(queue, no_ack=True), None)
                return Counter(message.headers['id'] for message in messages)
            finally:
                channel.close()
        yield taken


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    """What is logged of publishing, whatever another test has done to the loggers above."""
    records: list[logging.LogRecord] = []
    handler, logger = logging.Handler(), logging.getLogger('celery.publish')
    handler.addFilter(lambda record: records.append(record) or False)  # type: ignore[func-returns-value]
    level, disabled = logger.level, logger.disabled
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.disabled = False
    yield records
    logger.removeHandler(handler)
    logger.setLevel(level)
    logger.disabled = disabled


def test_five_thousand_publishes_through_resets_and_a_half_open_connection_are_all_there(
        proxy: Proxy, make_app: MakeApp, taken: Callable[..., Counter[str]]) -> None:
    app = make_app(proxy.url)
    sent = []
    for number in range(5000):
        if number % 500 == 250:
            proxy.cut()
        if number == 2600:
            proxy.strand()
        sent.append(app.tasks['add'].delay(number, number).id)
    app.publisher.settle_streams()
    found = taken()
    assert found.keys() == set(sent)
    assert sum(found.values()) - 5000 <= 10 * app.conf.broker_confirm_window


@pytest.mark.parametrize('ending', ['cut', 'strand'])
def test_canvases_through_broken_connections_are_whole_or_an_error(
        ending: str, proxy: Proxy, redis_url: str, make_app: MakeApp, taken: Callable[..., Counter[str]]) -> None:
    app = make_app(proxy.url, backend=redis_url, broker_confirm_timeout=0.3)
    add = app.tasks['add']
    expected = set()
    for number in range(120):
        if number % 20 == 10:
            getattr(proxy, ending)()
        canvas: Any = [
            lambda: group(add.s(n, n) for n in range(5)), lambda: chain(add.s(1, 1), add.s(1)),
            lambda: chord([add.s(n, n) for n in range(5)], add.si(0, 0)),
            lambda: group(chain(add.s(n, n), add.s(1)) for n in range(3)),
        ][number % 4]()
        result = canvas.apply_async()
        if number % 4 == 1:
            expected.add(result.parent.id)
        else:
            members = result.results if number % 4 != 2 else result.parent.results
            expected.update(member.parent.id if number % 4 == 3 else member.id for member in members)
    found = taken()
    assert found.keys() == expected


def test_a_message_after_a_long_silence_of_a_half_open_connection_arrives(
        proxy: Proxy, make_app: MakeApp, taken: Callable[..., Counter[str]]) -> None:
    app = make_app(proxy.url, broker_confirm_timeout=0.3)
    first = app.tasks['add'].delay(1, 1)
    proxy.strand()
    second = app.tasks['add'].delay(2, 2)
    app.publisher.settle_streams()
    assert taken() == {first.id: 1, second.id: 1}


def test_messages_to_old_and_new_queues_on_a_half_open_connection_arrive_in_seconds(
        proxy: Proxy, make_app: MakeApp, taken: Callable[..., Counter[str]]) -> None:
    app = make_app(proxy.url)
    sent = {'celery': {app.tasks['add'].delay(1, 1).id}, 'another': set()}
    for queue in ('another', 'celery'):
        app.publisher.settle_streams()
        proxy.strand()
        began = time.monotonic()
        sent[queue].add(app.tasks['add'].apply_async((2, 2), queue=queue).id)
        app.publisher.settle_streams()
        assert time.monotonic() - began < 8
    assert {queue: taken(queue) for queue in sent} == {queue: dict.fromkeys(ids, 1) for queue, ids in sent.items()}


def test_a_message_that_the_broker_is_slow_to_confirm_is_not_sent_again(
        broker_url: str, make_app: MakeApp, taken: Callable[..., Counter[str]], rabbitmqctl: Callable[..., str],
        logged: list[logging.LogRecord]) -> None:
    app = make_app(broker_url, broker_confirm_window=1, broker_confirm_timeout=600)
    sent = {app.tasks['add'].delay(1, 1).id}
    vhost = broker_url.rsplit('/', 1)[1]
    keeper = (f'{{ok, Q}} = rabbit_amqqueue:lookup({{resource, <<"{vhost}">>, queue, <<"celery">>}}), '
              'sys:%s(amqqueue:get_pid(Q)).')
    rabbitmqctl('eval', keeper % 'suspend')  # the queue, not the broker, which still answers
    awake = threading.Timer(5, rabbitmqctl, ('eval', keeper % 'resume'))
    awake.start()
    sent.add(app.tasks['add'].delay(2, 2).id)
    awake.join()
    assert taken() == dict.fromkeys(sent, 1)
    assert not logged


def test_the_end_of_a_stream_on_a_half_open_connection_is_sent_again_while_the_sender_does_nothing(
        proxy: Proxy, make_app: MakeApp, taken: Callable[..., Counter[str]]) -> None:
    app = make_app(proxy.url, broker_confirm_timeout=0.3)
    sent = {app.tasks['add'].delay(number, number).id for number in range(20)}
    proxy.strand()
    sent |= {app.tasks['add'].delay(number, number).id for number in range(5)}
    found: Counter[str] = Counter()

    def all_there() -> bool:
        found.update(taken())
        return found.keys() == sent
    await_true(all_there, 10)
    assert found.keys() == sent


def test_a_stream_outlasts_an_outage_of_the_broker(
        proxy: Proxy, make_app: MakeApp, taken: Callable[..., Counter[str]], logged: list[logging.LogRecord]) -> None:
    app = make_app(proxy.url, broker_confirm_timeout=0.2,
                   task_publish_retry_policy={'max_retries': 1, 'interval_start': 0, 'interval_max': 0})
    sent = {app.tasks['add'].delay(number, number).id for number in range(20)}
    proxy.hold()
    sent.add(app.tasks['add'].delay(3, 3).id)
    await_true(lambda: any('are kept, to be sent again' in record.getMessage() for record in logged), 30)
    proxy.let_go()
    found: Counter[str] = Counter()

    def all_there() -> bool:
        found.update(taken())
        return found.keys() == sent
    await_true(all_there, 20)
    assert found.keys() == sent


def test_a_stream_is_one_also_when_somebody_listens_to_its_messages(
        broker_url: str, make_app: MakeApp, taken: Callable[..., Counter[str]]) -> None:
    app, heard = make_app(broker_url), list[str]()

    def listen(sender: str, **said: Any) -> None:
        heard.append(sender)
    signals.before_task_publish.connect(listen)
    try:
        sent = {app.tasks['add'].delay(number, number).id for number in range(20)}
        assert sum(channel.streams for channel in app.publisher._pool._all) > 1
    finally:
        signals.before_task_publish.disconnect(listen)
    app.publisher.settle_streams()
    assert taken().keys() == sent and heard == ['add'] * 20


@pytest.mark.parametrize('number', [1, 3000])
def test_a_script_that_sends_and_ends_leaves_all_at_the_broker(
        number: int, proxy: Proxy, taken: Callable[..., Counter[str]]) -> None:
    script = f'''
        import sys
        from canvaslite import Celery
        app = Celery('t', broker={proxy.url!r})
        app.conf.broker_confirm_timeout = 0.5
        add = app.task(name='add', ignore_result=True)(lambda x, y: x + y)
        for n in range({number}):
            add.delay(n, n)
        print('sent', flush=True)
        sys.stdin.readline()
        for n in range(5):
            add.delay(n, n)
    '''
    process = subprocess.Popen([sys.executable, '-c', textwrap.dedent(script)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == 'sent\n'
    proxy.strand()
    _, errors = process.communicate('\n', timeout=60)
    assert process.returncode == 0
    assert len(taken()) == number + 5
    assert 'Traceback' not in errors


def test_a_full_queue_that_refuses_messages_is_an_error_of_the_call(
        broker_url: str, make_app: MakeApp) -> None:
    full = Queue('celery', queue_arguments={'x-max-length': 2, 'x-overflow': 'reject-publish'})
    app = make_app(broker_url, task_queues=[full],
                   task_publish_retry_policy={'max_retries': 1, 'interval_start': 0})
    with pytest.raises(OperationalError, match=r"refused 1 message.* routing key 'celery'"):
        for number in range(4):
            app.tasks['add'].delay(number, number)


def test_refused_messages_of_a_stream_are_logged_and_later_calls_get_the_error(
        broker_url: str, make_app: MakeApp, logged: list[logging.LogRecord],
        rabbitmqctl: Callable[..., str]) -> None:
    app = make_app(broker_url, task_publish_retry_policy={'max_retries': 1, 'interval_start': 0})
    vhost = broker_url.rpartition('/')[2]
    app.tasks['add'].delay(0, 0)
    rabbitmqctl('set_policy', '-p', vhost, 'full', '.*', '{"max-length": 3, "overflow": "reject-publish"}')
    sent = [app.tasks['add'].delay(number, number).id for number in range(9)]
    app.publisher.settle_streams()
    (record,) = [record for record in logged if record.levelno == logging.ERROR]
    assert 'did not take' in record.getMessage() and sent[-1] in record.getMessage()
    for number in range(3):
        with pytest.raises(OperationalError, match='refused'):
            app.tasks['add'].delay(number, number)


@pytest.mark.parametrize('how', ['alone', 'stream', 'burst'])
def test_a_queue_that_has_been_deleted_meanwhile_is_declared_anew(
        how: str, broker_url: str, make_app: MakeApp, taken: Callable[..., Counter[str]]) -> None:
    app = make_app(broker_url, broker_confirm_window=1 if how == 'alone' else 500)
    add = app.tasks['add']
    for number in range(3):
        add.delay(number, number)
    app.publisher.settle_streams()
    with kombu.Connection(broker_url) as connection:
        connection.default_channel.queue_delete('celery')
    if how == 'burst':
        sent = {result.id for result in group(add.s(n, n) for n in range(5)).apply_async().results}
    elif how == 'alone':
        sent = {add.delay(1, 1).id}
    else:
        sent = {add.delay(number, number).id for number in range(5)}
    app.publisher.settle_streams()
    assert taken().keys() == sent


def test_a_canvas_for_which_no_queue_exists_is_an_error_of_the_call_and_a_task_alone_is_not(
        broker_url: str, make_app: MakeApp) -> None:
    app = make_app(broker_url)
    add = app.tasks['add']
    nowhere = {'exchange': 'amq.topic', 'routing_key': 'nowhere'}
    add.apply_async((1, 1), **nowhere)
    for canvas in (group(add.s(n, n).set(**nowhere) for n in range(3)), chain(add.s(1, 1).set(**nowhere), add.s(1))):
        with pytest.raises(ChannelError, match=r"'amq\.topic' with routing key 'nowhere': NO_ROUTE"):
            canvas.apply_async()


@pytest.mark.parametrize('how', ['delay', 'group'])
def test_a_message_that_is_too_large_is_an_error_of_the_call_and_the_next_is_sent(
        how: str, broker_url: str, make_app: MakeApp, taken: Callable[..., Counter[str]],
        rabbitmqctl: Callable[..., str]) -> None:
    app = make_app(broker_url)
    add = app.tasks['add']
    rabbitmqctl('eval', 'application:set_env(rabbit, max_message_size, 2000000).')
    try:
        add.delay(1, 1)
        with pytest.raises(PreconditionFailed, match='larger than configured max size'):
            if how == 'delay':
                add.delay('x' * 2_500_000, '')
            else:
                group([add.s('x' * 2_500_000, ''), add.s('y', '')]).apply_async()
        last = add.delay(2, 2)
        assert taken()[last.id] == 1
    finally:
        rabbitmqctl('eval', 'application:set_env(rabbit, max_message_size, 134217728).')


def test_a_broker_that_blocks_publishing_is_an_error_that_says_so(proxy: Proxy, make_app: MakeApp) -> None:
    app = make_app(proxy.url, broker_confirm_timeout=0.3, broker_confirm_window=1)
    app.tasks['add'].delay(1, 1)
    proxy.strand(b'\x01\x00\x00' + (8).to_bytes(4, 'big') + b'\x00\x0a\x00\x3c\x03low\xce')  # connection.blocked
    with pytest.raises(OperationalError, match='blocks publishing'):
        app.tasks['add'].delay(2, 2)


@pytest.fixture
def alarm(rabbitmqctl: Callable[..., str]) -> Iterator[Callable[[bool], Any]]:
    """Have the broker lack memory, or not: while it does it takes no messages."""
    def alarm(lacks: bool) -> None:
        rabbitmqctl('set_vm_memory_high_watermark', '0.0000001' if lacks else '0.8')
    yield alarm
    alarm(False)


def test_a_call_while_the_broker_lacks_memory_is_there_once_when_it_has_it_again(
        broker_url: str, make_app: MakeApp, taken: Callable[..., Counter[str]], alarm: Callable[[bool], Any]) -> None:
    app = make_app(broker_url, broker_confirm_timeout=0.3)
    sent = [app.tasks['add'].delay(1, 1).id]
    alarm(True)
    sent.append(app.tasks['add'].delay(2, 2).id)

    def fails() -> bool:
        try:
            app.publisher.settle_streams()
        except OperationalError:
            return True
        return False
    for _ in range(3):
        await_true(fails, 20)
    alarm(False)
    app.publisher.finish_streams()
    assert taken() == dict.fromkeys(sent, 1)


def test_a_remote_control_command_while_the_broker_lacks_memory_is_an_error_that_says_so(
        broker_url: str, make_app: MakeApp, alarm: Callable[[bool], Any]) -> None:
    app = make_app(broker_url, broker_confirm_timeout=1.5)
    assert app.control.inspect(timeout=0.1).ping() is None
    alarm(True)
    for _ in range(2):
        with pytest.raises(TimeoutError, match='memory or disk alarm'):
            app.control.inspect(timeout=0.1).ping()
    alarm(False)
    assert app.control.inspect(timeout=0.1).ping() is None


def test_what_a_task_sends_while_the_broker_lacks_memory_waits_and_is_there_once(
        broker_url: str, make_app: MakeApp, taken: Callable[..., Counter[str]], alarm: Callable[[bool], Any]) -> None:
    app = make_app(broker_url, broker_confirm_timeout=0.3, broker_confirm_window=1)
    add = app.tasks['add']
    sent = [add.delay(1, 1).id]
    alarm(True)
    over = threading.Timer(2, alarm, (False,))
    over.start()
    task_stack.push(add)
    add.push_request(called_directly=False)
    try:
        sent.append(add.delay(2, 2).id)
        sent.extend(result.id for result in group(add.s(n, n) for n in range(3)).apply_async())
    finally:
        add.pop_request()
        task_stack.pop()
    over.join()
    assert taken() == dict.fromkeys(sent, 1)


def test_ten_threads_publish_chords_and_chains_through_a_pool_of_one(
        broker_url: str, redis_url: str, make_app: MakeApp, taken: Callable[..., Counter[str]]) -> None:
    app = make_app(broker_url, backend=redis_url, broker_pool_limit=1)
    add = app.tasks['add']
    failures: list[BaseException] = []

    def publish() -> None:
        try:
            for _ in range(3):
                inner = chord([add.si(n, n) for n in range(3)], add.si(1, 1))
                group(chain(add.si(1, 1), add.s(1)), inner, group(add.si(1, 1), inner)).apply_async()
                add.delay(1, 1)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=publish, daemon=True) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads) and not failures
    app.publisher.settle_streams()
    assert sum(taken().values()) == 10 * 3 * 9


def test_a_stream_of_one_thread_does_not_disturb_those_of_others(
        broker_url: str, make_app: MakeApp, taken: Callable[..., Counter[str]]) -> None:
    app = make_app(broker_url, broker_pool_limit=2)
    sent: list[str] = []

    def publish() -> None:
        for number in range(700):
            sent.append(app.tasks['add'].delay(number, number).id)
    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    app.publisher.settle_streams()
    assert taken() == dict.fromkeys(sent, 1)
