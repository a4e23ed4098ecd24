"""`Shutdown`: how a worker is told to stop, by signals or by remote control.

Warm (TERM, or INT once): nothing more is taken, what did not start goes back to the broker, what runs ends.
Cold (QUIT, or INT twice): as warm for ``worker_soft_shutdown_timeout`` seconds, or until asked again, then the
processes are killed.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from billiard.common import REMAP_SIGTERM

from canvaslite import signals
from canvaslite.exceptions import WorkerShutdown, WorkerTerminate

EX_OK, EX_FAILURE = 0, 1


class Shutdown:
    """What was asked for. `ring` makes the loop take notice at once."""

    def __init__(self, hostname: str, ring: Callable[[], None]) -> None:
        self.hostname = hostname
        self.ring = ring
        #: The exit code once it was asked for, else None.
        self.warm: int | None = None
        self.cold: int | None = None
        #: A cold stop waits for what runs, or for the store: being asked again ends that.
        self.is_patient = True
        #: Ends a task in this thread, where the loop cannot take notice; called with whether that is to be at once.
        self.interrupt: Callable[[bool], None] = lambda at_once: None
        self._installed: dict[int, Any] = {}

    def check(self) -> None:
        """Raise `WorkerTerminate` or `WorkerShutdown` when one was asked for."""
        self.check_cold()
        if self.warm is not None:
            raise WorkerShutdown(self.warm)

    def check_cold(self) -> None:
        """Raise `WorkerTerminate` when that was asked for."""
        if self.cold is not None:
            raise WorkerTerminate(self.cold)

    def install(self) -> None:
        """Listen to signals. Only the main thread of a process can."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._listen(signal.SIGTERM, self._on_quit if REMAP_SIGTERM == 'SIGQUIT' else self._on_term)
        self._listen(signal.SIGINT, self._on_int)
        self._listen(signal.SIGQUIT, self._on_quit)
        if not (sys.stdout is not None and sys.stdout.isatty()):
            # Closing the terminal must not restart a worker into the background.
            self._listen(signal.SIGHUP, self._on_hup)
        if sys.__stderr__ is not None:
            with contextlib.suppress(ValueError, OSError, RuntimeError):  # a stderr without a descriptor
                faulthandler.register(signal.SIGUSR1, file=sys.__stderr__)

    def _listen(self, signum: int, handler: Callable[[int, Any], None]) -> None:
        self._installed[signum] = signal.signal(signum, handler)

    def uninstall(self) -> None:
        """Give the signals back to whom they belonged before."""
        for signum, handler in self._installed.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        if self._installed:
            faulthandler.unregister(signal.SIGUSR1)
        self._installed.clear()

    def ask_warm(self, exitcode: int = EX_OK, sig: str = 'SIGTERM') -> None:
        """Stop warmly."""
        self.warm = exitcode  # first, so that a signal that comes meanwhile is the second one
        self._announce('Warm', exitcode, sig)
        self.ring()

    def ask_cold(self, exitcode: int = EX_FAILURE, sig: str = 'SIGQUIT') -> None:
        """Stop at once."""
        self.cold = exitcode
        self._announce('Cold', exitcode, sig)
        self.ring()

    def _announce(self, how: str, exitcode: int, sig: str) -> None:
        _say(f'worker: {how} shutdown (MainProcess)')
        signals.worker_shutting_down.send(sender=self.hostname, sig=sig, how=how, exitcode=exitcode)

    def _on_term(self, signum: int, frame: Any) -> None:
        if self.warm is None:
            self.ask_warm(EX_OK, 'SIGTERM')

    def _on_int(self, signum: int, frame: Any) -> None:
        if self.warm is None and self.cold is None:
            self.warm = EX_FAILURE
            _say('worker: Hitting Ctrl+C again will initiate cold shutdown, terminating all running tasks!')
            self.ask_warm(EX_FAILURE, 'SIGINT')
        else:
            self._on_quit(signum, frame)

    def _on_quit(self, signum: int, frame: Any) -> None:
        if self.cold is None:
            self.ask_cold(EX_FAILURE, signal.Signals(signum).name)
            self.interrupt(False)
        elif self.is_patient:
            self.is_patient = False
            self.ring()
            self.interrupt(True)
        else:
            # Asked again: whatever hangs, hangs no longer. The children die with us.
            os._exit(EX_FAILURE)

    def _on_hup(self, signum: int, frame: Any) -> None:
        if self.warm is None:
            _say(f'Restarting the worker ({" ".join(sys.argv)})')
            atexit.register(_restart)
            self.ask_warm(EX_OK, 'SIGHUP')


def _restart() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # what is ignored stays so in the new program
    os.execv(sys.executable, sys.orig_argv)


def _say(text: str) -> None:
    """Write to stdout as it was at the start, in one call: safe in a signal handler."""
    stream = sys.__stdout__
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):  # closed, or not a file: nobody reads it
            os.write(stream.fileno(), f'\n{text}\n'.encode())
