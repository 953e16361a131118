"""Instruction following: IFEval, and IFEval-like prompts as surrogate.

The surrogate is never IFEval: its prompts were written by Qwen2.5-72B after IFEval's form, and those kept here
have one reading: every instruction is of a type that the checkers know, with all its arguments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mergebench_core.tracks.mergebench_v1.item_sets import HubSource, Item, ItemSet, Row, lite_subset
from mergebench_core.tracks.track import Decoding, Task

NUM_SURROGATE_ITEMS = 500
_SURROGATE = "ifeval_like"
_MAX_WORDS = 600
"""Longest answer that 1,280 tokens hold for sure; more cannot be asked of a surrogate's item."""


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MAX_WORDS


def _is_phrase(value: object) -> bool:
    """Tell whether `value` is a text that the checkers, which search by regular expression, take literally."""
    return isinstance(value, str) and bool(value.strip()) and not set(value) & set("\\^$*+?{}[]|()")


def _is_phrases(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_phrase, value))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_relation(value: object) -> bool:
    return value in ("less than", "at least")


def _is_letter(value: object) -> bool:
    return isinstance(value, str) and len(value) == 1 and value.isascii() and value.isalpha()


def _is_language(value: object) -> bool:
    return isinstance(value, str) and value in _LANGUAGES.split()


_LANGUAGES = "en es pt ar hi fr ru de ja it bn uk th ur ta te bg ko pl he fa vi ne sw kn mr gu pa ml fi"
"""ISO 639-1 codes that IFEval names."""

ARGUMENTS: dict[str, dict[str, Callable[[object], bool]]] = {
    "keywords:existence": {"keywords": _is_phrases},
    "keywords:frequency": {"keyword": _is_phrase, "frequency": _is_count, "relation": _is_relation},
    "keywords:forbidden_words": {"forbidden_words": _is_phrases},
    "keywords:letter_frequency": {"letter": _is_letter, "let_frequency": _is_count, "let_relation": _is_relation},
    "language:response_language": {"language": _is_language},
    "length_constraints:number_sentences": {"num_sentences": _is_count, "relation": _is_relation},
    "length_constraints:number_paragraphs": {"num_paragraphs": _is_count},
    "length_constraints:number_words": {"num_words": _is_count, "relation": _is_relation},
    "length_constraints:nth_paragraph_first_word": {
        "num_paragraphs": _is_count,
        "nth_paragraph": _is_count,
        "first_word": _is_phrase,
    },
    "detectable_content:number_placeholders": {"num_placeholders": _is_count},
    "detectable_content:postscript": {"postscript_marker": _is_phrase},
    "detectable_format:number_bullet_lists": {"num_bullets": _is_count},
    "detectable_format:constrained_response": {},
    "detectable_format:number_highlighted_sections": {"num_highlights": _is_count},
    "detectable_format:multiple_sections": {"section_spliter": _is_phrase, "num_sections": _is_count},
    "detectable_format:json_format": {},
    "detectable_format:title": {},
    "combination:two_responses": {},
    "combination:repeat_prompt": {"prompt_to_repeat": _is_text},
    "startend:end_checker": {"end_phrase": _is_text},
    "change_case:capital_word_frequency": {"capital_frequency": _is_count, "capital_relation": _is_relation},
    "change_case:english_capital": {},
    "change_case:english_lowercase": {},
    "punctuation:no_comma": {},
    "startend:quotation": {},
}
"""IFEval's types (arXiv:2311.07911) with their arguments and what a surrogate's argument must be."""


def _stated(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that are stated: on the Hub, those of all other types are there as null.

    A column of numbers with nulls can come as floats; whole ones are the integers that were written.
    """
    stated = {name: value for name, value in arguments.items() if value is not None}
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in stated.items()
    }


def _pairs(row: Row) -> list[tuple[str, dict[str, Any]]]:
    raw = row["kwargs"]
    arguments = json.loads(raw) if isinstance(raw, str) else raw
    types = list(row["instruction_id_list"])
    if not types or not isinstance(arguments, Sequence) or len(arguments) != len(types):
        raise ValueError("instruction_id_list and kwargs do not match")
    if not all(isinstance(given, Mapping) for given in arguments):
        raise ValueError("kwargs is no list of objects")
    return [(name, _stated(given)) for name, given in zip(types, arguments, strict=True)]


def _item(row: Row, pairs: list[tuple[str, dict[str, Any]]]) -> Item:
    text = json.dumps(pairs, ensure_ascii=False)
    return {"id": str(row["key"]), "prompt": row["prompt"], "instructions": text}


def adapt_ifeval(rows: Sequence[Row]) -> list[Item]:
    """Return IFEval's items: prompt, and its instructions as JSON text of `[type, arguments]` pairs.

    Raises:
        ValueError: a row with an unknown type, or whose arguments are not those of its type.
    """
    items = []
    for index, row in enumerate(rows):
        where = f"ifeval row {index} (key {row.get('key')})"
        try:
            pairs = _pairs(row)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        for name, given in pairs:
            if name not in ARGUMENTS or set(given) != set(ARGUMENTS[name]):
                raise ValueError(f"{where}: unknown instruction '{name}' with arguments {sorted(given)}")
        items.append(_item(row, pairs))
    return items


def _has_one_reading(pairs: list[tuple[str, dict[str, Any]]]) -> bool:
    """Tell whether each instruction is known, complete and sound, and no type is given twice."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names) or not set(names) <= ARGUMENTS.keys():
        return False
    if any(set(given) != set(ARGUMENTS[name]) for name, given in pairs):
        return False
    if not all(ARGUMENTS[name][argument](value) for name, given in pairs for argument, value in given.items()):
        return False
    return all(given.get("nth_paragraph", 1) <= given.get("num_paragraphs", 1) for _, given in pairs)


def _readable(row: Row) -> Item | None:
    try:
        pairs = _pairs(row)
    except (ValueError, RecursionError):
        return None
    return _item(row, pairs) if _has_one_reading(pairs) and _is_text(row["prompt"]) else None


def adapt_ifeval_like(rows: Sequence[Row]) -> list[Item]:
    """Return 500 of the rows that have one reading; of equal keys or prompts the first."""
    items: list[Item] = []
    keys: set[str] = set()
    prompts: set[str] = set()
    for item in filter(None, map(_readable, rows)):
        if item["id"] not in keys and item["prompt"].strip() not in prompts:
            items.append(item)
        keys.add(item["id"])
        prompts.add(item["prompt"].strip())
    return lite_subset(items, _SURROGATE, NUM_SURROGATE_ITEMS)


_COLUMNS = ("key", "prompt", "instruction_id_list", "kwargs")

SETS = (
    ItemSet(
        name="ifeval",
        sources=(HubSource(repo="google/IFEval", split="train", columns=_COLUMNS, licence="Apache-2.0"),),
        adapt=adapt_ifeval,
        num_items=541,
    ),
    ItemSet(
        name=_SURROGATE,
        sources=(
            HubSource(
                repo="argilla/ifeval-like-data",
                config="filtered",
                split="train",
                columns=_COLUMNS,
                licence="Qwen License (the card: other, qwen)",
            ),
        ),
        adapt=adapt_ifeval_like,
        num_items=NUM_SURROGATE_ITEMS,
    ),
)

_METRIC = "prompt_level_strict_acc,none"
_OTHER_METRICS = ("inst_level_strict_acc,none", "prompt_level_loose_acc,none", "inst_level_loose_acc,none")

TASKS = (
    Task(
        name="ifeval",
        title="IFEval",
        purpose="test",
        domain="instruction",
        metric=_METRIC,
        num_items=541,
        other_metrics=_OTHER_METRICS,
        decoding=Decoding(max_tokens=1280),
    ),
    Task(
        name=_SURROGATE,
        title="IFEval-like",
        purpose="surrogate",
        domain="instruction",
        metric=_METRIC,
        num_items=NUM_SURROGATE_ITEMS,
        other_metrics=_OTHER_METRICS,
        decoding=Decoding(max_tokens=1280),
    ),
)
