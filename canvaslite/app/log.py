"""`Logging`: the log of a worker as ``app.log``: formats, files, colours, and prints of tasks as log lines."""

from __future__ import annotations

import logging
import os
import sys
import threading
from logging.handlers import WatchedFileHandler
from typing import IO, Any

from billiard.process import current_process

from canvaslite import signals
from canvaslite.current import App, get_current_task

#: Loggers of canvaslite itself and of the tasks; configured where the root logger is left alone.
OWN_LOGGER = 'canvaslite'
TASK_LOGGER = 'celery.task'

_COLOURS = {logging.DEBUG: '34', logging.WARNING: '33', logging.ERROR: '31', logging.CRITICAL: '35'}


class ProcessFormatter(logging.Formatter):
    """Shows the name of the billiard process (``MainProcess``, ``ForkPoolWorker-1``), coloured in a terminal."""

    def __init__(self, format: str, colorize: bool = False) -> None:
        super().__init__(format)
        self.colorize = colorize

    def format(self, record: logging.LogRecord) -> str:
        record.processName = current_process()._name
        text = super().format(record)
        colour = _COLOURS.get(record.levelno) if self.colorize else None
        return f'\033[1;{colour}m{text}\033[0m' if colour else text


class TaskFormatter(ProcessFormatter):
    """Adds ``task_name`` and ``task_id`` of the task that logs, ``???`` outside of one."""

    def format(self, record: logging.LogRecord) -> str:
        task = get_current_task()
        record.__dict__.setdefault('task_name', task.name if task is not None else '???')
        record.__dict__.setdefault('task_id', task.request.id if task is not None else '???')
        return super().format(record)


class LineLogger:
    """A writable stream that makes one log record of each line: what stands in for stdout and stderr in a worker."""

    encoding = 'utf-8'
    closed = False
    mode = 'w'

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

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


def level_number(level: int | str | None) -> int:
    """The number of a level given by number or by name in any case.

    Raises:
        ValueError: there is no such level.
    """
    if level is None:
        return logging.WARNING
    if isinstance(level, int):
        return level
    number = logging.getLevelName(level.upper())
    if not isinstance(number, int):
        raise ValueError(f'unknown log level {level!r}: use DEBUG, INFO, WARNING, ERROR, CRITICAL or FATAL')
    return number


class Logging:
    """Configures logging once per process, as ``app.log``."""

    already_setup = False

    def __init__(self, app: App) -> None:
        self.app = app

    def setup(
        self,
        loglevel: int | str | None = None,
        logfile: str | IO[str] | None = None,
        redirect_stdouts: bool = False,
        redirect_level: int | str = 'WARNING',
        colorize: bool | None = None,
        hostname: str | None = None,
    ) -> bool:
        """Set up logging, and with `redirect_stdouts` turn what is printed into log lines.

        Returns whether anything was set up: not the second time, and not where a receiver of the
        ``setup_logging`` signal has done it.
        """
        if Logging.already_setup:
            return False
        done = self.setup_logging_subsystem(loglevel, logfile, colorize=colorize, hostname=hostname)
        Logging.already_setup = True
        if redirect_stdouts:
            self.redirect_stdouts(redirect_level)
        return done

    def setup_logging_subsystem(
        self,
        loglevel: int | str | None = None,
        logfile: str | IO[str] | None = None,
        format: str | None = None,
        colorize: bool | None = None,
        hostname: str | None = None,
    ) -> bool:
        conf, level = self.app.conf, level_number(loglevel)
        format = format or conf.worker_log_format
        colorize = self.supports_color(colorize, logfile)
        named = {'loglevel': level, 'logfile': logfile, 'format': format, 'colorize': colorize}
        if signals.setup_logging.send(sender=None, **named):
            return False
        root = logging.getLogger()
        if conf.worker_hijack_root_logger:
            root.handlers = []
        for logger in (
            (root, logging.getLogger(OWN_LOGGER))
            if conf.worker_hijack_root_logger
            else (logging.getLogger(OWN_LOGGER),)
        ):
            logger.setLevel(level)
        target = root if conf.worker_hijack_root_logger else logging.getLogger(OWN_LOGGER)
        if not target.handlers:
            target.addHandler(_handler(logfile, ProcessFormatter(format, colorize)))
        signals.after_setup_logger.send(sender=None, logger=target, **named)
        self._setup_task_loggers(level, logfile, colorize)
        return True

    def _setup_task_loggers(self, level: int, logfile: str | IO[str] | None, colorize: bool) -> None:
        format = self.app.conf.worker_task_log_format
        logger = logging.getLogger(TASK_LOGGER)
        logger.setLevel(level)
        if not logger.handlers:
            logger.addHandler(_handler(logfile, TaskFormatter(format, colorize)))
        logger.propagate = False
        signals.after_setup_task_logger.send(
            sender=None, logger=logger, loglevel=level, logfile=logfile, format=format, colorize=colorize
        )

    def redirect_stdouts(self, loglevel: int | str = 'WARNING', name: str = 'celery.redirected') -> None:
        """Log what this process prints. Celery's variables tell child processes that it is done."""
        level = level_number(loglevel)
        stream = LineLogger(logging.getLogger(name), level)
        sys.stdout = sys.stderr = stream  # type: ignore[assignment]
        os.environ.update(CELERY_LOG_REDIRECT='1', CELERY_LOG_REDIRECT_LEVEL=str(loglevel or ''))

    def supports_color(self, colorize: bool | None = None, logfile: str | IO[str] | None = None) -> bool:
        wanted = self.app.conf.worker_log_color if colorize is None else colorize
        if wanted is None:
            return logfile is None and sys.stderr is not None and sys.stderr.isatty()
        return bool(wanted)

    def get_default_logger(self, name: str = 'celery') -> logging.Logger:
        return logging.getLogger(name)


def _handler(logfile: str | IO[str] | None, formatter: logging.Formatter) -> logging.Handler:
    handler: Any
    if isinstance(logfile, str):
        handler = WatchedFileHandler(logfile, encoding='utf-8')
    else:
        handler = logging.StreamHandler(logfile or sys.__stderr__)
    handler.setFormatter(formatter)
    return handler  # type: ignore[no-any-return]
