"""The client's side of remote control: asking workers things, and telling them."""

from __future__ import annotations

from canvaslite.control.control import Control
from canvaslite.control.inspect import Inspect, flatten_reply

__all__ = ('Control', 'Inspect', 'flatten_reply')
