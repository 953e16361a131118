"""Tune and merge with methods on a base of mini-v1: `python tests/mini_runs.py BASE METHOD...`.

Prints a line for each: its name and how it ended. Test tasks are left out, and surrogate tasks cut to their first
items: they would take most of the time, and how a search goes does not depend on them.
"""

from __future__ import annotations

import dataclasses
import functools
import sys

from lm_eval import evaluator

from mergebench_core import api
from mergebench_core.errors import MergebenchError
from mergebench_core.evaluation.harness import Harness
from mergebench_core.workbench import Workbench

NUM_ITEMS = 8
"""Of 200 per surrogate task: the time is that of the search, not of the items."""


def main() -> None:
    base, *names = sys.argv[1:]
    Workbench.evaluate = lambda *arguments: ({}, 0.0)
    cut_tasks()
    for name in names:
        try:
            outcome = api.run(name, base=base, progress=_tell).record.status
        except MergebenchError as error:
            outcome = f"failed: {error}"
        sys.stdout.write(f"{name} {outcome}\n")
        sys.stdout.flush()


def cut_tasks() -> None:
    """Let tasks be scored on their first items only."""
    score = Harness.score
    Harness.score = lambda self, task: score(self, dataclasses.replace(task, num_items=NUM_ITEMS))
    evaluator.evaluate = functools.partial(evaluator.evaluate, limit=NUM_ITEMS)


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
