"""The app of the tests of signed messages; which package, files and servers, the environment says."""

import importlib
import os

package = importlib.import_module(os.environ.get('CANVAS_PACKAGE', 'canvaslite'))
app = package.Celery('signed', broker=os.environ['BROKER'], backend=os.environ.get('BACKEND'))
keys, signer = os.environ['KEYS'], os.environ.get('SIGNER', 'we')
app.conf.update(
    task_default_queue='signed', broker_connection_retry_on_startup=True, task_serializer='auth',
    accept_content=['auth'], result_accept_content=['json'], security_key=f'{keys}/{signer}.key',
    security_certificate=f'{keys}/{signer}.pem', security_cert_store=f'{keys}/trusted/*.pem')
app.conf.task_queues = [importlib.import_module('kombu').Queue('signed', queue_arguments={
    'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead'})]
if package.__name__ == 'canvaslite':
    app.conf.security_accept_bodies = os.environ.get('ACCEPT_BODIES') == '1'
    app.conf.worker_eta_hold_time = float(os.environ.get('ETA_HOLD_TIME', 30))
app.conf.worker_pool_start_method = os.environ.get('START_METHOD', 'fork')
app.setup_security()


@app.task
def add(x, y):
    return x + y


@app.task
def total(values):
    return sum(values)


@app.task
def erase(x, y):
    """What nobody has asked for."""
    return f'erased {x}, {y}'
