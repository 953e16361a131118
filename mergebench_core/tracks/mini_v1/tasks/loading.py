"""Loads the items of a task for lm-eval."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ITEMS = Path(__file__).parent / "items"


def load_items(items: str, **_: object) -> dict[str, Any]:
    """Return the split `test` with the rows of `items/<items>.jsonl`, in the order of the file."""
    from datasets import Dataset

    lines = (_ITEMS / f"{items}.jsonl").read_text(encoding="utf-8").splitlines()
    return {"test": Dataset.from_list([json.loads(line) for line in lines])}


def no_target(item: Mapping[str, object]) -> str:
    """Return no target: the scorers read the item itself, and a template would be compiled for every one."""
    return ""
