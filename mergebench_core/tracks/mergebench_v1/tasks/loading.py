"""Loads the items of a task for lm-eval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mergebench_core.tracks.mergebench_v1.item_sets import lite_subset


def load_items(
    items: str, items_folder: str, num_lite_items: int | None = None, suite: str = "full", **_: object
) -> dict[str, Any]:
    """Return the split `test` with the items of a set, or with its fixed subset under the lite suite.

    Args:
        items: name of the set.
        items_folder: where `<items>.jsonl` lies; the harness says it.
        num_lite_items: size of the subset; None for all.
        suite: `full` or `lite`; the harness says it.
    """
    from datasets import Dataset

    lines = (Path(items_folder) / f"{items}.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    if suite == "lite" and num_lite_items is not None:
        rows = lite_subset(rows, items, num_lite_items)
    return {"test": Dataset.from_list(rows)}
