"""The main job on real input: count the names in the standard library with a canvas, on a real worker.

``make demo`` runs it with no server at all (messages in a folder, results in SQLite);
``make demo BROKER=amqp://… BACKEND=redis://…`` runs the same on servers.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from kombu.utils.url import maybe_sanitize_url

from canvaslite import chain, chord, group
from canvaslite.result import CanvasTree

HERE = Path(__file__).parent
SOURCES = (
    'asyncio',
    'collections',
    'concurrent',
    'email',
    'http',
    'importlib',
    'json',
    'logging',
    'multiprocessing',
    'unittest',
    'urllib',
    'xml',
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--broker', help='URL of the broker; a temporary folder by default')
    parser.add_argument('--backend', help='URL of the result backend; SQLite in a temporary folder by default')
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix='canvaslite-demo-') as folder:
        configure(options, Path(folder))
        worker = start_worker(Path(folder))
        try:
            return run(worker, Path(folder) / 'worker.log')
        finally:
            stop_worker(worker)
            delete_queue(options.broker)


def configure(options: argparse.Namespace, folder: Path) -> None:
    """Tell the app, here and in the worker, where its servers are."""
    os.environ['ETL_BROKER'] = options.broker or 'filesystem://'
    os.environ['ETL_BACKEND'] = options.backend or f'db+sqlite:///{folder}/results.sqlite'
    os.environ['ETL_QUEUE'] = f'canvaslite-demo-{uuid.uuid4().hex[:8]}'
    os.environ.pop('ETL_FOLDER', None)
    if not options.broker:
        (folder / 'queue').mkdir()
        os.environ['ETL_FOLDER'] = str(folder / 'queue')
    sys.path.insert(0, str(HERE))
    print(f'broker  {masked(options.broker) or "a temporary folder"}')
    print(f'results {masked(options.backend) or "SQLite in a temporary folder"}')


def masked(url: str | None) -> str | None:
    return url and maybe_sanitize_url(url)


def start_worker(folder: Path) -> subprocess.Popen[bytes]:
    print('worker  canvaslite -A etl worker -c 2 -l INFO\n', flush=True)
    options = ['-n', f'{os.environ["ETL_QUEUE"]}@%h', '-c', '2', '-l', 'INFO', '-f', str(folder / 'worker.log')]
    command = [sys.executable, '-m', 'canvaslite', '-q', '-A', 'etl', 'worker', *options]
    return subprocess.Popen(command, cwd=HERE, stderr=subprocess.PIPE)


def stop_worker(worker: subprocess.Popen[bytes]) -> None:
    if worker.poll() is None:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(20)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def delete_queue(broker: str | None) -> None:
    """Leave nothing behind on a broker that is not ours."""
    if broker:
        from etl import app

        with app.connection_for_write() as connection:
            channel = connection.default_channel
            channel.queue_delete(os.environ['ETL_QUEUE'])
            channel.exchange_delete(os.environ['ETL_QUEUE'])


def run(worker: subprocess.Popen[bytes], log: Path) -> int:
    from etl import extract, load, transform

    canvas = chord(group(chain(extract.s(source), transform.s()) for source in SOURCES), load.s())
    started = time.perf_counter()
    result = canvas.apply_async()
    tree = result.canvas()
    if not watch(tree, result, worker):
        print(f'The worker stopped (exit status {worker.returncode}). Its log:', file=sys.stderr)
        print(
            log.read_text() if log.exists() else '',
            ((worker.stderr and worker.stderr.read()) or b'').decode(),
            file=sys.stderr,
        )
        return 1
    table = result.get(timeout=60)
    seconds = time.perf_counter() - started
    print(f'\n{tree}\n')
    print_table(table, seconds)
    return check(table)


def watch(tree: CanvasTree, result: Any, worker: subprocess.Popen[bytes]) -> bool:
    """Show how far the canvas is until it ends; false if the worker stops before."""
    live, shown = sys.stdout.isatty(), ''
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        line = progress_line(tree.refresh())
        if line != shown:
            print(f'\r\033[K{line}' if live else line, end='' if live else '\n', flush=True)
            shown = line
        if result.ready():
            print(('\r\033[K' if live else '') + progress_line(tree.refresh()))
            return True
        if worker.poll() is not None:
            return False
        time.sleep(0.1)
    raise SystemExit('The canvas did not end within five minutes.')


def progress_line(tree: CanvasTree) -> str:
    counts = tree.counts()
    bar = '█' * (counts.done * 30 // counts.total)
    rest = ', '.join(f'{count} {name}' for name, count in counts._asdict().items() if count and name != 'done')
    return f'[{bar:<30}] {counts.done}/{counts.total} steps done' + (f' ({rest})' if rest else '')


def print_table(table: dict[str, object], seconds: float) -> None:
    print(
        f'{table["files"]} files, {table["bytes"]:,} characters, {table["tokens"]:,} names '
        f'({table["names"]:,} different) in {seconds:.2f} s\n'
    )
    print(f'{"name":<16} {"times":>8}')
    for name, times in table['top']:
        print(f'{name:<16} {times:>8,}')


def check(table: dict[str, object]) -> int:
    """Compare with a plain loop over the same files."""
    from etl import count_names, source_files

    names: Counter[str] = Counter()
    files = [path for source in SOURCES for path in source_files(source)]
    for path in files:
        names.update(count_names(path.read_text(encoding='utf-8')))
    expected = (len(files), sum(names.values()), len(names))
    if expected != (table['files'], table['tokens'], table['names']):
        print(f'\nWRONG: a plain loop finds {expected}', file=sys.stderr)
        return 1
    if any(names[name] != times for name, times in table['top']):
        print('\nWRONG: a plain loop counts other names', file=sys.stderr)
        return 1
    print('\nA plain loop over the same files finds the same totals.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
