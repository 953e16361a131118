"""Run methods on a base of mini-v1, one after the other: `python tests/mini_runs.py BASE METHOD...`.

Prints a line for each: its name and how it ended.
"""

from __future__ import annotations

import sys

from mergebench_core import api
from mergebench_core.errors import MergebenchError


def main() -> None:
    base, *names = sys.argv[1:]
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
