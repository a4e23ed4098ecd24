"""The command itself. A user's mistake is one line on stderr and exit status 1 or 2."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import click
from kombu.exceptions import KombuError, OperationalError

from canvaslite.app.application import Celery
from canvaslite.app.discovery import find_app
from canvaslite.cli.canvas import canvas
from canvaslite.cli.worker import worker
from canvaslite.current import get_current_app
from canvaslite.exceptions import BackendError, CeleryError
from canvaslite.utils.redact import one_line, redact
from canvaslite.version import __version__


class Session(NamedTuple):
    """What the options before the subcommand say; `app` is found when a subcommand asks for it."""

    app_name: str | None
    broker: str | None
    result_backend: str | None
    config: str | None
    no_color: bool | None
    quiet: bool

    @property
    def app(self) -> Celery:
        """The application that ``-A`` names (or ``$CELERY_APP``), with the other options applied to it."""
        # What an app takes from the environment is stronger than its settings; its child processes see it too.
        for variable, value in (('CELERY_BROKER_URL', self.broker), ('CELERY_RESULT_BACKEND', self.result_backend),
                                ('CELERY_CONFIG_MODULE', self.config)):
            if value:
                os.environ[variable] = value
        app: Celery = find_app(self.app_name) if self.app_name else get_current_app()
        if self.config:
            app.config_from_object(self.config)
        app.set_current()
        app.set_default()
        return app


@click.group(context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 120})
@click.option('-A', '--app', envvar='CELERY_APP', metavar='APP',
              help='The application: a module (proj, proj.celery) or module:attribute.')
@click.option('-b', '--broker', envvar='BROKER_URL', metavar='URL', help='URL of the broker; overrides broker_url.')
@click.option('--result-backend', metavar='URL', help='URL of the result backend; overrides result_backend.')
@click.option('--config', metavar='MODULE', help='Module with the settings.')
@click.option('--workdir', type=click.Path(exists=True, file_okay=False), help='Folder to change to first.')
@click.option('-C', '--no-color', is_flag=True, default=None, help='Print without colours.')
@click.option('-q', '--quiet', is_flag=True, help='Print no banner.')
@click.version_option(__version__, prog_name='canvaslite', message='%(prog)s %(version)s')
@click.pass_context
def root(context: click.Context, app: str | None, broker: str | None, result_backend: str | None, config: str | None,
         workdir: str | None, no_color: bool | None, quiet: bool) -> None:
    """Run and look at canvaslite applications."""
    if workdir:
        os.chdir(workdir)
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    context.obj = Session(app, broker, result_backend, config, no_color, quiet)


root.add_command(worker)
root.add_command(canvas)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 when all went well, 1 on an error, 2 for wrong usage."""
    try:
        status = root.main(list(arguments) if arguments is not None else None, 'canvaslite', standalone_mode=False)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except click.Abort:
        status = 130
    except (CeleryError, BackendError, KombuError, OperationalError) as error:
        status = _tell(error)
    sys.exit(status or 0)


def _tell(error: BaseException) -> int:
    """Say `error` in one line; the whole story only on request."""
    if os.environ.get('CANVASLITE_DEBUG'):
        traceback.print_exception(error)
    click.echo(f'Error: {redact(one_line(error))}', err=True)
    return 1
