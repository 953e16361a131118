"""Item sets: which published data a task is made of, and how its rows become items."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
"""One row as published."""
Item = dict[str, Any]
"""One row as scored: JSON values, with a text `id` that is unique in its set, and optionally `cluster`."""


@dataclass(frozen=True, kw_only=True)
class HubSource:
    """One split of a data set on the Hugging Face Hub, at the revision that the lock pins."""

    repo: str
    split: str
    columns: tuple[str, ...]
    """Columns that are read; each must be there."""
    licence: str
    """As published; where sources disagree, both."""
    config: str | None = None
    is_gated: bool = False
    file: str | None = None
    """The parquet file that is the split, where other splits of its configuration are much larger. Without it
    `datasets` finds the files, and fetches and converts all splits."""


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """One file of a GitHub repository: `raw/<commit>/<path>`."""

    repo: str
    path: str
    sha256: str | None
    """None where nobody could read the file yet: the first fetch notes it."""
    columns: tuple[str, ...]
    licence: str


Source = HubSource | FileSource


@dataclass(frozen=True, kw_only=True)
class ItemSet:
    """The items of one lm-eval task."""

    name: str
    """That of the lm-eval task, and of the file `<name>.jsonl`."""
    sources: tuple[Source, ...]
    adapt: Callable[..., list[Item]]
    """Takes the rows of each source as one list each, returns the items in a fixed order; a row out of form is a
    ValueError that says which."""
    num_items: int
    """How many items the pinned data give."""
    num_lite_items: int | None = None
    """Size of the fixed subset that the lite suite scores; None for all."""


def row_text(row: Row, column: str, where: str) -> str:
    """Return the text in a column of a row.

    Raises:
        ValueError: there is none; the message begins with `where`.
    """
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: column '{column}' is no text but {value!r}")
    return value


LABELS: Mapping[str, Callable[[Item], bool]] = {
    "xstest": lambda item: bool(item["is_unsafe"]),
    "squadv2": lambda item: bool(item["answers"]),
}
"""By set, the label whose shares its subset keeps: an answer that is always the same scores one of them."""


def lite_subset(items: Sequence[Item], name: str, num_items: int) -> list[Item]:
    """Return the items whose ids have the smallest sha256 under the set's name, in their order.

    The choice depends on nothing but the ids, and where the set has `LABELS` on these, so that it is the same for
    everybody and for every order of rows.
    """
    if num_items >= len(items):
        return list(items)

    def draw(item: Item) -> str:
        return hashlib.sha256(f"{name}/{item['id']}".encode()).hexdigest()

    by_label: dict[bool, list[Item]] = {}
    for item in sorted(items, key=draw):
        by_label.setdefault(name in LABELS and LABELS[name](item), []).append(item)
    places = [
        ((place + 0.5) / len(own), item["id"]) for own in by_label.values() for place, item in enumerate(own)
    ]
    chosen = {item_id for _, item_id in sorted(places)[:num_items]}
    return [item for item in items if item["id"] in chosen]
