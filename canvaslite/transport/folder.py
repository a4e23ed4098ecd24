"""kombu's ``filesystem`` transport, with messages that appear whole: consumers take files as soon as they see them."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

from kombu.exceptions import ChannelError
from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):  # type: ignore[misc]
    """A channel whose files get their names, by which they are found, when all is in them."""

    def _put(self, queue: str, payload: Any, **_: Any) -> None:
        folder = Path(self.data_folder_out)
        name = f'{round(monotonic() * 1000)}_{uuid4()}.{queue}.msg'
        unfinished = folder / f'.{name}'
        try:
            unfinished.write_text(dumps(payload))
            os.replace(unfinished, folder / name)
        except OSError as exc:
            raise ChannelError(f'Cannot add a message to the folder {folder} (broker_transport_options '
                               f'data_folder_out): {exc}') from exc


class Transport(filesystem.Transport):  # type: ignore[misc]
    """The transport of `Channel`."""

    Channel = Channel
