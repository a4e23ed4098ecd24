"""Remote control commands of a worker. A program adds its own with `control_command` and `inspect_command`."""

from __future__ import annotations

from canvaslite.worker.commands import changing, looking
from canvaslite.worker.commands.panel import Panel, PanelState, control_command, inspect_command, nok, ok

__all__ = ('Panel', 'PanelState', 'changing', 'control_command', 'inspect_command', 'looking', 'nok', 'ok')
