"""What the reference solutions of code problems answer, kept on this machine: measuring it takes minutes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mergebench_core.environment import hardware_class
from mergebench_core.evaluation.code_grading import (
    Expectation,
    GradingLimits,
    Reference,
    RunPrograms,
    measure_references,
)
from mergebench_core.evaluation.code_problems import CodeProblem
from mergebench_core.evaluation.oracles import Answer
from mergebench_core.evaluation.program_child import decode, encode
from mergebench_core.evaluation.programs import run_programs
from mergebench_core.home import write_atomic

FORMAT = 1


def references_for(
    problems: Mapping[str, CodeProblem],
    folder: Path | None,
    limits: GradingLimits | None = None,
    run: RunPrograms = run_programs,
) -> dict[str, Reference]:
    """Return the references of `problems` by `task_id`, measured unless `folder` has them.

    Answers and times hold for one Python on one kind of machine: on another they are measured again, as they are
    when the file is damaged. A folder that cannot be written keeps nothing, which costs only time.

    Raises:
        MergebenchError: a reference solution does not answer, or programs cannot be run here.
    """
    limits = limits or GradingLimits()
    if folder is None:
        return measure_references(problems, limits, run)
    key = cache_key(problems, limits)
    path = folder / f"code_references_{key[:16]}.json"
    kept = read_references(path, key)
    if kept is None:
        kept = measure_references(problems, limits, run)
        with contextlib.suppress(OSError):
            write_references(path, key, kept)
    return kept


def cache_key(problems: Mapping[str, CodeProblem], limits: GradingLimits) -> str:
    """Return a digest of everything that answers and times depend on."""
    rows = [
        [
            problem.task_id, problem.entry_point, problem.reference_code, problem.atol,
            encode(problem.base_inputs), encode(problem.plus_inputs),
        ]
        for problem in problems.values()
    ]  # fmt: skip
    return _digest(json.dumps([FORMAT, sys.version, hardware_class(), asdict(limits), rows]))


def read_references(path: Path, key: str) -> dict[str, Reference] | None:
    """Return what `write_references` wrote under this key; None if it is another's, damaged, or not there."""
    try:
        head, _, body = path.read_text(encoding="utf-8").partition("\n")
        if head != f"{key} {_digest(body)}":
            return None
        rows: dict[str, Any] = json.loads(body)
        return {
            task_id: Reference(base=_expectation(row["base"]), plus=_expectation(row["plus"]))
            for task_id, row in rows.items()
        }
    except (OSError, ValueError):
        return None


def write_references(path: Path, key: str, references: Mapping[str, Reference]) -> None:
    """Write references whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    rows = {task_id: {"base": _row(one.base), "plus": _row(one.plus)} for task_id, one in references.items()}
    body = json.dumps(rows)
    write_atomic(path, f"{key} {_digest(body)}\n{body}")


def _row(expectation: Expectation) -> dict[str, Any]:
    answers = [[answer.type_name, encode(answer.value)] for answer in expectation.answers]
    return {"answers": answers, "times_s": list(expectation.times_s)}


def _expectation(row: Mapping[str, Any]) -> Expectation:
    answers = tuple(Answer(value=decode(value), type_name=type_name) for type_name, value in row["answers"])
    return Expectation(answers=answers, times_s=tuple(row["times_s"]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
