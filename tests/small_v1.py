"""The command line on a small mergebench-v1: `python tests/small_v1.py ARGUMENT...`.

Every set is cut to a few made-up items, and files whose content is pinned are taken as they come. Nothing else
differs from `mergebench ARGUMENT...`: the same fetching, tasks, graders and engines.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from hub_world import made_rows

from mergebench_core.tracks.mergebench_v1 import preparation, suite
from mergebench_core.tracks.mergebench_v1.item_sets import FileSource, ItemSet, Source

NUM_ROWS = 8
"""Of a set, or of each of two sources; more where there are many."""


def _unpinned(source: Source) -> Source:
    return dataclasses.replace(source, sha256=None) if isinstance(source, FileSource) else source


def small(item_set: ItemSet) -> ItemSet:
    """Return a set with as many items as a few rows give."""
    num_rows = max(NUM_ROWS, 4 * len(item_set.sources))
    num_items = len(item_set.adapt(*made_rows(item_set, num_rows)))
    sources = tuple(map(_unpinned, item_set.sources))
    return dataclasses.replace(item_set, num_items=num_items, num_lite_items=None, sources=sources)


SMALL_SETS = {name: small(item_set) for name, item_set in suite.STANDARD_SETS.items()}


def main() -> None:
    """Cut the sets and hand over to the command line."""
    suite.STANDARD_SETS = suite.ITEM_SETS = preparation.ITEM_SETS = SMALL_SETS
    preparation.item_sets = lambda protocol: SMALL_SETS
    from mergebench_core.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
