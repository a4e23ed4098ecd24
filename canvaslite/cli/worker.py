"""``canvaslite worker``: options, banner, start."""

from __future__ import annotations

import logging
import os
import platform
import signal
import sys
from datetime import datetime
from typing import Any

import click

from canvaslite.app.log import level_number
from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.utils.log import worker_logger as logger
from canvaslite.utils.process import is_privileged
from canvaslite.version import __version__
from canvaslite.worker.worker import Worker

#: Tasks that every app has; of no interest in a banner.
BUILT_IN = 'celery.'


def _read_level(context: click.Context, parameter: click.Parameter, value: str) -> int:
    try:
        return level_number(int(value) if value.isdigit() else value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


@click.command(context_settings={'show_default': False})
@click.option('-n', '--hostname', metavar='NAME',
              help='Node name; %h stands for host and domain, %n for host, %d for domain.')
@click.option('-l', '--loglevel', metavar='LEVEL', callback=_read_level, default='WARNING',
              help='DEBUG, INFO, WARNING, ERROR, CRITICAL or FATAL.')
@click.option('-f', '--logfile', type=click.Path(), help='File for the log; stderr by default.')
@click.option('--pidfile', type=click.Path(),
              help='File for the process id; the worker refuses to start while another holds it.')
@click.option('-S', '--statedb', type=click.Path(),
              help='File in which it is kept over restarts what was revoked; its name gets the ending .json.')
@click.option('-c', '--concurrency', type=click.IntRange(min=0),
              help='Number of children or threads; the CPUs by default.')
@click.option('--autoscale', metavar='MAX,MIN', help='Let the number of children follow what there is to do.')
@click.option('-P', '--pool', metavar='POOL', help='prefork (the default), solo or threads.')
@click.option('-Q', '--queues', metavar='NAMES', help='Queues to consume from, with commas between them.')
@click.option('-X', '--exclude-queues', metavar='NAMES', help='Queues of task_queues not to consume from.')
@click.option('-I', '--include', metavar='NAMES', help='More modules to import.')
@click.option('-O', 'optimization', type=click.Choice(['default', 'fair']), default='default',
              help='Accepted for compatibility: a task always goes to a child that is free.')
@click.option('--prefetch-multiplier', type=click.IntRange(min=0), help='Messages held per child; 0 for no limit.')
@click.option('--disable-prefetch', is_flag=True, default=None, help='Fetch a message only when a child is free.')
@click.option('--max-tasks-per-child', type=click.IntRange(min=1), help='Replace a child after this many tasks.')
@click.option('--max-memory-per-child', type=click.IntRange(min=1), metavar='KB',
              help='Replace a child that holds more, in kB.')
@click.option('--time-limit', type=click.FloatRange(min=0), metavar='SECONDS', help='Kill a task that takes longer.')
@click.option('--soft-time-limit', type=click.FloatRange(min=0), metavar='SECONDS',
              help='Raise SoftTimeLimitExceeded in it.')
@click.option('--purge', '--discard', 'purge', is_flag=True,
              help='Delete all waiting messages first, also those kept for a far ETA; not what other workers hold.')
@click.option('--without-gossip', is_flag=True, help='Accepted for compatibility: there is no gossip to leave out.')
@click.option('--without-mingle', is_flag=True, help='Accepted for compatibility: there is no mingle to leave out.')
@click.option('--without-heartbeat', is_flag=True, help='Accepted for compatibility: there are no event heartbeats.')
@click.option('-E', '--task-events', '--events', 'task_events', is_flag=True,
              help='Accepted for compatibility: there are no events yet.')
@click.pass_obj
def worker(session: Any, without_gossip: bool, without_mingle: bool, without_heartbeat: bool, task_events: bool,
           disable_prefetch: bool | None, **options: Any) -> None:
    """Consume tasks from the broker and run them."""
    app = session.app
    if disable_prefetch:
        app.conf.worker_disable_prefetch = True
    privileged = is_privileged()
    if privileged and _accepts_pickle(app) and not os.environ.get('C_FORCE_ROOT'):
        raise click.ClickException(
            'This worker would run as root (or sudo) with pickle in accept_content, and whoever can send it a message '
            'could do anything. Run it as another user, or set C_FORCE_ROOT=1 if you must.')
    try:
        instance = Worker(app, **{name: value for name, value in options.items() if value is not None})
    except ImproperlyConfigured as error:
        raise click.ClickException(str(error)) from None
    try:
        app.log.setup(
            instance.loglevel, instance.logfile, redirect_stdouts=app.conf.worker_redirect_stdouts,
            redirect_level=app.conf.worker_redirect_stdouts_level, colorize=False if session.no_color else None,
            hostname=instance.hostname)
    except OSError as error:
        raise click.ClickException(f'--logfile: {error}') from None
    if not session.quiet:
        print(render_banner(instance), file=sys.__stdout__, flush=True)
    if privileged:
        logger.warning('This worker runs as root (or sudo), and so do its tasks: another user would be safer.')
    # The worker takes this over, and gives it back at its end: who asks again meanwhile does not spoil the exit status.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    instance.start()
    sys.exit(instance.exitcode)


def _accepts_pickle(app: Any) -> bool:
    return not {'pickle', 'application/x-python-serialize'}.isdisjoint(app.conf.accept_content or ())


def render_banner(worker: Any) -> str:
    """Name, system, configuration and queues of `worker`; from INFO on its tasks as well. Passwords are masked."""
    app = worker.app
    sections = [
        f' canvaslite {__version__}  {worker.hostname}',
        f' {platform.platform()}  Python {platform.python_version()}  {datetime.now():%Y-%m-%d %H:%M:%S}',
        '',
        '[config]',
        f'.> app:         {app.main or "__main__"}:{id(app):#x}',
        f'.> transport:   {app.connection_for_read().as_uri()}',
        f'.> results:     {app.backend.as_uri(include_password=False)}',
        f'.> concurrency: {_describe_concurrency(worker)} ({worker.pool_cls.name})',
        '',
        '[queues]',
        *(_describe_queue(queue) for queue in app.amqp.queues.consume_from.values()),
        '',
    ]
    if worker.loglevel <= logging.INFO:
        names = sorted(name for name in app.tasks if not name.startswith(BUILT_IN))
        sections += ['[tasks]', *(f'  . {name}' for name in names), '']
    return '\n'.join(sections)


def _describe_concurrency(worker: Any) -> str:
    return str(worker.concurrency) if worker.autoscale is None else '{1} to {0}'.format(*worker.autoscale)


def _describe_queue(queue: Any) -> str:
    exchange = queue.exchange
    return (f'.> {queue.name:<16} exchange={exchange.name or queue.name}({exchange.type}) '
            f'key={queue.routing_key or queue.name}')
