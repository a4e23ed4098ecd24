"""One package's side of the check: ``python -m compat.differential.side OUTPUT [NAME ...]`` performs all scenarios.

The environment names the package and its servers, as for `project`. Writes one record for each scenario, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from fnmatch import fnmatch
from pathlib import Path

from compat.differential.scenarios import SCENARIOS
from compat.differential.stage import Stage


def main(output: str, *names: str) -> None:
    """Perform the scenarios (those whose names match, or all), and write what there is to say of them."""
    stage = Stage(os.environ['BROKER'])
    records = {}
    for number, (name, scenario) in enumerate(SCENARIOS.items()):
        if not names or any(fnmatch(name, wanted) for wanted in names):
            # Messages may take another way when nobody listens to the signals of publishing: half of them do.
            stage.hear(number % 2 == 0)
            try:
                records[name] = stage.perform(scenario)
                print(f'{records[name]["seconds"]:6.2f} s  {name}', *records[name]['unfinished'], flush=True)
            except Exception:
                print(f'{name}:\n{traceback.format_exc()}', file=sys.stderr)
                raise
    stage.wiretap.close()
    Path(output).write_text(json.dumps(records))


if __name__ == '__main__':
    main(*sys.argv[1:])
