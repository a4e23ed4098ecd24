"""A worker that may do anything says so, and does not start where a message could have it do anything."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason='only root can be root')


def test_a_worker_of_root_that_accepts_pickle_does_not_start_unless_it_is_forced(
    tmp_path: Path, servers: dict[str, str], start_worker: Callable[..., Any]
) -> None:
    (tmp_path / 'pickling.py').write_text(
        'from proj import app\napp.conf.accept_content = ["json", "pickle"]\n')
    env = {**servers, 'C_FORCE_ROOT': ''}
    refused = start_worker('pickling', '-c', '1', await_ready=False, **env)
    assert refused.wait() == 1
    (said,) = filter(None, refused.lines)
    assert said.startswith('Error: ') and 'accept_content' in said and 'C_FORCE_ROOT' in said

    forced = start_worker('pickling', '-c', '1', '-l', 'INFO', **{**env, 'C_FORCE_ROOT': '1'})
    assert 'WARNING' in forced.await_line('runs as root')
