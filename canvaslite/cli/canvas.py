"""``canvaslite canvas``: look at a canvas, stop it, and find chords that are stuck, by the id of any result."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from signal import Signals
from typing import Any, NoReturn

import click
from kombu.exceptions import KombuError, OperationalError

from canvaslite import states
from canvaslite.backends.doctoring import Finding, examine, repair
from canvaslite.exceptions import BackendError, CeleryError
from canvaslite.publish.channels import unreachable_broker
from canvaslite.result import CanvasTree
from canvaslite.utils.redact import one_line, redact
from canvaslite.utils.undecoded import encode_json

#: Exit statuses of ``status`` and ``show --watch``; and of all commands that could not do what they were asked.
DONE, FAILED, RUNNING, NOT_KNOWN = 0, 1, 2, 3
#: Members of a group that are drawn, without ``--all``.
MEMBERS_DRAWN = 20
#: Characters that an id may have: the columns of the tables of results have as many.
MOST_OF_AN_ID = 155


class Unable(click.ClickException):
    """What could not be done, in one line with the next step."""

    exit_code = NOT_KNOWN

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


@click.group(context_settings={'show_default': False})
def canvas() -> None:
    """Look at a canvas, stop it, find what is stuck: by the id of any result of it."""


def check_id(context: Any, parameter: Any, value: str | None) -> str | None:
    """An id that a store can look for."""
    if value is not None and (not value.isprintable() or not 0 < len(value) <= MOST_OF_AN_ID):
        raise click.BadParameter(f'{value!a:.80} is no id of a result')
    return value


def check_signal(context: Any, parameter: Any, value: str) -> str:
    """The name of a signal, with or without SIG."""
    name = f'SIG{value.upper().removeprefix("SIG")}'
    if name not in Signals.__members__:
        raise click.BadParameter(f'no signal is called {value!r}; SIGTERM, SIGKILL and SIGUSR1 are')
    return name


as_json = click.option('--json', 'as_json', is_flag=True, help='Print JSON.')


@canvas.command()
@click.argument('id', callback=check_id)
@click.option('--watch', is_flag=True, help='Go on until all has ended; draw it anew when anything changes.')
@click.option('--interval', type=click.FloatRange(min=0.05), default=0.5, metavar='SECONDS',
              help='How often --watch looks; 0.5 by default.')
@click.option('--all', 'draw_all', is_flag=True, help=f'Draw all members of a group, not {MEMBERS_DRAWN}.')
@as_json
@click.pass_obj
def show(session: Any, id: str, watch: bool, interval: float, draw_all: bool, as_json: bool) -> None:
    """Draw the run that ID is part of: a line for each task, with its state, how long it took, and its error.

    With --watch the exit status is that of `canvaslite canvas status`.
    """
    def draw(tree: CanvasTree) -> str:
        return encode_json(tree.as_dict()) if as_json else '\n'.join(tree.lines(None if draw_all else MEMBERS_DRAWN))

    with _explained(session) as app:
        tree = _find(app, id)
        _print(draw(tree), watch)
        while watch and not tree.is_done:
            before = _states(tree)
            time.sleep(interval)
            tree = (app.backend.find_canvas(id) and _find(app, id)) or tree.refresh()
            if _states(tree) != before:
                _print(draw(tree), watch)
        if watch:
            sys.exit(_exit_status(tree))


@canvas.command()
@click.argument('id', callback=check_id)
@as_json
@click.pass_obj
def status(session: Any, id: str, as_json: bool) -> None:
    """Count the tasks of the run that ID is part of.

    Exit status: 0 all has ended well, 1 something failed or was revoked, 2 something waits or runs, 3 not known.
    """
    with _explained(session) as app:
        tree = _find(app, id)
        said = tree.summary()
        parts = [f'{said["done"]} done', f'{said["failed"]} failed', f'{said["waiting"]} waiting or running']
        parts += [f'{said["not_run"]} not run'] if said['not_run'] else []
        click.echo(encode_json(said) if as_json else f'{said["state"]}: {", ".join(parts)}, of {said["total"]}')
        sys.exit(_exit_status(tree))


@canvas.command()
@click.argument('id', callback=check_id)
@click.option('--terminate', is_flag=True, help='Also end the processes that run tasks of it.')
@click.option('--signal', callback=check_signal, default='SIGTERM', metavar='NAME',
              help='Signal by which they are ended; SIGTERM by default.')
@as_json
@click.pass_obj
def cancel(session: Any, id: str, terminate: bool, signal: str, as_json: bool) -> None:
    """Stop the run that ID is part of: what waits is not run, chords of it end. What runs goes on, without --terminate.
    """
    with _explained(session) as app:
        tree, broker = _find(app, id), app.connection_for_write()
        try:
            done = tree.revoke(terminate=terminate, signal=signal, reply=True, timeout=1.0)
        except (*broker.connection_errors, *broker.channel_errors, OperationalError) as exc:
            raise Unable(f'{unreachable_broker(app, broker, exc)} No worker was told; chords of the run were ended '
                         'before; repeat the command when the broker is there') from exc
        told = len(done.pop('replies'))
        if as_json:
            click.echo(encode_json({**done, 'workers': told}))
        elif not done['revoked']:
            click.echo('Nothing to cancel: all of it has ended')
        else:
            click.echo(f'Revoked {done["revoked"]} tasks, ended {done["chords"]} chords; told {told} workers')
        if done['revoked'] and not told:
            raise Unable('No worker answered: those that start later will run what waits in their queues; '
                         'repeat the command when they run')


@canvas.command()
@click.argument('id', callback=check_id, required=False)
@click.option('--repair', 'repairs', is_flag=True, help='End what is stuck, as a worker would that looks after it.')
@as_json
@click.pass_obj
def doctor(session: Any, id: str | None, repairs: bool, as_json: bool) -> None:
    """Find the chords of the whole store, or of the run that ID is part of, that do not get on.

    Exit status: 0 nothing is wrong (any more), 1 something is, 3 not known.
    """
    with _explained(session) as app:
        if app.backend.join is None or not app.backend.join.can_be_examined:
            raise Unable(f'{_store(app)} cannot be examined: {_why_nothing_is_kept(app)}')
        tree = None if id is None else _find(app, id)
        examined, found = 0, list[Finding]()
        for finding in examine(app.backend, tree):
            examined += 1
            if finding.trouble and repairs:
                finding = repair(app.backend, finding)
            found += [finding] if finding.trouble else []
        if as_json:
            click.echo(encode_json({'examined': examined, 'found': [finding.as_dict() for finding in found]}))
        else:
            for finding in found:
                click.echo(str(finding))
            click.echo(f'{examined} open chords, {len(found)} with trouble'
                       + ('' if repairs or not found else '; --repair ends them'))
        sys.exit(FAILED if any(not finding.repaired for finding in found) else DONE)


def _print(text: str, watch: bool) -> None:
    if watch and sys.stdout.isatty():
        click.clear()
    click.echo(text)


def _states(tree: CanvasTree) -> list[tuple[str, str]]:
    return [(task_id, node.state) for task_id, node in tree.tasks().items()]


def _exit_status(tree: CanvasTree) -> int:
    return RUNNING if not tree.is_done else DONE if tree.state == states.SUCCESS else FAILED


def _store(app: Any) -> str:
    return app.backend.as_uri(include_password=False) or type(app.backend).__name__


def _find(app: Any, id: str) -> CanvasTree:
    if not app.backend.keeps_canvases:
        raise Unable(f'{_store(app)} has no record of {id}: {_why_nothing_is_kept(app)}')
    return CanvasTree.find(id, app) or _not_found(app, id)


def _not_found(app: Any, id: str) -> NoReturn:
    if app.backend.task_result_exists(id):
        state = app.AsyncResult(id).state
        raise Unable(f'{id} is no part of a canvas, or its record has expired: it is a task, and its state is {state}')
    raise Unable(f'Nothing is known of {id} at {_store(app)}: check the id, and that -A and --result-backend are those '
                 'of who sent it; records are kept as long as results (result_expires)')


def _why_nothing_is_kept(app: Any) -> str:
    if not app.conf.result_canvas_index:
        return 'result_canvas_index is False; set it to True where canvases are sent'
    uri = _store(app)
    if uri.startswith('rpc'):
        return ('with rpc results go to who waits for them, and nothing is kept that others could look at; use redis, '
                'db+postgresql or another result_backend that keeps results')
    if uri.startswith('disabled'):
        return 'no result_backend is set; set one in the app, or name it with --result-backend'
    return 'this result_backend keeps no records of canvases; use redis, db+..., file, or cache+memcached'


@contextmanager
def _explained(session: Any) -> Iterator[Any]:
    """The app, and one line for what is away or cannot be."""
    if not session.app_name and not session.result_backend:
        raise Unable('Which app? Name its module with -A, as in canvaslite -A proj canvas show ID')
    logging.getLogger('celery').addHandler(logging.NullHandler())  # what is tried again is not to be said here
    app: Any = None
    try:
        app = session.app
        app.backend.retry_policy = {**app.backend.retry_policy, 'max_retries': 1}
        app.backend.max_retries = 1
        yield app
    except (click.ClickException, OSError, CeleryError, BackendError, KombuError, OperationalError) as exc:
        if isinstance(exc, click.ClickException):
            raise
        raise Unable(one_line(exc) if not isinstance(exc, OSError) else _away(app, exc)) from exc
    except Exception as exc:
        if app is None or not app.backend.exception_safe_to_retry(exc):
            raise
        raise Unable(_away(app, exc)) from exc


def _away(app: Any, exc: Exception) -> str:
    return f'{_store(app)} does not answer: {one_line(exc)}; start it, or correct result_backend'
