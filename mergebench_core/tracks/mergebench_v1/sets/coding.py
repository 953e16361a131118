"""Coding: HumanEval+ (v0.1.10) and MBPP+ (v0.2.0) as EvalPlus released them, and CoNaLa as surrogate.

CoNaLa's authors have it on the Hub as `neulab/conala` (curated, test), behind a loading script, which `datasets`
no longer runs. The file read here holds the official test split and is pinned by its digest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from mergebench_core.tracks.mergebench_v1.item_sets import (
    FileSource,
    Item,
    ItemSet,
    Row,
    lite_subset,
)
from mergebench_core.tracks.track import Decoding, Task

NUM_SURROGATE_ITEMS = 500
PROBLEM_COLUMNS = ("task_id", "prompt", "entry_point", "canonical_solution", "base_input", "plus_input", "atol")
SAMPLED = Decoding(max_tokens=512, temperature=0.2, top_p=0.95, num_samples=10)
_CONALA = "conala"


def adapt_humaneval(rows: Sequence[Row]) -> list[Item]:
    """Return the problems of HumanEval+; their prompts without blanks at the ends, as the harness gives them.

    Raises:
        ValueError: a row without one of its fields.
    """
    return [_program_item(row, str(row["prompt"]).strip(), "HumanEval/") for row in rows]


def adapt_mbpp(rows: Sequence[Row]) -> list[Item]:
    """Return the problems of MBPP+, whose released prompts have the harness's form: a docstring with one test.

    Eighteen of them lack a web address that the harness's own copy of the data has after the description.

    Raises:
        ValueError: a row without one of its fields.
    """
    return [_program_item(row, str(row["prompt"]), "Mbpp/") for row in rows]


def _program_item(row: Row, prompt: str, prefix: str) -> Item:
    task_id = row["task_id"]
    if not isinstance(task_id, str) or not task_id.startswith(prefix):
        raise ValueError(f"'{task_id}' is no problem of this set")
    if missing := [name for name in PROBLEM_COLUMNS if name not in row]:
        raise ValueError(f"'{task_id}': no field '{missing[0]}'")
    problem = json.dumps({name: row[name] for name in PROBLEM_COLUMNS})
    return {"id": task_id, "prompt": prompt, "problem": problem}


def adapt_conala(rows: Sequence[Row]) -> list[Item]:
    """Return CoNaLa's items: the rewritten intent where there is one, else the title of the question.

    Raises:
        ValueError: a row without intent or snippet.
    """
    seen: Counter[str] = Counter()
    items = []
    for index, row in enumerate(rows):
        question = str(row["question_id"])
        prompt, snippet = (row["rewritten_intent"] or row["intent"] or "").strip(), row["snippet"]
        if not prompt or not isinstance(snippet, str) or not snippet.strip():
            raise ValueError(f"conala row {index} ({question}): no intent or no snippet")
        seen[question] += 1
        number = f"{question}#{seen[question]}"
        items.append({"id": number, "cluster": question, "prompt": prompt, "snippet": snippet})
    return lite_subset(items, _CONALA, NUM_SURROGATE_ITEMS)


SETS: tuple[ItemSet, ...] = (
    ItemSet(
        name="humaneval_plus",
        sources=(
            FileSource(
                repo="evalplus/humanevalplus_release",
                path="raw/200defce9e3429d28ca215b6dd061c0f7f31c18b/HumanEvalPlus.jsonl.gz",
                sha256="272720b90ac375502c8ed23cd791c2a93dfb22a911641a494da74a426c09f101",
                columns=PROBLEM_COLUMNS,
                licence="Apache-2.0; its HumanEval part MIT",
            ),
        ),
        adapt=adapt_humaneval,
        num_items=164,
    ),
    ItemSet(
        name="mbpp_plus",
        sources=(
            FileSource(
                repo="evalplus/mbppplus_release",
                path="raw/dadf43da556a00f7bacd71cb154f2932757d9144/MbppPlus.jsonl.gz",
                sha256="af43697e8791c4c149bdfd6b489d8b5412507551ac20e28a439f650b8225db63",
                columns=PROBLEM_COLUMNS,
                licence="Apache-2.0; its MBPP part CC-BY-4.0",
            ),
        ),
        adapt=adapt_mbpp,
        num_items=378,
    ),
    ItemSet(
        name=_CONALA,
        sources=(
            FileSource(
                repo="ypapanik/t5-for-code-generation",
                path="raw/5c9a15b1f5ab0fd7d8b6cd87735505c0d4028b38/data/conala-test.json",
                sha256="b3f96344efa3bb819e2fe66cfd68be289ca4e4d37f5af19c32cf4ae211e8077e",
                columns=("question_id", "intent", "rewritten_intent", "snippet"),
                licence="MIT (neulab/conala), its texts from Stack Overflow (CC-BY-SA); this copy says GPL-3.0",
            ),
        ),
        adapt=adapt_conala,
        num_items=500,
    ),
)

TASKS: tuple[Task, ...] = (
    Task(
        name="humaneval_plus",
        title="HumanEval+",
        purpose="test",
        domain="coding",
        metric="pass_at_1,graded",
        num_items=164,
        other_metrics=("pass_at_1_base,graded", "pass_at_1_literal,graded"),
        decoding=SAMPLED,
    ),
    Task(
        name="mbpp_plus",
        title="MBPP+",
        purpose="test",
        domain="coding",
        metric="pass_at_1,graded",
        num_items=378,
        other_metrics=("pass_at_1_base,graded", "pass_at_1_literal,graded"),
        decoding=SAMPLED,
    ),
    Task(
        name=_CONALA,
        title="CoNaLa",
        purpose="surrogate",
        domain="coding",
        metric="bleu,none",
        num_items=500,
        other_metrics=("exact,none",),
        decoding=Decoding(max_tokens=128),
    ),
)
"""CoNaLa's two examples are part of its prompt, so lm-eval adds none."""
