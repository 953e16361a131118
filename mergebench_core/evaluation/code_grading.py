"""Grades solutions of HumanEval+ and MBPP+: the child computes their answers, this side compares them.

Expected values come from the reference solutions, run by the same child, and never enter a solution's process.
Base and plus inputs go to processes of their own, as under EvalPlus. There is only the standard library to import.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from mergebench_core.errors import InputError, MergebenchError
from mergebench_core.evaluation import solution_wrapper
from mergebench_core.evaluation.code_problems import CodeProblem, Inputs
from mergebench_core.evaluation.oracles import Answer, answer_form, first_mismatch
from mergebench_core.evaluation.programs import MIB, Outcome, Program, ProgramLimits, run_programs
from mergebench_core.evaluation.solution_wrapper import EXPIRED

WRAPPER = Path(solution_wrapper.__file__).read_text(encoding="utf-8")
ENTRY_POINT = "wrapped_solution"
BATCH = 128
"""Programs per child: bounds the memory that jobs and answers take on this side."""

Part = Literal["base", "plus"]
PARTS: tuple[Part, ...] = ("base", "plus")
Verdict = Literal["passed", "wrong", "failed", "timeout", "crashed"]
"""`wrong`: an answer is not the expected one; `failed`: it does not load, raised, or answered with something that
is equal to no plain value; `crashed`: its process ended without an answer."""


@dataclass(frozen=True, kw_only=True)
class GradingLimits:
    """What a solution may use. They decide over slow solutions, so they belong in every record."""

    minimum_s: float = 4.0
    """Each call may take this long at least. As on evalplus' main branch; the release 0.3.1 has 1.0."""
    factor: float = 4.0
    """Each call may take this many times as long as the reference did."""
    total_s: float = 60.0
    """All base or all plus calls together may take this long, or `factor` times as long as the reference if that
    is more (evalplus stops at 60 s even where the reference needs longer)."""
    reference_s: float = 900.0
    """All base or all plus calls of a reference solution."""
    memory_bytes: int = 4096 * MIB
    """Address space; as in evalplus."""
    output_bytes: int = 64 * MIB
    """Answers to all base or all plus calls, encoded."""

    def __post_init__(self) -> None:
        for name in ("minimum_s", "factor", "total_s", "reference_s", "memory_bytes", "output_bytes"):
            value = getattr(self, name)
            if not (0 < value < math.inf):
                raise ValueError(f"{name} must be above 0 and finite, got {value}")

    def calls_s(self, reference_s: Sequence[float]) -> tuple[float, ...]:
        """Return the limit of each call, given the times that the reference took."""
        return tuple(max(self.minimum_s, self.factor * time_s) for time_s in reference_s)

    def program_s(self, reference_s: Sequence[float]) -> float:
        """Return the limit of loading and all calls together.

        It is rounded up to a power of two: programs with one limit share a sandbox, whose start takes a while.
        """
        longest = max(self.total_s, self.factor * sum(reference_s))
        time_s = self.minimum_s + min(longest, sum(self.calls_s(reference_s)))
        return float(2.0 ** math.ceil(math.log2(time_s)))

    def programs(self, time_s: float) -> ProgramLimits:
        """Return the limits of a program."""
        return ProgramLimits(time_s=time_s, memory_bytes=self.memory_bytes, output_bytes=self.output_bytes)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What the reference solution answers to the base or plus inputs, and how long it took."""

    answers: tuple[Answer, ...]
    times_s: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The expectations of one problem."""

    base: Expectation
    plus: Expectation


@dataclass(frozen=True, kw_only=True)
class Solution:
    """One program to grade."""

    task_id: str
    code: str
    """The whole program: a completion goes through `CodeProblem.complete` first."""


@dataclass(frozen=True, kw_only=True)
class PartGrade:
    """What came of the base or the plus inputs."""

    verdict: Verdict
    wrong_input: int | None = None
    """Position of the first wrong answer; None unless `wrong`."""

    def __str__(self) -> str:
        return self.verdict if self.wrong_input is None else f"{self.verdict} at input {self.wrong_input}"


@dataclass(frozen=True, kw_only=True)
class Grade:
    """What came of one solution."""

    task_id: str
    base: PartGrade
    plus: PartGrade

    @property
    def is_base_passed(self) -> bool:
        """HumanEval or MBPP: all base inputs."""
        return self.base.verdict == "passed"

    @property
    def is_plus_passed(self) -> bool:
        """HumanEval+ or MBPP+: all base and all plus inputs."""
        return self.is_base_passed and self.plus.verdict == "passed"

    @property
    def reason(self) -> str:
        """One line for people."""
        return f"base: {self.base}, plus: {self.plus}"


class RunPrograms(Protocol):
    """Runs programs: `run_programs`, or a stand-in bound to another launcher."""

    def __call__(self, programs: Sequence[Program], limits: ProgramLimits) -> list[Outcome]:
        """Return one outcome per program, in order."""


def measure_references(
    problems: Mapping[str, CodeProblem], limits: GradingLimits | None = None, run: RunPrograms = run_programs
) -> dict[str, Reference]:
    """Run the reference solutions; return what they answer and how long each call takes here, by `task_id`.

    Raises:
        MergebenchError: a reference solution does not answer, or programs cannot be run here.
    """
    limits = limits or GradingLimits()
    jobs = [(problem, part) for problem in problems.values() for part in PARTS]
    programs = [
        wrapped(problem, problem.reference_code, part, [limits.reference_s] * len(part_inputs(problem, part)))
        for problem, part in jobs
    ]
    outcomes = run_in_batches(programs, [limits.reference_s] * len(programs), limits, run)
    expectations = [
        expectation(problem, part, outcome) for (problem, part), outcome in zip(jobs, outcomes, strict=True)
    ]
    pairs = zip(expectations[::2], expectations[1::2], strict=True)
    return {
        task_id: Reference(base=base, plus=plus) for task_id, (base, plus) in zip(problems, pairs, strict=True)
    }


def expectation(problem: CodeProblem, part: Part, outcome: Outcome) -> Expectation:
    """Read what a reference solution answered.

    Raises:
        MergebenchError: nothing that could be expected of a solution.
    """
    calls = read_calls(outcome)
    if not isinstance(calls, list):
        raise MergebenchError(
            f"the reference solution of '{problem.task_id}' gave no answer to its {part} inputs ({calls}); "
            "check the problem file, or raise the limits of the references"
        )
    return Expectation(answers=tuple(answer for _, answer in calls), times_s=tuple(time_s for time_s, _ in calls))


def grade_solutions(
    solutions: Sequence[Solution],
    problems: Mapping[str, CodeProblem],
    references: Mapping[str, Reference],
    limits: GradingLimits | None = None,
    run: RunPrograms = run_programs,
) -> list[Grade]:
    """Grade solutions, in their order.

    Args:
        references: Of all problems that occur, for the same inputs: see `measure_references`.

    Raises:
        InputError: a solution is for no known problem.
        MergebenchError: programs cannot be run here.
    """
    limits = limits or GradingLimits()
    unknown = sorted({solution.task_id for solution in solutions} - (set(problems) & set(references)))
    if unknown:
        raise InputError(f"no problem or no reference for '{unknown[0]}': solutions and problem file must match")
    jobs = [(solution, part) for solution in solutions for part in PARTS]
    programs, times_s = [], []
    for solution, part in jobs:
        reference_s = getattr(references[solution.task_id], part).times_s
        programs.append(wrapped(problems[solution.task_id], solution.code, part, limits.calls_s(reference_s)))
        times_s.append(limits.program_s(reference_s))
    grades = [
        grade_part(problems[solution.task_id], part, getattr(references[solution.task_id], part), outcome)
        for (solution, part), outcome in zip(jobs, run_in_batches(programs, times_s, limits, run), strict=True)
    ]
    return [
        Grade(task_id=solution.task_id, base=base, plus=plus)
        for solution, base, plus in zip(solutions, grades[::2], grades[1::2], strict=True)
    ]


def grade_part(problem: CodeProblem, part: Part, expected: Expectation, outcome: Outcome) -> PartGrade:
    """Compare what a solution answered with what is expected."""
    calls = read_calls(outcome)
    if not isinstance(calls, list):
        return PartGrade(verdict=calls)
    answers = [answer for _, answer in calls]
    wrong_input = first_mismatch(problem, part_inputs(problem, part), expected.answers, answers)
    if wrong_input is not None:
        return PartGrade(verdict="wrong", wrong_input=wrong_input)
    return PartGrade(verdict="passed")


def read_calls(outcome: Outcome) -> list[tuple[float, Answer]] | Verdict:
    """Return the time and answer of each call, or why there are none; a forged form is a failure."""
    if outcome.status != "completed":
        return outcome.status
    calls: list[tuple[float, Answer]] = []
    for call in outcome.values:
        if type(call) is not tuple or [type(item) for item in call[:2]] != [float, str] or len(call) != 3:
            return "failed"
        time_s, type_name, value = call
        if type_name == EXPIRED:
            return "timeout"
        calls.append((time_s, Answer(value=value, type_name=type_name)))
    return calls


def part_inputs(problem: CodeProblem, part: Part) -> Inputs:
    """Return the base or the plus inputs."""
    return problem.base_inputs if part == "base" else problem.plus_inputs


def wrapped(problem: CodeProblem, code: str, part: Part, calls_s: Sequence[float]) -> Program:
    """Return the program that runs a solution on one part of the inputs."""
    arguments = (code, problem.entry_point, answer_form(problem), tuple(calls_s))
    return Program(
        code=f"{WRAPPER}\n{ENTRY_POINT} = wrap(*{arguments!r})\n",
        entry_point=ENTRY_POINT,
        inputs=part_inputs(problem, part),
    )


def run_in_batches(
    programs: Sequence[Program], times_s: Sequence[float], limits: GradingLimits, run: RunPrograms
) -> list[Outcome]:
    """Run programs, those of one time limit together; return the outcomes in the order of the programs."""
    outcomes: dict[int, Outcome] = {}
    for time_s in sorted(set(times_s)):
        indices = [index for index, own_s in enumerate(times_s) if own_s == time_s]
        for start in range(0, len(indices), BATCH):
            batch = indices[start : start + BATCH]
            results = run([programs[index] for index in batch], limits.programs(time_s))
            outcomes.update(zip(batch, results, strict=True))
    return [outcomes[index] for index in range(len(programs))]
