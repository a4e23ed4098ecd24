"""What the README and the demo show is true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
README = (ROOT / 'README.md').read_text()


def test_the_app_of_the_readme_gives_the_value_it_says(
    broker_url: str, redis_url: str, tmp_path: Path, start_worker: Callable[..., Any]
) -> None:
    app = re.search(r'```python\n(.*?)```', README, re.DOTALL)
    command = re.search(r'\$ python -c "(.*?)"\n\s+(\d+)', README)
    assert app is not None and command is not None
    text = app[1].replace('amqp://guest:guest@localhost//', broker_url).replace('redis://localhost/0', redis_url)
    (tmp_path / 'proj.py').write_text(text)
    start_worker('proj', '-l', 'INFO', '-c', '2', PYTHONPATH=str(tmp_path))
    done = subprocess.run([sys.executable, '-c', command[1]], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == command[2], done.stderr


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = re.findall(r'\]\(([^)#:]+)\)', README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def run_demo(*options: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith('ETL_')}
    command = [sys.executable, str(ROOT / 'docs/examples/demo.py'), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_needs_no_server() -> None:
    shown = run_demo()
    assert 'A plain loop over the same files finds the same totals.' in shown
    assert '│  ├─ SUCCESS  chain' in shown
    assert '25/25 steps done' in shown


def test_the_demo_runs_on_servers(broker_url: str, redis_url: str) -> None:
    shown = run_demo('--broker', broker_url, '--backend', redis_url)
    assert 'A plain loop over the same files finds the same totals.' in shown
    assert 'guest:guest' not in shown
