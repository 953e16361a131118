"""Grades programs: all answers of a task run in one batch of child processes, values are compared here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mergebench_core.evaluation.programs import Program, run_programs


def _same(value: object, expected: object) -> bool:
    """Tell whether two plain values are equal and of the same types all through."""
    if type(value) is not type(expected):
        return False
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(_same, value, expected))
    return value == expected


def _program(item: Mapping[str, Any], answer: str) -> Program:
    code = item["prefix"] + answer if item["prefix"] else answer.strip()
    inputs = tuple(tuple(row) for row in json.loads(item["inputs"]))
    return Program(code=code, entry_point=item["entry_point"], inputs=inputs)


def grade(responses: Iterable[Sequence[str]], items: Iterable[Mapping[str, Any]]) -> list[dict[str, object]]:
    """Return for each item the answer and whether all its test calls gave the expected values.

    lm-eval calls this once per task as a filter, with one list of answers per item.
    """
    rows = [(item, answers[0]) for item, answers in zip(items, responses, strict=True)]
    outcomes = run_programs([_program(item, answer) for item, answer in rows])
    graded: list[dict[str, object]] = []
    for (item, answer), outcome in zip(rows, outcomes, strict=True):
        expected = json.loads(item["expected"])
        passed = outcome.status == "completed" and _same(list(outcome.values), expected)
        graded.append({"answer": answer, "status": outcome.status, "passed": passed})
    return graded


def score_coding(item: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Score a program that `grade` ran: 1.0 if it passed every test call."""
    return {"acc": float(bool(results[0]["passed"]))}
