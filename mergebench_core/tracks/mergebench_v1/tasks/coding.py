"""Coding: HumanEval+ and MBPP+ by running the programs, CoNaLa by BLEU.

Stop sequences and prompts are those of bigcode-evaluation-harness (bigcode_eval/tasks humaneval.py, mbppplus.py,
conala.py). A generation ends at fewer of them than it says, because the others also open chat answers (a fence,
the function written anew); each completion is then cut at all of them, see `evaluation.completions`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mergebench_core.evaluation.code_grading import Grade, Solution, grade_solutions
from mergebench_core.evaluation.code_problems import CodeProblem, parse_problem
from mergebench_core.evaluation.code_references import references_for
from mergebench_core.evaluation.completions import FENCES, Reading, read_program
from mergebench_core.evaluation.session import current

HUMANEVAL_STOPS = ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\n```", "<file_sep>")
MBPP_STOPS = ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```")

CONALA_OPENING = "Answer the following instructions in one line of Python code:\n"
CONALA_SHOTS = (
    ("sort list `names` by the length of its items", "names.sort(key=len)"),
    ("join the strings of list `words` with a comma between them", "','.join(words)"),
)
"""Ours, in the style of the data; the harness's own two could not be read. Neither occurs in the test split."""


def grade(responses: Iterable[Sequence[str]], items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for each item how many of its answers pass; all answers of all items are run in one batch.

    lm-eval calls this once per task as a filter. Answers that make the same program are run once, for it gives the
    same result each time.

    Raises:
        MergebenchError: programs cannot be run here.
    """
    rows = [(item, list(answers)) for item, answers in zip(items, responses, strict=True)]
    problems = {item["id"]: parse_problem(json.loads(item["problem"])) for item, _ in rows}
    readings = [
        [_reading(item["prompt"], problems[item["id"]], answer) for answer in answers] for item, answers in rows
    ]
    programs = dict.fromkeys(
        (item["id"], reading.code) for (item, _), own in zip(rows, readings, strict=True) for reading in own
    )
    solutions = [Solution(task_id=task_id, code=code) for task_id, code in programs]
    references = references_for(problems, current().cache_folder)
    grades = dict(zip(programs, grade_solutions(solutions, problems, references), strict=True))
    return [
        _counts([(reading, grades[item["id"], reading.code]) for reading in own])
        for (item, _), own in zip(rows, readings, strict=True)
    ]


def _reading(prompt: str, problem: CodeProblem, answer: str) -> Reading:
    stops = MBPP_STOPS if problem.is_mbpp else HUMANEVAL_STOPS
    return read_program(prompt, problem.entry_point, answer, stops)


def _counts(graded: Sequence[tuple[Reading, Grade]]) -> dict[str, Any]:
    return {
        "num_samples": len(graded),
        "num_passed": sum(grade.is_plus_passed for _, grade in graded),
        "num_base_passed": sum(grade.is_base_passed for _, grade in graded),
        "num_literal_passed": sum(grade.is_plus_passed and reading.is_literal for reading, grade in graded),
        "reasons": [grade.reason for _, grade in graded],
    }


def score_programs(item: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return an item's pass@1, estimated by the share of its samples that pass.

    `pass_at_1` asks for the base and plus inputs, `pass_at_1_base` for the base inputs alone; `pass_at_1_literal`
    counts only programs that the harness would have read the same way.
    """
    counts = results[0]
    total = counts["num_samples"]
    return {
        "pass_at_1": counts["num_passed"] / total,
        "pass_at_1_base": counts["num_base_passed"] / total,
        "pass_at_1_literal": counts["num_literal_passed"] / total,
    }


def conala_prompt(item: Mapping[str, Any]) -> str:
    """Return the harness's two-shot prompt, without the blanks that its source leaves at the ends of lines."""
    shots = "".join(f"\nInstruction:\n{intent}\nSolution:\n{snippet}" for intent, snippet in CONALA_SHOTS)
    return f"{CONALA_OPENING}{shots}\nInstruction:\n{item['prompt']}\nSolution:\n"


def score_conala(item: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return BLEU and exact match of the answer's first line of code against the snippet, in [0, 1].

    The harness has one BLEU over the corpus; ours is of one item, so that it has a standard error. sacrebleu's
    sentence BLEU: up to 4-grams, tokenizer 13a (which parts names at dots, brackets and underscores), exponential
    smoothing, and for snippets of fewer than four tokens the orders that they have. Case counts.
    """
    import sacrebleu

    answer, snippet = code_line(results[0]), item["snippet"].strip()
    bleu = sacrebleu.sentence_bleu(
        answer, [snippet], smooth_method="exp", tokenize="13a", use_effective_order=True
    )
    return {"bleu": min(1.0, bleu.score / 100), "exact": float(answer == snippet)}


def code_line(answer: str) -> str:
    """Return the first line that is neither blank nor a fence, stripped."""
    lines = (line.strip() for line in answer.splitlines())
    return next((line for line in lines if line and not line.startswith(FENCES)), "")
