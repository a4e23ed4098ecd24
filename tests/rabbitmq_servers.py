"""RabbitMQ nodes of a test's own, which it may stop, kill and start again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.fixtures import await_port, free_port

PROGRAMS = Path('/usr/lib/rabbitmq/bin')


class RabbitServer:
    """A node on a free port, which keeps what it has in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir(exist_ok=True)
        (folder / 'plugins').write_text('[].')
        self.env = {
            **os.environ, 'RABBITMQ_LOG_BASE': str(folder / 'log'), 'RABBITMQ_MNESIA_BASE': str(folder / 'mnesia'),
            'RABBITMQ_ENABLED_PLUGINS_FILE': str(folder / 'plugins'), 'RABBITMQ_NODE_PORT': str(self.port),
            'RABBITMQ_DIST_PORT': str(free_port()), 'RABBITMQ_NODENAME': f'canvaslite-{self.port}@localhost',
            'HOME': os.environ.get('HOME', str(folder))}
        self.start()

    @property
    def url(self) -> str:
        return f'amqp://guest:guest@127.0.0.1:{self.port}//'

    def start(self) -> None:
        """Start it; return when it takes connections."""
        self.process = subprocess.Popen([PROGRAMS / 'rabbitmq-server'], env=self.env, start_new_session=True,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await_port(self.port, 60)

    def stop(self) -> None:
        """End it as an administrator does."""
        self.control('stop')
        self.process.wait(60)

    def kill(self) -> None:
        """End it as a crash does."""
        pid = self.control('eval', 'os:getpid().').strip().strip('"')
        os.kill(int(pid), 9)
        self.process.wait(60)

    def control(self, *command: str) -> str:
        """What ``rabbitmqctl`` says."""
        return subprocess.run([PROGRAMS / 'rabbitmqctl', *command], env=self.env, check=True, text=True,
                              capture_output=True).stdout
