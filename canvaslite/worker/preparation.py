"""What makes a process or a thread ready to run tasks of an app."""

from __future__ import annotations

import os
from typing import Any

from canvaslite import signals
from canvaslite.execution.entry import Executor
from canvaslite.result.blocking import set_task_join_will_block
from canvaslite.utils.process import set_process_title

__all__ = ('ProcessPreparation', 'ThreadPreparation')


class ThreadPreparation:
    """For threads, and for the worker's own process (which `announces` its start as child processes do)."""

    def __init__(self, app: Any, hostname: str, announces: bool) -> None:
        self.app = app
        self.hostname = hostname
        self.announces = announces

    def enter(self, index: int) -> Executor:
        set_task_join_will_block(True)
        executor = Executor(self.app, self.hostname)
        if self.announces:
            signals.worker_process_init.send(sender=self.hostname)
        return executor

    def leave(self, exitcode: int) -> None:
        set_task_join_will_block(False)


class ProcessPreparation:
    """For child processes."""

    def __init__(self, app: Any, hostname: str) -> None:
        self.app = app
        self.hostname = hostname

    def enter(self, index: int) -> Executor:
        set_process_title(f'[canvaslite: {self.hostname}:ForkPoolWorker-{index + 1}]')
        set_task_join_will_block(True)
        executor = Executor(self.app, self.hostname)
        signals.worker_process_init.send(sender=self.hostname)
        return executor

    def leave(self, exitcode: int) -> None:
        signals.worker_process_shutdown.send(sender=self.hostname, pid=os.getpid(), exitcode=exitcode)
