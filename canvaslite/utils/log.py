"""Loggers: of canvaslite, and of tasks."""

from __future__ import annotations

import logging

__all__ = ('base_logger', 'get_logger', 'get_task_logger', 'mlevel', 'task_logger')

#: Parents of our own loggers and of those that tasks write to.
base_logger = logging.getLogger('canvaslite')
task_logger = logging.getLogger('celery.task')

_RESERVED = frozenset({'celery', 'celery.task', 'canvaslite'})


def get_logger(name: str) -> logging.Logger:
    """The logger of that name."""
    return logging.getLogger(name)


def get_task_logger(name: str) -> logging.Logger:
    """A logger for the tasks of a module; its lines show the task that wrote them.

    Raises:
        RuntimeError: the name is one of ours.
    """
    if name in _RESERVED:
        raise RuntimeError(f'Logger name {name!r} is reserved!')
    logger = logging.getLogger(name)
    if logger.parent is not task_logger and not _descends_from(logger, task_logger):
        logger.parent = task_logger
    return logger


def _descends_from(logger: logging.Logger, ancestor: logging.Logger) -> bool:
    parent: logging.Logger | None = logger
    while parent is not None:
        if parent is ancestor:
            return True
        parent = parent.parent
    return False


def mlevel(level: str | int | None) -> int | None:
    """A logging level by its name or number.

    Raises:
        KeyError: there is no level of that name.
    """
    if not level or isinstance(level, int):
        return level or None
    found = logging.getLevelName(level.upper())
    if not isinstance(found, int):
        raise KeyError(level)
    return found
