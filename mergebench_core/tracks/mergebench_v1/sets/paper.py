"""What the released code tunes on where that differs from ours: test items. For the protocol `paper` only.

Source: scripts/validate.sh of uiuctml/MergeBench (commit b245648): IFEval itself, `mmlu_stem` on MMLU's test
split, `wildjailbreak:harmful`, beside LAMBADA and CoNaLa, which are ours too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mergebench_core.tracks.mergebench_v1.item_sets import Item, ItemSet, Row
from mergebench_core.tracks.mergebench_v1.sets import coding, instruction, math, multilingual, safety
from mergebench_core.tracks.track import Task

NUM_STEM_TEST = 3_153
"""Questions of the 19 subjects of lm-eval's `mmlu_stem` in MMLU's test split."""
NUM_HARMFUL = 2_000
"""Adversarial harmful requests of WildJailbreak's evaluation set."""
_STEM, _HARMFUL = "mmlu_stem_test", "wildjailbreak_harmful"


def adapt_stem_test(rows: Sequence[Row]) -> list[Item]:
    """Return the STEM questions of MMLU's test split.

    Raises:
        ValueError: a row without question, or without four choices and an answer among them.
    """
    return math.stem_items("test", rows)


def adapt_harmful(rows: Sequence[Row]) -> list[Item]:
    """Return the adversarial harmful requests.

    Raises:
        ValueError: a row out of form.
    """
    return [item for item in safety.wildjailbreak_items(rows) if item["is_unsafe"]]


def _set(tasks: tuple[ItemSet, ...], name: str) -> ItemSet:
    return next(item_set for item_set in tasks if item_set.name == name)


def _task(tasks: tuple[Task, ...], purpose: str) -> Task:
    return next(task for task in tasks if task.purpose == purpose)


SETS: tuple[ItemSet, ...] = (
    ItemSet(name=_STEM, sources=(math.mmlu_source("test"),), adapt=adapt_stem_test, num_items=NUM_STEM_TEST),
    dataclasses.replace(
        _set(safety.SETS, "wildjailbreak"), name=_HARMFUL, adapt=adapt_harmful, num_items=NUM_HARMFUL
    ),
)
_IFEVAL = dataclasses.replace(
    _task(instruction.TASKS, "test"),
    name="ifeval_tuned_on",
    title="IFEval itself, as the released code tunes",
    purpose="surrogate",
    parts=("ifeval",),
)
_STEM_TEST = dataclasses.replace(
    _task(math.TASKS, "surrogate"), name=_STEM, title="MMLU STEM, test questions", num_items=NUM_STEM_TEST
)
_HARMFUL_ONLY = dataclasses.replace(
    _task(safety.TASKS, "surrogate"),
    name=_HARMFUL,
    title="WildJailbreak, harmful requests alone",
    num_items=NUM_HARMFUL,
    chance=0.0,
)
SURROGATE_TASKS: tuple[Task, ...] = (
    _IFEVAL,
    _STEM_TEST,
    _task(multilingual.TASKS, "surrogate"),
    _task(coding.TASKS, "surrogate"),
    _HARMFUL_ONLY,
)
