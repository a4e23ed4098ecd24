"""Queues of every kind; the queues and the broker's TLS, the environment says."""

import os

from kombu import Exchange, Queue
from kombu.common import Broadcast

from canvaslite import Celery

QUEUES = {
    'direct': Queue('direct', Exchange('by-key', 'direct'), routing_key='some.key'),
    'topic': Queue('topic', Exchange('by-pattern', 'topic'), routing_key='orders.*.paid'),
    'fanout': Queue('fanout', Exchange('to-all', 'fanout')),
    'headers': Queue('headers', Exchange('by-headers', 'headers'),
                     binding_arguments={'x-match': 'all', 'country': 'fr'}),
    'priority': Queue('priority', Exchange('priority'), routing_key='priority', queue_arguments={'x-max-priority': 9}),
    'last': Queue('last', Exchange('last'), routing_key='last', consumer_arguments={'x-priority': -5}),
    'given': Queue('given', Exchange('given'), routing_key='given', no_declare=True),
    'once': Queue('once', Exchange('once'), routing_key='once',
                  queue_arguments={'x-queue-type': 'quorum', 'x-delivery-limit': 1}),
    'news': Broadcast('news'),
    'bills': Queue('bills', Exchange('by-pattern-too', 'topic'), routing_key='bills.#',
                   queue_arguments={'x-queue-type': 'quorum'}),
}

app = Celery('queues', broker=os.environ['BROKER'], backend=os.environ['BACKEND'])
app.conf.update(
    task_queues=[QUEUES[name] for name in os.environ.get('QUEUES', 'direct').split(',')],
    task_default_queue=os.environ.get('QUEUES', 'direct').split(',')[0],
    task_create_missing_queues=False, worker_prefetch_multiplier=1,
    broker_use_ssl={'ca_certs': os.environ['CA']} if 'CA' in os.environ else False,
)


@app.task(bind=True, acks_late='LATE' in os.environ)
def where(self, value=None):
    """The worker that runs this, the exchange and the routing key that it came by, and the value."""
    info = self.request.delivery_info
    return [self.request.hostname.split('@')[0], info['exchange'], info['routing_key'], value]
