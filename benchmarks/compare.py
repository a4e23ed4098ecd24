"""The same work on canvaslite, Celery and dramatiq in one run: a table of ratios and a plot.

    make bench            or   python benchmarks/compare.py [--rounds 3] [--plot benchmarks/out/ratios.png]

Absolute figures depend on the machine; the ratios of one run are what to quote. Each round measures every package
once, in turn, so that a drifting machine touches all alike; the table shows medians.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import uuid
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = ('canvaslite', 'celery', 'dramatiq')


def measure(package: str, broker: str, backend: str) -> dict[str, float]:
    env = {
        **os.environ,
        'BENCH_PACKAGE': package,
        'BENCH_BROKER': broker,
        'BENCH_BACKEND': backend,
        'BENCH_QUEUE': f'canvaslite-bench-{uuid.uuid4().hex[:8]}',
    }
    done = subprocess.run([sys.executable, str(HERE / 'measure.py'), package], env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f'measuring {package} failed:\n{done.stderr[-2000:]}')
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def ratio(name: str, ours: float, theirs: float) -> float:
    """How many times better we are: less time or memory, or more tasks a second."""
    return ours / theirs if name.endswith('/s') and 'tasks' in name else theirs / ours


def print_table(figures: dict[str, dict[str, float]]) -> None:
    packages = list(figures)
    others = [package for package in packages if package != 'canvaslite']
    head = (
        f'{"":<26}'
        + ''.join(f'{package:>12}' for package in packages)
        + ''.join(f'{"× " + other:>12}' for other in others)
    )
    print(head + '\n' + '─' * len(head))
    for name, ours in figures['canvaslite'].items():
        row = f'{name:<26}' + ''.join(
            f'{figures[p][name]:>12.4g}' if name in figures[p] else f'{"–":>12}' for p in packages
        )
        row += ''.join(
            f'{ratio(name, ours, figures[o][name]):>11.1f}×' if name in figures[o] else f'{"–":>12}' for o in others
        )
        print(row)


def plot(figures: dict[str, dict[str, float]], path: Path) -> None:
    from matplotlib import pyplot

    names = [name for name in figures['canvaslite'] if name in figures['celery']]
    values = [ratio(name, figures['canvaslite'][name], figures['celery'][name]) for name in names]
    pyplot.figure(figsize=(8, 0.4 * len(names) + 1.2))
    bars = pyplot.barh(
        [name.partition(',')[0] if 'CPU' not in name else name for name in names], values, color='#3a7ca5'
    )
    pyplot.bar_label(bars, labels=[f'{value:.1f}×' for value in values], padding=3)
    pyplot.axvline(1, color='grey', linewidth=1)
    pyplot.gca().invert_yaxis()
    pyplot.xlabel('times better than Celery, one run, medians')
    pyplot.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    pyplot.savefig(path, dpi=120)
    print(f'\nplot: {path}')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--broker', default='amqp://guest:guest@localhost:5672/%2F')
    parser.add_argument('--backend', default='redis://localhost:6379/0')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--plot', type=Path, default=HERE / 'out' / 'ratios.png')
    options = parser.parse_args()
    packages = [package for package in PACKAGES if importlib.util.find_spec(package)]
    runs: dict[str, list[dict[str, float]]] = {package: [] for package in packages}
    for number in range(options.rounds):
        for package in packages:
            print(f'round {number + 1} of {options.rounds}: {package} ...', file=sys.stderr)
            runs[package].append(measure(package, options.broker, options.backend))
    figures = {package: medians(of_package) for package, of_package in runs.items()}
    print_table(figures)
    if importlib.util.find_spec('matplotlib'):
        plot(figures, options.plot)


if __name__ == '__main__':
    main()
