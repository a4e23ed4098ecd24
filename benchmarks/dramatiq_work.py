"""The same tasks for dramatiq, as far as it has them."""

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RabbitmqBroker(url=os.environ['BENCH_BROKER'])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ['BENCH_BACKEND'])))
dramatiq.set_broker(broker)
QUEUE = os.environ['BENCH_QUEUE']


@dramatiq.actor(queue_name=QUEUE)
def empty():
    return None


@dramatiq.actor(queue_name=QUEUE, store_results=True)
def add(x, y):
    return x + y


@dramatiq.actor(queue_name=QUEUE, store_results=True)
def increment(x):
    return x + 1
