"""Tune and merge with methods on a base of mini-v1: `python tests/mini_runs.py BASE METHOD...`.

Prints a line for each: its name and how it ended. Test tasks are left out: they would take a third of the time and
do not depend on the method.
"""

from __future__ import annotations

import sys

from mergebench_core import api
from mergebench_core.errors import MergebenchError
from mergebench_core.workbench import Workbench


def main() -> None:
    base, *names = sys.argv[1:]
    Workbench.evaluate = lambda *arguments: ({}, 0.0)
    for name in names:
        try:
            outcome = api.run(name, base=base, progress=_tell).record.status
        except MergebenchError as error:
            outcome = f"failed: {error}"
        sys.stdout.write(f"{name} {outcome}\n")
        sys.stdout.flush()


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
