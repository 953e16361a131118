"""All item sets and tasks of the track, in the order of the board."""

from __future__ import annotations

import dataclasses

from mergebench_core.tracks.mergebench_v1.item_sets import ItemSet
from mergebench_core.tracks.mergebench_v1.sets import (
    coding,
    general,
    instruction,
    math,
    multilingual,
    paper,
    safety,
)
from mergebench_core.tracks.track import Task
from mergebench_core.tracks.world import Protocol, Suite

PARTS = (instruction, math, multilingual, coding, safety, general)
STANDARD_SETS: dict[str, ItemSet] = {item_set.name: item_set for part in PARTS for item_set in part.SETS}
PAPER_SETS: dict[str, ItemSet] = {item_set.name: item_set for item_set in paper.SETS}
ITEM_SETS: dict[str, ItemSet] = STANDARD_SETS | PAPER_SETS

LITE_CHANCE = {"xstest": 111 / 200, "squadv2": 250 / 500}
"""Chance levels that are the share of a label; a subset has that of its set (250 / 450, 5945 / 11,873) rounded."""


def item_sets(protocol: Protocol) -> dict[str, ItemSet]:
    """Return the sets that a protocol scores, by name."""
    scored = {name for task in tasks("full", protocol) for name in task.part_names}
    return {name: item_set for name, item_set in ITEM_SETS.items() if name in scored}


def tasks(suite: Suite, protocol: Protocol = "standard") -> tuple[Task, ...]:
    """Return the tasks of a suite under a protocol: test, surrogate, generalization."""
    own = [task for part in PARTS for task in part.TASKS]
    surrogate = [task for task in own if task.purpose == "surrogate"]
    found = [
        *(task for task in own if task.purpose == "test"),
        *(paper.SURROGATE_TASKS if protocol == "paper" else surrogate),
        *(task for task in own if task.purpose == "generalization"),
    ]
    chance = LITE_CHANCE if suite == "lite" else {}
    return tuple(
        dataclasses.replace(task, num_items=num_items(task, suite), chance=chance.get(task.name, task.chance))
        for task in found
    )


def num_items(task: Task, suite: Suite) -> int:
    """Return how many items a suite scores in a task."""
    sets = [ITEM_SETS[name] for name in task.part_names]
    if suite == "full":
        return sum(item_set.num_items for item_set in sets)
    return sum(min(item_set.num_items, item_set.num_lite_items or item_set.num_items) for item_set in sets)
