"""`Logging`: the log of a worker as ``app.log``: formats, files, colours, and prints of tasks as log lines."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from logging.handlers import WatchedFileHandler
from typing import IO, Any

from billiard.process import current_process

from canvaslite import signals
from canvaslite.current import App, get_current_task
from canvaslite.utils.log import task_logger
from canvaslite.utils.redact import redact

_COLOURS = {logging.DEBUG: '34', logging.WARNING: '33', logging.ERROR: '31', logging.CRITICAL: '35'}


class ProcessFormatter(logging.Formatter):
    """Shows the name of the billiard process (``MainProcess``, ``ForkPoolWorker-1``), coloured in a terminal, and no
    secrets."""

    def __init__(self, format: str, colorize: bool = False, datefmt: str | None = None) -> None:
        super().__init__(format, datefmt)
        self.colorize = colorize

    def format(self, record: logging.LogRecord) -> str:
        record.processName = current_process()._name
        text = redact(super().format(record))
        colour = _COLOURS.get(record.levelno) if self.colorize else None
        return f'\033[1;{colour}m{text}\033[0m' if colour else text


class TaskFormatter(ProcessFormatter):
    """Adds ``task_name`` and ``task_id`` of the task that logs, ``???`` outside of one."""

    def format(self, record: logging.LogRecord) -> str:
        task = get_current_task()
        record.__dict__.setdefault('task_name', task.name if task is not None else '???')
        record.__dict__.setdefault('task_id', task.request.id if task is not None else '???')
        return super().format(record)


class LineLogger(io.TextIOBase):
    """A writable stream that makes one log record of each line: what stands in for stdout and stderr in a worker."""

    encoding = 'utf-8'

    def __init__(self, logger: logging.Logger, loglevel: int) -> None:
        self.logger = logger
        self.loglevel = loglevel
        self._writing = threading.local()

    def write(self, text: str) -> int:
        # A handler that prints its own error would come back here for ever.
        if getattr(self._writing, 'active', False):
            return 0
        self._writing.active = True
        try:
            for line in text.rstrip().splitlines():
                if line:
                    self.logger.log(self.loglevel, line)
        finally:
            self._writing.active = False
        return len(text)


def level_number(level: int | str | None) -> int:
    """The number of a level given by number or by name in any case; raises `ValueError` where there is none."""
    number = logging.getLevelName(level.upper()) if isinstance(level, str) else level
    if number is None:
        return logging.WARNING
    if not isinstance(number, int):
        raise ValueError(f'unknown log level {level!r}: use DEBUG, INFO, WARNING, ERROR, CRITICAL or FATAL')
    return number


class Logging:
    """Configures logging once per process, as ``app.log``."""

    already_setup = False

    def __init__(self, app: App) -> None:
        self.app = app

    def setup(self, loglevel: int | str | None = None, logfile: str | IO[str] | None = None,
              redirect_stdouts: bool = False, redirect_level: int | str = 'WARNING', colorize: bool | None = None,
              hostname: str | None = None) -> bool:
        """Set up logging, and with `redirect_stdouts` turn prints into log lines; whether it was done (once, by us)."""
        if self.already_setup:
            return False
        done = self.setup_logging_subsystem(loglevel, logfile, colorize=colorize)
        Logging.already_setup = True
        if redirect_stdouts:
            self.redirect_stdouts(redirect_level)
        return done

    def setup_logging_subsystem(self, loglevel: int | str | None = None, logfile: str | IO[str] | None = None,
                                format: str | None = None, colorize: bool | None = None) -> bool:
        """Set up the root logger, or ours where that is to be left alone, and the one of tasks."""
        conf = self.app.conf
        named: dict[str, Any] = {'loglevel': level_number(loglevel), 'logfile': logfile,
                                 'format': format or conf.worker_log_format,
                                 'colorize': self.supports_color(colorize, logfile)}
        if signals.setup_logging.send(sender=None, **named):
            return False
        own = logging.getLogger('celery')
        own.setLevel(named['loglevel'])
        logger = logging.getLogger() if conf.worker_hijack_root_logger else own
        if conf.worker_hijack_root_logger:
            logger.handlers = []
        _set_up(logger, ProcessFormatter, conf.worker_log_datefmt, **named)
        signals.after_setup_logger.send(sender=None, logger=logger, **named)
        named['format'] = conf.worker_task_log_format
        task_logger.propagate = False
        _set_up(task_logger, TaskFormatter, conf.worker_task_log_datefmt, **named)
        signals.after_setup_task_logger.send(sender=None, logger=task_logger, **named)
        return True

    def redirect_stdouts(self, loglevel: int | str = 'WARNING', name: str = 'celery.redirected') -> None:
        """Log what this process prints. Celery's variables tell child processes that it is done."""
        stream = LineLogger(logging.getLogger(name), level_number(loglevel))
        sys.stdout = sys.stderr = stream  # type: ignore[assignment]
        os.environ.update(CELERY_LOG_REDIRECT='1', CELERY_LOG_REDIRECT_LEVEL=str(loglevel or ''))

    def supports_color(self, colorize: bool | None = None, logfile: str | IO[str] | None = None) -> bool:
        """Whether to write colours: as asked for, else as the setting says, else on a terminal."""
        wanted = self.app.conf.worker_log_color if colorize is None else colorize
        if wanted is None:
            return logfile is None and sys.stderr is not None and sys.stderr.isatty()
        return bool(wanted)


def _set_up(logger: logging.Logger, formatter: type[ProcessFormatter], datefmt: str | None, loglevel: int,
            logfile: str | IO[str] | None, format: str, colorize: bool) -> None:
    """Give the logger its level, and a handler if it has none."""
    logger.setLevel(loglevel)
    if not logger.handlers:
        handler: logging.Handler = (WatchedFileHandler(logfile, encoding='utf-8') if isinstance(logfile, str)
                                    else logging.StreamHandler(logfile or sys.__stderr__))
        handler.setFormatter(formatter(format, colorize, datefmt))
        logger.addHandler(handler)
