"""Mathematics: GSM8K and MATH, and questions from MMLU's STEM subjects as surrogate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mergebench_core.tracks.mergebench_v1.item_sets import HubSource, Item, ItemSet, Row, lite_subset, row_text
from mergebench_core.tracks.mergebench_v1.tasks.math import last_boxed
from mergebench_core.tracks.track import Decoding, Task

NUM_LITE_ITEMS = 500
NUM_SURROGATE_ITEMS = 500
_SURROGATE = "mmlu_stem"

MATH_SUBJECTS = {
    "algebra": 1_187,
    "counting_and_probability": 474,
    "geometry": 479,
    "intermediate_algebra": 903,
    "number_theory": 540,
    "prealgebra": 871,
    "precalculus": 546,
}
"""Test problems by configuration of EleutherAI/hendrycks_math, 5,000 in all."""

STEM_SUBJECTS = {
    "abstract_algebra": 11,
    "anatomy": 14,
    "astronomy": 16,
    "college_biology": 16,
    "college_chemistry": 8,
    "college_computer_science": 11,
    "college_mathematics": 11,
    "college_physics": 11,
    "computer_security": 11,
    "conceptual_physics": 26,
    "electrical_engineering": 16,
    "elementary_mathematics": 41,
    "high_school_biology": 32,
    "high_school_chemistry": 22,
    "high_school_computer_science": 9,
    "high_school_mathematics": 29,
    "high_school_physics": 17,
    "high_school_statistics": 23,
    "machine_learning": 11,
}
"""The 19 subjects of lm-eval's `mmlu_stem` with their questions in the split validation; dev has 5 of each."""
NUM_DEV = 5


def adapt_gsm8k(rows: Sequence[Row]) -> list[Item]:
    """Return GSM8K's items; the answer is the number after the last `####`.

    Raises:
        ValueError: a row without question or final number.
    """
    items = []
    for index, row in enumerate(rows):
        where = f"gsm8k row {index}"
        _, mark, answer = row_text(row, "answer", where).rpartition("####")
        if not mark or not answer.strip():
            raise ValueError(f"{where}: no '#### <number>' at the end of the answer")
        items.append({"id": str(index), "question": row_text(row, "question", where), "answer": answer.strip()})
    return items


def adapt_math(*subjects: Sequence[Row]) -> list[Item]:
    r"""Return MATH's items; the answer is the last box of the solution.

    Raises:
        ValueError: a row without problem, or whose solution has no box.
    """
    items = []
    for subject, rows in zip(MATH_SUBJECTS, subjects, strict=True):
        for index, row in enumerate(rows):
            where = f"math {subject} row {index}"
            answer = last_boxed(row_text(row, "solution", where))
            if not answer:
                raise ValueError(f"{where}: no boxed answer in the solution")
            problem, level = row_text(row, "problem", where), str(row["level"])
            items.append({"id": f"{subject}/{index}", "problem": problem, "answer": answer, "level": level})
    return items


def _stem_item(row: Row, identity: str, where: str) -> Item:
    choices = list(row["choices"])
    if len(choices) != 4 or row["answer"] not in range(4):
        raise ValueError(f"{where}: not four choices, or the answer {row['answer']!r} is none of 0 to 3")
    subject = row["subject"].replace("_", " ")
    lines = [f"{letter}. {choice}" for letter, choice in zip("ABCD", choices, strict=True)]
    prompt = "\n".join([row_text(row, "question", where).strip(), *lines, "Answer:"])
    description = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
    return {"id": identity, "prompt": description + prompt, "label": int(row["answer"])}


def adapt_stem(validation: Sequence[Row], dev: Sequence[Row]) -> list[Item]:
    """Return the questions of STEM subjects from two splits of MMLU; never from its test split.

    Raises:
        ValueError: a row without question, or without four choices and an answer among them.
    """
    items = stem_items("validation", validation) + stem_items("dev", dev)
    return lite_subset(items, _SURROGATE, NUM_SURROGATE_ITEMS)


def stem_items(split: str, rows: Sequence[Row]) -> list[Item]:
    """Return the questions of STEM subjects in one split of MMLU.

    Raises:
        ValueError: a row without question, or without four choices and an answer among them.
    """
    items = []
    counts: Counter[str] = Counter()
    for index, row in enumerate(rows):
        subject = row["subject"]
        if subject in STEM_SUBJECTS:
            where = f"mmlu {split} row {index}"
            items.append(_stem_item(row, f"{split}/{subject}/{counts[subject]}", where))
            counts[subject] += 1
    return items


def _math_source(subject: str) -> HubSource:
    return HubSource(
        repo="EleutherAI/hendrycks_math",
        config=subject,
        split="test",
        columns=("problem", "level", "type", "solution"),
        licence="MIT",
    )


def mmlu_source(split: str) -> HubSource:
    """Return a split of MMLU, without its 99,842 rows for training."""
    return HubSource(
        repo="cais/mmlu",
        config="all",
        split=split,
        columns=("question", "subject", "choices", "answer"),
        licence="MIT",
        file=f"all/{split}-00000-of-00001.parquet",
    )


_NUM_STEM = min(sum(STEM_SUBJECTS.values()) + NUM_DEV * len(STEM_SUBJECTS), NUM_SURROGATE_ITEMS)

SETS = (
    ItemSet(
        name="gsm8k",
        sources=(
            HubSource(
                repo="openai/gsm8k", config="main", split="test", columns=("question", "answer"), licence="MIT"
            ),
        ),
        adapt=adapt_gsm8k,
        num_items=1_319,
        num_lite_items=NUM_LITE_ITEMS,
    ),
    ItemSet(
        name="math",
        sources=tuple(map(_math_source, MATH_SUBJECTS)),
        adapt=adapt_math,
        num_items=sum(MATH_SUBJECTS.values()),
        num_lite_items=NUM_LITE_ITEMS,
    ),
    ItemSet(
        name=_SURROGATE,
        sources=(mmlu_source("validation"), mmlu_source("dev")),
        adapt=adapt_stem,
        num_items=_NUM_STEM,
    ),
)

_TEST: Mapping[str, Any] = {"purpose": "test", "domain": "math"}

TASKS = (
    Task(
        name="gsm8k",
        title="GSM8K",
        metric="exact_match,flexible-extract",
        num_items=1_319,
        other_metrics=("exact_match,strict-match",),
        num_shots=8,
        decoding=Decoding(max_tokens=256),
        **_TEST,
    ),
    Task(
        name="math",
        title="MATH",
        metric="acc,none",
        num_items=sum(MATH_SUBJECTS.values()),
        other_metrics=("exact_match,none",),
        decoding=Decoding(max_tokens=1024),
        **_TEST,
    ),
    Task(
        name=_SURROGATE,
        title="MMLU STEM",
        purpose="surrogate",
        domain="math",
        metric="acc,none",
        num_items=_NUM_STEM,
        chance=0.25,
    ),
)
