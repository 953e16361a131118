"""Multilingual: M_MMLU, M_ARC and M_HellaSwag in four languages, and LAMBADA as surrogate.

Prompts are those of lm-eval's `m_mmlu_*`, `arc_*` and `hellaswag_*` (0.4.13), without examples, compared by the
log-likelihood of the choices.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from mergebench_core.tracks.mergebench_v1.item_sets import HubSource, Item, ItemSet, Row, lite_subset, row_text
from mergebench_core.tracks.track import Task

LANGUAGES = ("fr", "es", "de", "ru")
"""Of the paper's multilingual sets."""
NUM_LITE_ITEMS = 250
NUM_SURROGATE_ITEMS = 500

_NUM_MMLU = {"fr": 13_091, "es": 13_334, "de": 13_258, "ru": 13_007}
_NUM_ARC = {"fr": 1_169, "es": 1_170, "de": 1_169, "ru": 1_169}
_NUM_HELLASWAG = {"fr": 9_338, "es": 9_374, "de": 9_368, "ru": 9_272}
_LETTERS = "ABCDE"
_OPTIONS = tuple(f"option_{letter}" for letter in "abcde")
_LAMBADA = "lambada"


def _options(row: Row, columns: Sequence[str]) -> list[str]:
    return [str(row[column]) if row.get(column) is not None else "" for column in columns]


def _item(row: Row, prompt: str, choices: list[str], label: int, where: str) -> Item:
    if not 0 <= label < len(choices):
        raise ValueError(f"{where}: the answer is choice {label + 1} of {len(choices)}")
    question = str(row["id"])
    return {"id": question, "cluster": question, "prompt": prompt, "choices": choices, "label": label}


def _letter(row: Row, where: str) -> int:
    answer = row_text(row, "answer", where).strip().upper()
    if len(answer) != 1 or answer not in _LETTERS:
        raise ValueError(f"{where}: the answer is no letter from A to E but {answer!r}")
    return _LETTERS.index(answer)


def _with_own_ids(items: list[Item]) -> list[Item]:
    """Number the repeats of an id; the cluster keeps it."""
    seen: Counter[str] = Counter()
    for item in items:
        seen[item["cluster"]] += 1
        if seen[item["cluster"]] > 1:
            item["id"] = f"{item['cluster']}#{seen[item['cluster']]}"
    return items


def clean_text(text: str) -> str:
    """Return `text` without the marks that HellaSwag's WikiHow part leaves, as lm-eval cleans it."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def adapt_mmlu(rows: Sequence[Row]) -> list[Item]:
    """Return M_MMLU's items: four options in the prompt, letters as choices.

    Raises:
        ValueError: a row without question, or whose answer is none of the four letters.
    """
    items = []
    for index, row in enumerate(rows):
        where = f"m_mmlu row {index} ({row.get('id')})"
        options = zip("ABCD", _options(row, _OPTIONS[:4]), strict=True)
        lines = [
            row_text(row, "instruction", where).strip(),
            *(f"{letter}. {option}" for letter, option in options),
        ]
        items.append(_item(row, "\n".join([*lines, "Answer:"]), list("ABCD"), _letter(row, where), where))
    return _with_own_ids(items)


def adapt_arc(rows: Sequence[Row]) -> list[Item]:
    """Return M_ARC's items: three to five options, which are themselves the choices.

    Raises:
        ValueError: a row without question, or whose answer is none of its options.
    """
    items = []
    for index, row in enumerate(rows):
        where = f"m_arc row {index} ({row.get('id')})"
        choices = [clean_text(option) for option in _options(row, _OPTIONS) if option]
        prompt = f"Question: {clean_text(row_text(row, 'instruction', where))}\nAnswer:"
        items.append(_item(row, prompt, choices, _letter(row, where), where))
    return _with_own_ids(items)


def adapt_hellaswag(rows: Sequence[Row]) -> list[Item]:
    """Return M_HellaSwag's items: a context and four endings.

    Raises:
        ValueError: a row whose endings are no texts, or whose label is none of them.
    """
    items = []
    for index, row in enumerate(rows):
        where = f"m_hellaswag row {index} ({row.get('id')})"
        endings, label = row["endings"], str(row["label"]).strip()
        if not all(isinstance(ending, str) for ending in endings) or not label.isdecimal():
            raise ValueError(f"{where}: endings are no texts, or the label '{label}' is no number")
        context = f"{row['activity_label']}: {row['ctx_a']} {(row['ctx_b'] or '').capitalize()}"
        choices = [clean_text(ending) for ending in endings]
        items.append(_item(row, clean_text(context), choices, int(label), where))
    return _with_own_ids(items)


def adapt_lambada(rows: Sequence[Row]) -> list[Item]:
    """Return 500 passages of LAMBADA, each parted before its last word.

    Raises:
        ValueError: a passage of fewer than two words.
    """
    items = []
    for index, row in enumerate(rows):
        where = f"lambada row {index}"
        start, space, word = row_text(row, "text", where).rpartition(" ")
        if not space or not word:
            raise ValueError(f"{where}: no last word in {row['text']!r}")
        items.append({"id": str(index), "prompt": start, "continuation": f" {word}"})
    return lite_subset(items, _LAMBADA, NUM_SURROGATE_ITEMS)


def _sets(
    name: str,
    source: Callable[[str], HubSource],
    adapt: Callable[[Sequence[Row]], list[Item]],
    num_items: Mapping[str, int],
) -> tuple[ItemSet, ...]:
    return tuple(
        ItemSet(
            name=f"{name}_{language}",
            sources=(source(language),),
            adapt=adapt,
            num_items=num_items[language],
            num_lite_items=NUM_LITE_ITEMS,
        )
        for language in LANGUAGES
    )


def _mmlu_source(language: str) -> HubSource:
    return HubSource(
        repo="alexandrainst/m_mmlu",
        config=language,
        split="test",
        columns=("id", "instruction", *_OPTIONS[:4], "answer"),
        licence="CC BY-NC 4.0 (nlp-uoregon/mlmm-evaluation); MIT (the paper)",
    )


def _arc_source(language: str) -> HubSource:
    return HubSource(
        repo="alexandrainst/m_arc",
        config=language,
        split="test",
        columns=("id", "instruction", *_OPTIONS, "answer"),
        licence="CC BY-NC 4.0 (nlp-uoregon/mlmm-evaluation, the paper; its DATA_LICENSE is ODC-By)",
    )


def _hellaswag_source(language: str) -> HubSource:
    return HubSource(
        repo="alexandrainst/m_hellaswag",
        config=language,
        split="val",
        columns=("id", "activity_label", "ctx_a", "ctx_b", "endings", "label"),
        licence="CC BY-NC 4.0",
    )


_LAMBADA_SET = ItemSet(
    name=_LAMBADA,
    sources=(
        HubSource(
            repo="EleutherAI/lambada_openai",
            config="default",
            split="test",
            columns=("text",),
            licence="CC BY 4.0 (LAMBADA); MIT (the copy on the Hub)",
        ),
    ),
    adapt=adapt_lambada,
    num_items=NUM_SURROGATE_ITEMS,
)

SETS = (
    *_sets("m_mmlu", _mmlu_source, adapt_mmlu, _NUM_MMLU),
    *_sets("m_arc", _arc_source, adapt_arc, _NUM_ARC),
    *_sets("m_hellaswag", _hellaswag_source, adapt_hellaswag, _NUM_HELLASWAG),
    _LAMBADA_SET,
)


def _choice_task(name: str, title: str, metric: str, num_items: Mapping[str, int], *others: str) -> Task:
    return Task(
        name=name,
        title=title,
        purpose="test",
        domain="multilingual",
        metric=metric,
        num_items=sum(num_items.values()),
        chance=0.25,
        parts=tuple(f"{name}_{language}" for language in LANGUAGES),
        other_metrics=others,
    )


TASKS = (
    _choice_task("m_mmlu", "M_MMLU", "acc,none", _NUM_MMLU),
    _choice_task("m_arc", "M_ARC", "acc_norm,none", _NUM_ARC, "acc,none"),
    _choice_task("m_hellaswag", "M_HellaSwag", "acc_norm,none", _NUM_HELLASWAG, "acc,none"),
    Task(
        name=_LAMBADA,
        title="LAMBADA",
        purpose="surrogate",
        domain="multilingual",
        metric="acc,none",
        num_items=NUM_SURROGATE_ITEMS,
    ),
)
