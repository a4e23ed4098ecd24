"""``python -m compat.upstream``: Celery's own tests on canvaslite, file by file against what Celery passes."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from compat.upstream.running import Outcome, Setting, run_file
from compat.upstream.source import VERSION, cache_folder, tests_of_celery
from compat.upstream.verdict import compare, read_list

#: What is run when no files are named.
USUAL = ('t/unit/tasks', 't/unit/test_canvas.py')


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 when just those tests are not passed that the list names, else 1."""
    options = _parse(arguments)
    tree = tests_of_celery(options.cache)
    files = _expand(tree, options.files or USUAL)
    pool = ThreadPoolExecutor(1 if options.broker else options.jobs)
    ours = {path: pool.submit(run_file, Setting(tree, 'canvaslite', options.broker, options.backend), path)
            for path in files}
    celerys = {path: pool.submit(_passed_by_celery, Setting(tree, 'celery', options.broker, options.backend), path,
                                 options.cache) for path in files} if options.baseline else {}
    entries, unexpected, wrong, total = read_list(), [], [], [0, 0, 0, 0]
    print(f'{"file":48} {"Celery":>7} {"passed":>7} {"listed":>7} {"failed":>7} {"seconds":>8}')
    for path in files:
        outcome = ours[path].result()
        passed, known, failed, stale = compare(
            path, outcome, celerys[path].result() if path in celerys else None, entries)
        unexpected.extend(failed)
        wrong.extend(stale)
        counts = [len(passed) + len(known) + len(failed), len(passed), len(known), len(failed)]
        total = [sum(pair) for pair in zip(total, counts, strict=True)]
        _print_row(path, counts, outcome)
    _print_row('all', total, None)
    for text in unexpected:
        print(f'not passed: {text}')
    for entry in wrong:
        print(f'listed in not_passed.txt, but it passes or is not there: {entry}')
    return 1 if unexpected or wrong else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m compat.upstream', description=__doc__)
    parser.add_argument('files', nargs='*', metavar='FILE', help=f'test files or folders; default: {" ".join(USUAL)}')
    parser.add_argument('--broker', metavar='URL', help='for t/integration: a virtual host of its own')
    parser.add_argument('--backend', metavar='URL', help='for t/integration: a Redis of its own, database 0')
    parser.add_argument('--jobs', type=int, default=2, help='files at once (default: 2; 1 with a broker)')
    parser.add_argument('--no-baseline', dest='baseline', action='store_false',
                        help='count all tests, not those that Celery passes')
    parser.add_argument('--cache', type=Path, default=cache_folder(), metavar='FOLDER')
    return parser.parse_args(arguments)


def _expand(tree: Path, names: tuple[str, ...] | list[str]) -> list[str]:
    files: list[str] = []
    for name in names:
        path = tree / name
        if not path.exists():
            raise SystemExit(f'there is no {name} in Celery {VERSION}')
        found = sorted(path.rglob('test_*.py')) if path.is_dir() else [path]
        files.extend(str(file.relative_to(tree)) for file in found)
    return list(dict.fromkeys(files))


def _passed_by_celery(setting: Setting, path: str, cache: Path) -> list[str]:
    """The tests of a file that Celery itself passes here; run once, and then known."""
    schemes = [str(url).partition(':')[0] for url in (setting.broker, setting.backend) if url]
    key = '-'.join((platform.python_version(), *map(version, ('celery', 'kombu', 'pytest')), *schemes))
    kept = cache / f'passed-{key}' / f'{path.replace("/", ".")}.json'
    if not kept.exists():
        passed = run_file(setting, path).names('passed')
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(passed))
    return list(json.loads(kept.read_text()))


def _print_row(name: str, counts: list[int], outcome: Outcome | None) -> None:
    seconds = f'{outcome.seconds:8.1f}' if outcome else ''
    print(f'{name:48} {counts[0]:7} {counts[1]:7} {counts[2]:7} {counts[3]:7} {seconds}', flush=True)


if __name__ == '__main__':
    sys.exit(main())
