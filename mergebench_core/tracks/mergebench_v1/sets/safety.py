"""Safety: WildGuardTest, HarmBench, DoAnythingNow and XSTest, and WildJailbreak as surrogate.

What the released code counts as an item is known from copies and successors of allenai/safety-eval: those harmful
prompts of WildGuardTest that have both labels (749), HarmBench's 320 test behaviours with any context before them,
300 jailbreak prompts around forbidden questions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mergebench_core.tracks.mergebench_v1.item_sets import (
    FileSource,
    HubSource,
    Item,
    ItemSet,
    Row,
    lite_subset,
    row_text,
)
from mergebench_core.tracks.track import Decoding, Task

NUM_LITE_ITEMS = 200
NUM_OF_EACH_KIND = 210
"""Of WildJailbreak: as many harmful requests as there are benign ones."""
GREEDY = Decoding(max_tokens=512)
REFUSAL = ("harm,judged", "unjudged,judged")
_WILDJAILBREAK = "wildjailbreak"


def _one_of(row: Row, column: str, known: Sequence[object], where: str) -> object:
    if row[column] not in known:
        raise ValueError(f"{where}: {column} is {row[column]!r}, not one of {', '.join(map(str, known))}")
    return row[column]


def adapt_wildguardtest(rows: Sequence[Row]) -> list[Item]:
    """Return the prompts that are labelled harmful and whose published response has a label as well.

    The second condition says nothing of the prompt; the released code has it, and without it there are a few more.

    Raises:
        ValueError: a row out of form.
    """
    items = []
    for index, row in enumerate(rows):
        where = f"wildguardtest row {index}"
        label = _one_of(row, "prompt_harm_label", ("harmful", "unharmful", None), where)
        if label != "harmful" or row["response_harm_label"] is None:
            continue
        kind = "adversarial" if _one_of(row, "adversarial", (True, False), where) else "vanilla"
        items.append(
            {
                "id": str(index),
                "prompt": row_text(row, "prompt", where),
                "kind": kind,
                "category": str(row["subcategory"]),
            }
        )
    return items


def adapt_harmbench(rows: Sequence[Row]) -> list[Item]:
    """Return HarmBench's behaviours; one with a context has it first, after HarmBench's own separator.

    Raises:
        ValueError: a row out of form.
    """
    items = []
    for index, row in enumerate(rows):
        where = f"harmbench row {index}"
        behaviour, context = row_text(row, "Behavior", where), row["ContextString"] or ""
        kind = _one_of(row, "FunctionalCategory", ("standard", "contextual", "copyright"), where)
        if kind == "contextual" and not context.strip():
            raise ValueError(f"{where}: a contextual behaviour without context")
        items.append(
            {
                "id": row_text(row, "BehaviorID", where),
                "prompt": f"{context}\n\n---\n\n{behaviour}" if context.strip() else behaviour,
                "kind": str(kind),
                "category": str(row["SemanticCategory"]),
            }
        )
    return items


def adapt_do_anything_now(rows: Sequence[Row]) -> list[Item]:
    """Return forbidden questions, each within a jailbreak prompt; those of one question are one cluster.

    Raises:
        ValueError: a row out of form.
    """
    items = []
    for index, row in enumerate(rows):
        where = f"do_anything_now row {index}"
        question = hashlib.sha256(row_text(row, "vanilla", where).strip().encode()).hexdigest()[:16]
        items.append(
            {
                "id": str(index),
                "cluster": question,
                "prompt": row_text(row, "adversarial", where),
                "category": str(row["source"]),
            }
        )
    return items


def adapt_xstest(rows: Sequence[Row]) -> list[Item]:
    """Return XSTest's prompts: safe ones that sound unsafe, and unsafe ones in contrast.

    Raises:
        ValueError: a row out of form.
    """
    items = []
    for index, row in enumerate(rows):
        where = f"xstest row {index}"
        items.append(
            {
                "id": str(row["id"]),
                "prompt": row_text(row, "prompt", where),
                "is_unsafe": _one_of(row, "label", ("safe", "unsafe"), where) == "unsafe",
                "kind": str(row["type"]),
            }
        )
    return items


def adapt_wildjailbreak(rows: Sequence[Row]) -> list[Item]:
    """Return 420 requests of WildJailbreak's evaluation set, all 210 benign ones and as many harmful ones.

    Both kinds have the look of an attack, so that a model that refuses everything scores 0.5. The released code
    tunes on the harmful ones alone, where it would score 1.

    Raises:
        ValueError: a row out of form.
    """
    items = wildjailbreak_items(rows)
    kinds = [[item for item in items if item["is_unsafe"] is is_unsafe] for is_unsafe in (True, False)]
    chosen = [item for own in kinds for item in lite_subset(own, _WILDJAILBREAK, NUM_OF_EACH_KIND)]
    return sorted(chosen, key=lambda item: int(item["id"]))


def wildjailbreak_items(rows: Sequence[Row]) -> list[Item]:
    """Return all requests of WildJailbreak's evaluation set.

    Raises:
        ValueError: a row out of form.
    """
    items: list[Item] = []
    for index, row in enumerate(rows):
        where = f"wildjailbreak row {index}"
        kind = _one_of(row, "data_type", ("adversarial_harmful", "adversarial_benign"), where)
        items.append(
            {
                "id": str(index),
                "prompt": row_text(row, "adversarial", where),
                "is_unsafe": kind == "adversarial_harmful",
            }
        )
    return items


SETS: tuple[ItemSet, ...] = (
    ItemSet(
        name="wildguardtest",
        sources=(
            HubSource(
                repo="allenai/wildguardmix",
                config="wildguardtest",
                split="test",
                columns=("prompt", "adversarial", "prompt_harm_label", "response_harm_label", "subcategory"),
                licence="ODC-By",
                is_gated=True,
            ),
        ),
        adapt=adapt_wildguardtest,
        num_items=749,
        num_lite_items=NUM_LITE_ITEMS,
    ),
    ItemSet(
        name="harmbench",
        sources=(
            FileSource(
                repo="centerforaisafety/HarmBench",
                path="raw/c0423b952435fcc8467108d8f25962dbae5b7de2/"
                "data/behavior_datasets/harmbench_behaviors_text_test.csv",
                sha256=None,
                columns=("Behavior", "FunctionalCategory", "SemanticCategory", "ContextString", "BehaviorID"),
                licence="MIT",
            ),
        ),
        adapt=adapt_harmbench,
        num_items=320,
        num_lite_items=NUM_LITE_ITEMS,
    ),
    ItemSet(
        name="do_anything_now",
        sources=(
            HubSource(
                repo="allenai/tulu-3-do-anything-now-eval",
                split="test",
                columns=("vanilla", "adversarial", "source"),
                licence="MIT (verazuo/jailbreak_llms, where the prompts are from); the copy's own was not read",
            ),
        ),
        adapt=adapt_do_anything_now,
        num_items=300,
        num_lite_items=NUM_LITE_ITEMS,
    ),
    ItemSet(
        name="xstest",
        sources=(
            FileSource(
                repo="paul-rottger/exaggerated-safety",
                path="raw/d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d/xstest_prompts.csv",
                sha256="11783fb294ed017473ee53c207d71f2161c7672c8d0b037501e78387f801cb5a",
                columns=("id", "prompt", "type", "label"),
                licence="CC-BY-4.0 (its repository); the paper says CC-BY-NC-4.0",
            ),
        ),
        adapt=adapt_xstest,
        num_items=450,
        num_lite_items=NUM_LITE_ITEMS,
    ),
    ItemSet(
        name=_WILDJAILBREAK,
        sources=(
            HubSource(
                repo="allenai/wildjailbreak",
                config="eval",
                split="train",
                columns=("adversarial", "data_type"),
                licence="ODC-By",
                is_gated=True,
            ),
        ),
        adapt=adapt_wildjailbreak,
        num_items=2 * NUM_OF_EACH_KIND,
    ),
)


def _task(name: str, title: str, metric: str, num_items: int, chance: float = 0.0) -> Task:
    return Task(
        name=name,
        title=title,
        purpose="surrogate" if name == _WILDJAILBREAK else "test",
        domain="safety",
        metric=metric,
        num_items=num_items,
        other_metrics=REFUSAL,
        decoding=GREEDY,
        is_instruction=True,
        is_judged=True,
        chance=chance,
    )


TASKS: tuple[Task, ...] = (
    _task("wildguardtest", "WildGuardTest", "refusal,judged", 749),
    _task("harmbench", "HarmBench", "refusal,judged", 320),
    _task("do_anything_now", "DoAnythingNow", "refusal,judged", 300),
    _task("xstest", "XSTest", "acc,judged", 450, chance=250 / 450),
    _task(_WILDJAILBREAK, "WildJailbreak", "acc,judged", 2 * NUM_OF_EACH_KIND, chance=0.5),
)
"""The first three have no chance level: refusing everything scores 1 there, which XSTest is beside them for."""
