"""``canvaslite worker``: options, banner, start."""

from __future__ import annotations

import sys
from typing import Any

import click

from canvaslite.app.log import level_number
from canvaslite.cli.banner import render_banner
from canvaslite.exceptions import ImproperlyConfigured
from canvaslite.worker.worker import Worker


class LogLevel(click.ParamType):
    """A level by name or number."""

    name = 'level'

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return level_number(int(value) if str(value).isdigit() else value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None


@click.command(context_settings={'show_default': False})
@click.option('-n', '--hostname', metavar='NAME',
              help='Node name; %h stands for host and domain, %n for host, %d for domain.')
@click.option('-l', '--loglevel', type=LogLevel(), default='WARNING',
              help='DEBUG, INFO, WARNING, ERROR, CRITICAL or FATAL.')
@click.option('-f', '--logfile', type=click.Path(), help='File for the log; stderr by default.')
@click.option('--pidfile', type=click.Path(),
              help='File for the process id; the worker refuses to start while another holds it.')
@click.option('-c', '--concurrency', type=click.IntRange(min=0),
              help='Number of children or threads; the CPUs by default.')
@click.option('-P', '--pool', metavar='POOL', help='prefork (the default), solo or threads.')
@click.option('-Q', '--queues', metavar='NAMES', help='Queues to consume from, with commas between them.')
@click.option('-X', '--exclude-queues', metavar='NAMES', help='Queues of task_queues not to consume from.')
@click.option('-I', '--include', metavar='NAMES', help='More modules to import.')
@click.option('-O', 'optimization', type=click.Choice(['default', 'fair']), default='default',
              help='Accepted for compatibility: a task always goes to a child that is free.')
@click.option('--prefetch-multiplier', type=click.IntRange(min=0), help='Messages held per child; 0 for no limit.')
@click.option('--max-tasks-per-child', type=click.IntRange(min=1), help='Replace a child after this many tasks.')
@click.option('--max-memory-per-child', type=click.IntRange(min=1), metavar='KB',
              help='Replace a child that holds more, in kB.')
@click.option('--time-limit', type=click.FloatRange(min=0), metavar='SECONDS', help='Kill a task that takes longer.')
@click.option('--soft-time-limit', type=click.FloatRange(min=0), metavar='SECONDS',
              help='Raise SoftTimeLimitExceeded in it.')
@click.option('--purge', '--discard', 'purge', is_flag=True, help='Delete all waiting messages first.')
@click.option('--without-gossip', is_flag=True, help='Accepted for compatibility: there is no gossip to leave out.')
@click.option('--without-mingle', is_flag=True, help='Accepted for compatibility: there is no mingle to leave out.')
@click.option('--without-heartbeat', is_flag=True, help='Accepted for compatibility: there are no event heartbeats.')
@click.pass_obj
def worker(session: Any, without_gossip: bool, without_mingle: bool, without_heartbeat: bool, **options: Any) -> None:
    """Consume tasks from the broker and run them."""
    app = session.app
    try:
        instance = Worker(app, **{name: value for name, value in options.items() if value is not None})
    except ImproperlyConfigured as error:
        raise click.ClickException(str(error)) from None
    app.log.setup(
        instance.loglevel, instance.logfile, redirect_stdouts=app.conf.worker_redirect_stdouts,
        redirect_level=app.conf.worker_redirect_stdouts_level, colorize=False if session.no_color else None,
        hostname=instance.hostname)
    if not session.quiet:
        print(render_banner(instance), file=sys.__stdout__, flush=True)
    instance.start()
    sys.exit(instance.exitcode)
