"""The loggers of the worker and of tasks."""

from __future__ import annotations

import logging

__all__ = ('get_task_logger', 'task_logger', 'worker_logger')

#: Parent of the loggers of tasks.
task_logger = logging.getLogger('celery.task')
worker_logger = logging.getLogger('celery.worker')


def get_task_logger(name: str) -> logging.Logger:
    """A logger whose lines show the task that wrote them. Raises `RuntimeError` for a name of ours."""
    if name in ('celery', 'celery.task', 'canvaslite'):
        raise RuntimeError(f'Logger name {name!r} is reserved!')
    logger = ancestor = logging.getLogger(name)
    while ancestor is not task_logger and ancestor.parent is not None:
        ancestor = ancestor.parent
    if ancestor is not task_logger:
        logger.parent = task_logger
    return logger
