"""Write down what EvalPlus says of the reference solutions and of the mutants. How to run it: README.md here."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
from evalplus.data import get_human_eval_plus, get_mbpp_plus
from evalplus.eval import PASS, untrusted_check
from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS
from evalplus.gen.util import trusted_exec

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from evalplus_samples import EXTRAS, MUTANTS, PLUS_INPUTS, inputs_digest, mutant  # noqa: E402

Problem = dict[str, Any]
PARTS = ("base", "plus")


def passes(problem: Problem, code: str, inputs: list[Any], expected: list[Any], times: list[float]) -> bool:
    """Ask EvalPlus, with the limits of its main branch instead of those of the release."""
    status, details = untrusted_check(
        "humaneval" if problem["task_id"].startswith("HumanEval/") else "mbpp",
        code,
        inputs,
        problem["entry_point"],
        expected=expected,
        atol=problem["atol"],
        ref_time=times,
        fast_check=True,
        min_time_limit=4.0,
        gt_time_limit_factor=4.0,
    )
    if problem["entry_point"] == "find_zero":  # 0.3.1 forgets to note what passed and then calls it a failure
        return status != "timeout" and len(details) == 0
    return bool(status == PASS)


def solutions(problem: Problem, reference: str) -> Iterable[tuple[str, str, int | None]]:
    """Yield name, code and number of plus inputs of everything that is graded on one problem."""
    yield "reference", reference, None
    for name in MUTANTS:
        yield name, mutant(name, reference, problem["entry_point"]), PLUS_INPUTS
    for name, (task_id, code) in EXTRAS.items():
        if task_id == problem["task_id"]:
            yield f"extra: {name}", code, PLUS_INPUTS


def judge(problem: Problem) -> dict[str, dict[str, bool]]:
    """Return by solution and part whether EvalPlus lets it pass."""
    reference = problem["prompt"] + problem["canonical_solution"]
    is_not_none = problem["entry_point"] in MBPP_OUTPUT_NOT_NONE_TASKS
    inputs = {part: list(problem[f"{part}_input"]) for part in PARTS}
    expected = {
        part: trusted_exec(reference, inputs[part], problem["entry_point"], True, is_not_none) for part in PARTS
    }
    verdicts: dict[str, dict[str, bool]] = {}
    for name, code, num_plus_inputs in solutions(problem, reference):
        for part, end in (("base", None), ("plus", num_plus_inputs)):
            values, times = expected[part]
            verdicts.setdefault(name, {})[part] = passes(
                problem, code, inputs[part][:end], values[:end], times[:end]
            )
    return verdicts


def summary(verdicts: dict[str, bool]) -> dict[str, str]:
    """Name the problems that pass, or those that fail, whichever are fewer."""
    passed = [task_id for task_id, is_passed in verdicts.items() if is_passed]
    failed = [task_id for task_id, is_passed in verdicts.items() if not is_passed]
    return {"passed": " ".join(passed)} if len(passed) <= len(failed) else {"failed": " ".join(failed)}


def main() -> None:
    """Grade everything and write the verdicts."""
    table: dict[str, dict[str, dict[str, bool]]] = {}
    problems = [*get_human_eval_plus().values(), *get_mbpp_plus().values()]
    for problem in problems:
        for name, parts in judge(problem).items():
            for part, is_passed in parts.items():
                table.setdefault(name, {}).setdefault(part, {})[problem["task_id"]] = is_passed
        sys.stderr.write(f"{problem['task_id']}\n")
    rows = ((problem["task_id"], problem["base_input"], problem["plus_input"]) for problem in problems)
    document = {
        "versions": {
            "evalplus": version("evalplus"), "numpy": numpy.__version__, "python": platform.python_version()
        },
        "inputs_sha256": inputs_digest(rows),
        "verdicts": {
            name: {part: summary(verdicts) for part, verdicts in parts.items()} for name, parts in table.items()
        },
    }  # fmt: skip
    (HERE / "evalplus_verdicts.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
