"""Finds what sets of items share: calibration, surrogate, generalization and test items should share nothing.

Three kinds of overlap, each counted in both directions between every two sets of different purpose:

- `exact`: the same words in the same order. Case, spaces and punctuation do not count.
- `13-gram`: thirteen words in a row, in the text or in the answer, never across their border (the length is that
  of the GPT-3 paper's analysis, arXiv:2005.14165, appendix C). What is shorter can only be found as a whole.
- `question`: the same question id, whatever the language.

Words and keys are compared by 64-bit hashes: among ten million keys the chance of one false match is below 1 in
100,000. No text is kept in a report.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from mergebench_core.tracks.audit_texts import audit_answer, audit_question_id, audit_text, words
from mergebench_core.tracks.ngrams import (
    GramBuilder,
    Keys,
    common_hashes,
    keys_of,
    shared_hashes,
    vocabulary,
)

__all__ = [
    "AuditItem",
    "AuditReport",
    "AuditedSet",
    "Overlap",
    "audit_answer",
    "audit_item",
    "audit_items",
    "audit_question_id",
    "audit_text",
]

AuditPurpose = Literal["calibration", "surrogate", "generalization", "test"]
PURPOSES: tuple[AuditPurpose, ...] = ("calibration", "surrogate", "generalization", "test")
Kind = Literal["exact", "13-gram", "question"]
KINDS: tuple[Kind, ...] = ("exact", "13-gram", "question")
NUM_WORDS = 13
"""Words of an n-gram."""
NUM_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class AuditItem:
    """What the audit looks at in one item."""

    id: str
    text: str
    purpose: AuditPurpose
    question_id: str | None = None
    """Name of the question that translations share; None where there are none."""
    answer: str = ""
    """Completion or reference, searched for n-grams only."""


@dataclass(frozen=True, kw_only=True)
class AuditedSet:
    """One set that was looked at."""

    name: str
    purpose: AuditPurpose
    num_items: int
    num_short: int
    """Items too short for an n-gram."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """What two sets share."""

    kind: Kind
    first: str
    """Name of the set that is used earlier: calibration, surrogate, generalization, test."""
    second: str
    num_first: int
    """Items of the first set that share something with any item of the second."""
    num_second: int
    examples: tuple[tuple[str, str], ...]
    """Ids of some pairs, one of each set."""
    is_by_construction: bool = False
    """Whether one set is made of the other, so that this is no finding."""


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """What the audit found."""

    sets: tuple[AuditedSet, ...]
    overlaps: tuple[Overlap, ...]
    """By kind, then in the order of the sets; pairs that share nothing have none."""

    def to_counts(self) -> dict[str, int]:
        """Return number of items by `<kind>:<set>/<other>`: items of the set that share with any of the other.

        Both directions are there; pairs that share nothing are not.
        """
        counts = {}
        for found in self.overlaps:
            counts[f"{found.kind}:{found.first}/{found.second}"] = found.num_first
            counts[f"{found.kind}:{found.second}/{found.first}"] = found.num_second
        return counts


def audit_item(item: Mapping[str, Any], purpose: AuditPurpose, item_id: str | None = None) -> AuditItem:
    """Return what the audit looks at in an item, or in a calibration sample (`item_id` names it: it has no id)."""
    return AuditItem(
        id=str(item["id"]) if item_id is None else item_id,
        text=audit_text(item),
        purpose=purpose,
        question_id=audit_question_id(item),
        answer=audit_answer(item),
    )


def audit_items(
    sets: Mapping[str, Sequence[AuditItem]],
    by_construction: Collection[tuple[str, str]] = (),
    within_purpose: bool = False,
) -> AuditReport:
    """Return what sets of items share.

    Args:
        sets: items by name of their set; all of a set have one purpose. Sets without items are left out.
        by_construction: pairs of names, in either order, of which one set is made of the other.
        within_purpose: whether two sets of the same purpose are compared too.
    """
    filled = {name: items for name, items in sets.items() if items}
    ordered = sorted(filled, key=lambda name: PURPOSES.index(filled[name][0].purpose))
    pairs = [
        (first, second)
        for first, second in combinations(ordered, 2)
        if within_purpose or filled[first][0].purpose != filled[second][0].purpose
    ]
    indexes = _indexes({name: filled[name] for name in ordered})
    expected = {frozenset(pair) for pair in by_construction}
    overlaps = []
    for kind in KINDS:
        keys = _shared({name: index.keys[kind] for name, index in indexes.items()})
        for pair in pairs:
            found = _overlap(kind, pair, keys, filled, frozenset(pair) in expected)
            overlaps += [found] if found else []
    return AuditReport(sets=tuple(index.summary for index in indexes.values()), overlaps=tuple(overlaps))


@dataclass(frozen=True, kw_only=True)
class _Index:
    """One set with the keys of each kind."""

    summary: AuditedSet
    keys: Mapping[Kind, Keys]


def _indexes(sets: Mapping[str, Sequence[AuditItem]]) -> dict[str, _Index]:
    number_of = vocabulary()
    return {name: _index(name, items, GramBuilder(number_of)) for name, items in sets.items()}


def _index(name: str, items: Sequence[AuditItem], grams: GramBuilder) -> _Index:
    normal = []
    num_short = 0
    for number, item in enumerate(items):
        text, answer = words(item.text), words(item.answer)
        normal.append(" ".join(text))
        grams.add(number, text)
        grams.add(number, answer)
        num_short += max(len(text), len(answer)) < NUM_WORDS
    keys: dict[Kind, Keys] = {
        "exact": keys_of(normal),
        "13-gram": grams.keys(NUM_WORDS),
        "question": keys_of([item.question_id for item in items]),
    }
    summary = AuditedSet(name=name, purpose=items[0].purpose, num_items=len(items), num_short=num_short)
    return _Index(summary=summary, keys=keys)


def _shared(keys: Mapping[str, Keys]) -> dict[str, Keys]:
    """Return the keys that any two sets share: few of many, as a rule."""
    shared = shared_hashes(list(keys.values())) if keys else None
    return {} if shared is None else {name: found.within(shared) for name, found in keys.items()}


def _overlap(
    kind: Kind,
    pair: tuple[str, str],
    keys: Mapping[str, Keys],
    sets: Mapping[str, Sequence[AuditItem]],
    is_by_construction: bool,
) -> Overlap | None:
    common = common_hashes(keys[pair[0]], keys[pair[1]])
    if not len(common):
        return None
    first, second = (keys[name].within(common) for name in pair)
    return Overlap(
        kind=kind,
        first=pair[0],
        second=pair[1],
        num_first=len(set(first.items.tolist())),
        num_second=len(set(second.items.tolist())),
        examples=tuple(
            (sets[pair[0]][left].id, sets[pair[1]][right].id) for left, right in _examples(first, second)
        ),
        is_by_construction=is_by_construction,
    )


def _examples(first: Keys, second: Keys) -> list[tuple[int, int]]:
    """Return the first items of `first`, each with the first item that shares a key with it."""
    partners = []
    for left in sorted(set(first.items.tolist()))[:NUM_EXAMPLES]:
        own = Keys(hashes=first.hashes[first.items == left], items=first.items[first.items == left])
        partners.append((left, int(second.within(common_hashes(own, second)).items.min())))
    return partners
