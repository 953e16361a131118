"""Grading of generated functions: problem files, answers, verdicts, and agreement with EvalPlus."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections import Counter, OrderedDict, namedtuple
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from evalplus_samples import EXTRAS, MUTANTS, PLUS_INPUTS, inputs_digest, mutant

from mergebench_core.errors import InputError, MergebenchError
from mergebench_core.evaluation.code_grading import (
    PARTS,
    Expectation,
    Grade,
    GradingLimits,
    Reference,
    Solution,
    grade_solutions,
    measure_references,
    read_calls,
    run_in_batches,
    wrapped,
)
from mergebench_core.evaluation.code_problems import MBPP_CONVERSIONS, CodeProblem, read_problems
from mergebench_core.evaluation.oracles import Answer
from mergebench_core.evaluation.programs import Outcome, Program, ProgramLimits, run_programs
from mergebench_core.evaluation.solution_wrapper import EXPIRED, LARGE, frozen, plain, reduce

DATA = Path(__file__).parents[2] / "shared" / "data"
FILES = (DATA / "humanevalplus" / "HumanEvalPlus.jsonl.gz", DATA / "mbppplus" / "MbppPlus.jsonl.gz")
RECORD = json.loads((Path(__file__).parent / "data" / "evalplus_verdicts.json").read_text(encoding="utf-8"))

SPECIAL = [
    "HumanEval/32",  # any root
    "Mbpp/2", "Mbpp/7", "Mbpp/111", "Mbpp/140", "Mbpp/232", "Mbpp/579", "Mbpp/769",  # compared as sets
    "Mbpp/737", "Mbpp/787", "Mbpp/794",  # match objects
    "Mbpp/558", "Mbpp/581",  # formulas of their own
    "Mbpp/124", "Mbpp/252", "Mbpp/590",  # complex numbers in and out
    "Mbpp/278", "Mbpp/404",  # a deep nest, infinities
    "HumanEval/2", "HumanEval/4", "Mbpp/120",  # a tolerance of their own
    "HumanEval/47", "HumanEval/137",  # floats among other types: the tolerance stays
    "Mbpp/88",  # a counter
    "Mbpp/793",  # no plus inputs
    "HumanEval/20", "HumanEval/3",  # changes its input; nothing special
]  # fmt: skip
LARGE_ANSWERS = ["HumanEval/15", "HumanEval/100", "HumanEval/130", "Mbpp/255", "Mbpp/630"]
SLOW_S = 1.0
"""Problems whose references take longer are graded on a part of the inputs."""
SLOW_TEST_MUTANTS = ["late", "retype_noise", "noise_5e-7"]


def problem(**fields: Any) -> CodeProblem:
    defaults: dict[str, Any] = {
        "task_id": "HumanEval/0",
        "prompt": "def double(x):\n",
        "entry_point": "double",
        "canonical_solution": "    return x * 2\n",
        "base_inputs": ((1,), ("a",)),
        "plus_inputs": ((2.5,), ([1],), (10,)),
        "atol": 0.0,
    }
    return CodeProblem(**defaults | fields)


# Problem files


def row(**fields: Any) -> dict[str, Any]:
    defaults = {
        "task_id": "Mbpp/2", "prompt": "p", "entry_point": "f", "canonical_solution": "c",
        "base_input": [[[1], [2]]], "plus_input": [], "atol": 0,
    }  # fmt: skip
    return {key: value for key, value in (defaults | fields).items() if value is not ...}


def write(path: Path, *rows: Any) -> Path:
    path.write_bytes(gzip.compress("\n".join(json.dumps(item) for item in rows).encode()))
    return path


def test_a_problem_file_is_read_in_order(tmp_path: Path) -> None:
    path = write(tmp_path / "p.gz", row(), row(task_id="HumanEval/7", base_input=[[1]], plus_input={}, atol=1e-4))
    first, second = read_problems(path).values()
    assert (first.task_id, first.is_mbpp, first.base_inputs) == ("Mbpp/2", True, (((1,), (2,)),))
    assert (second.task_id, second.is_mbpp, second.base_inputs) == ("HumanEval/7", False, ((1,),))
    assert (second.plus_inputs, second.atol, second.reference_code) == ((), 1e-4, "pc")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([3], "line 1: not an object"),
        ([row(), row(task_id="Mbpp/3", prompt=...)], "line 2: field 'prompt' is missing"),
        ([row(canonical_solution=None)], "field 'canonical_solution' is not a text"),
        ([row(task_id="Other/1")], "'Other/1' is no problem"),
        ([row(entry_point="f()")], "entry_point 'f\\(\\)' is not a name"),
        ([row(atol="0")], "atol '0'"),
        ([row(atol=True)], "atol True"),
        ([row(base_input=[1])], "field 'base_input' is not a list of argument lists"),
        ([row(plus_input=None)], "field 'plus_input' is not a list"),
        ([row(base_input=[[1, 2]])], "'base_input' of 'Mbpp/2' does not have its usual form"),
        ([row(), row()], "'Mbpp/2' is there twice"),
        ([], "no problems in it"),
    ],
)
def test_a_bad_problem_file_is_told_in_one_line(tmp_path: Path, rows: list[Any], message: str) -> None:
    path = write(tmp_path / "p.gz", *rows)
    with pytest.raises(InputError, match=message) as caught:
        read_problems(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"plain text", gzip.compress(b"\xff"), gzip.compress(b"{}")[:-4]])
def test_a_file_of_another_kind_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        read_problems(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_problems(tmp_path / "none.gz")


@pytest.mark.parametrize(
    ("number", "arguments", "converted"),
    [
        (2, [[1, 2], [3]], [(1, 2), (3,)]),
        (63, [[[1, 2], [3]]], [[(1, 2), (3,)]]),
        (75, [[[1], [2]], 3], [[(1,), (2,)], 3]),
        (106, [[1], [2]], [[1], (2,)]),
        (115, [[[1, 1], []]], [[{1}, {}]]),
        (124, ["1", "2j"], [1.0, 2j]),
        (250, [[1], 2], [(1,), 2]),
        (252, ["1+2j"], [1 + 2j]),
        (259, [[[1], [2]], [[3]]], [((1,), (2,)), ((3,),)]),
        (278, [[1, [2, [3]]]], [(1, (2, [3]))]),
        (307, [[1], 2, 3], [(1,), 2, 3]),
        (722, [{"a": [1, 2]}, 3], [{"a": (1, 2)}, 3]),
        (580, [[1, [2, [3]]]], [(1, (2, (3,)))]),
    ],
)
def test_inputs_that_json_cannot_write_are_restored(number: int, arguments: list[Any], converted: Any) -> None:
    result = MBPP_CONVERSIONS[f"Mbpp/{number}"](arguments)
    assert repr(list(result)) == repr(converted)


# Answers


class Colour(IntEnum):
    RED = 3


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=(Counter("b"),)), {"a": ({"b": 1},)}),
        ([Point(1, Colour.RED)], [(1, 3)]),
        ({"a": 1}.keys(), {"a"}),
        ({"a": 1}.items(), {("a", 1)}),
        (Fraction(1, 2), 0.5),
        (Decimal(3), 3),
        (type("Text", (str,), {"__str__": lambda self: "no"})("yes"), "yes"),
        ([None, True, 2, 3.5, 1j, "x", {1}, frozenset({2})], [None, True, 2, 3.5, 1j, "x", {1}, frozenset({2})]),
    ],
)
def test_values_are_reduced_to_equal_builtins(value: Any, expected: Any) -> None:
    assert value == expected
    assert repr(plain(value)) == repr(expected)


@pytest.mark.parametrize(
    "value", [object(), iter([]), range(3), b"x", Fraction(1, 3), Decimal("0.1"), float, {}.values()]
)
def test_values_equal_to_no_builtin_are_no_answers(value: Any) -> None:
    with pytest.raises(ValueError, match="plain"):
        plain(value)


def test_forms_of_an_answer() -> None:
    assert reduce(object(), "nothing") is None
    assert [reduce(value, "not_none") for value in (None, object(), "", False, True)] == [
        False, True, True, False, True,
    ]  # fmt: skip
    assert reduce((x for x in [1, 2, 2]), "set") == {1, 2}
    assert reduce([2, 1], "set") == [2, 1]
    with pytest.raises(TypeError):
        reduce(None, "set")


def test_stand_ins_of_equal_values_are_equal() -> None:
    nest = [(1, [2.0, {"a": {3}}]), [True]]
    equal = [(1.0, [2, {"a": frozenset({3})}]), [1]]
    assert nest == equal
    assert hash(frozen(nest)) == hash(frozen(equal))
    assert frozen(nest) == frozen(equal)
    assert frozen([1, (2,)]) != frozen([1, [2]])


LONG = LARGE + 5
LARGE_CASES = [
    (f"list(range({LONG}))", f"[float(i) for i in range({LONG})]", f"list(range({LONG - 1})) + [-1]"),
    (f"list(range({LONG}))", f"type('L', (list,), {{}})(range({LONG}))", f"tuple(range({LONG}))"),
    (f"[[i] for i in range({LONG})]", f"[[i * True] for i in range({LONG})]", f"[(i,) for i in range({LONG})]"),
    (f"'ab' * {LONG}", f"''.join(['ab'] * {LONG})", f"'ba' * {LONG}"),
    (f"[0.5] * {LONG}", f"[1 / 2] * {LONG}", f"[0.5] * {LONG + 1}"),
    (f"[-1] * {LONG}", f"[-1.0] * {LONG}", f"[-2] * {LONG}"),
    (f"((-1, [2]),) * {LONG}", f"((-1.0, [True * 2]),) * {LONG}", f"((-2, [2]),) * {LONG}"),
]
"""What the reference returns, something equal, something else."""


def test_large_answers_are_compared_without_being_carried() -> None:
    problems = {
        f"Mbpp/{number}": problem(task_id=f"Mbpp/{number}", canonical_solution=f"    return {right}\n")
        for number, (right, _, _) in enumerate(LARGE_CASES)
    }
    solutions = [
        Solution(task_id=f"Mbpp/{number}", code=f"def double(x):\n    return {value}")
        for number, (_, equal, wrong) in enumerate(LARGE_CASES)
        for value in (equal, wrong)
    ]
    limits = GradingLimits(output_bytes=10_000)
    grades = grade_solutions(solutions, problems, measure_references(problems, limits), limits)
    assert [result.base.verdict for result in grades] == ["passed", "wrong"] * len(LARGE_CASES)
    assert [result.plus.verdict for result in grades] == ["passed", "wrong"] * len(LARGE_CASES)


# Verdicts

VERDICTS = [
    ("def double(x):\n    return x + x", "passed", "passed"),
    ("def double(x):\n    return x * 2 if x != 10 else 21", "passed", "wrong at input 2"),
    ("def double(x):\n    return x * 2 if x != 'a' else 'ab'", "wrong at input 1", "passed"),
    ("def double(x):\n    return int(x) * 2", "failed", "failed"),
    ("def double(x):\n    return 2 * x if isinstance(x, int) else iter(x)", "failed", "failed"),
    ("def double(x:", "failed", "failed"),
    ("def twice(x):\n    return x + x", "failed", "failed"),
    ("double = 3", "failed", "failed"),
    ("def double(x: List[int]) -> int:\n    return x * 2", "failed", "failed"),
    ("import sys\nsys.exit()", "failed", "failed"),
    ("import os\ndef double(x):\n    return x * 2 if x != 10 else os._exit(0)", "passed", "crashed"),
    ("def double(x):\n    while x == 'a': pass\n    return x * 2", "timeout", "passed"),
    (
        "def double(x):\n    try:\n        while x == 1: pass\n    except Exception: pass\n    return x * 2",
        "passed",
        "passed",
    ),
    ("while True: pass", "timeout", "timeout"),
    ("def double(x):\n    return 2 * x if x != 2.5 else 5.0000005", "passed", "passed"),
]


@pytest.fixture(scope="module")
def references_of_one() -> dict[str, Reference]:
    return measure_references({"HumanEval/0": problem()})


@pytest.fixture(scope="module")
def grades(references_of_one: dict[str, Reference]) -> dict[str, Grade]:
    limits = GradingLimits(minimum_s=2.0, total_s=4.0)
    solutions = [Solution(task_id="HumanEval/0", code=code) for code, _, _ in VERDICTS]
    results = grade_solutions(solutions, {"HumanEval/0": problem()}, references_of_one, limits)
    return {solution.code: result for solution, result in zip(solutions, results, strict=True)}


@pytest.mark.parametrize(("code", "base", "plus"), VERDICTS)
def test_verdicts(grades: dict[str, Grade], code: str, base: str, plus: str) -> None:
    result = grades[code]
    assert (str(result.base), str(result.plus)) == (base, plus)
    assert result.is_base_passed is (base == "passed")
    assert result.is_plus_passed is (base == plus == "passed")
    assert result.reason == f"base: {base}, plus: {plus}"


def test_after_a_call_that_took_too_long_none_is_made() -> None:
    given = problem(base_inputs=((1,), (2,)))
    program = wrapped(given, "def double(x):\n    while x == 1: pass\n    return x * 2", "base", [0.2, 60.0])
    (outcome,) = run_programs([program], ProgramLimits(time_s=60.0))
    assert [call[1] for call in outcome.values] == [EXPIRED, EXPIRED]


def test_every_call_gets_inputs_of_its_own() -> None:
    shared = [1]
    given = problem(base_inputs=((shared,), (shared,)), plus_inputs=((shared,),))
    code = "def double(x):\n    answer = x * 2\n    x.clear()\n    return answer"
    solution, problems = Solution(task_id=given.task_id, code=code), {given.task_id: given}
    (result,) = grade_solutions([solution], problems, measure_references(problems))
    assert result.is_plus_passed
    assert shared == [1]


def test_solutions_are_graded_in_their_order() -> None:
    other = problem(task_id="HumanEval/1", canonical_solution="    return [x]\n")
    problems = {given.task_id: given for given in (problem(), other)}
    codes = ["def double(x): return [x]", "def double(x): return x * 2"] * 2
    ids = ["HumanEval/1", "HumanEval/1", "HumanEval/0", "HumanEval/0"]
    solutions = [Solution(task_id=task_id, code=code) for task_id, code in zip(ids, codes, strict=True)]
    grades = grade_solutions(solutions, problems, measure_references(problems))
    assert [result.task_id for result in grades] == ids
    assert [result.is_plus_passed for result in grades] == [True, False, False, True]
    assert grade_solutions([], problems, {}) == []


def test_no_expected_value_enters_the_process_of_a_solution() -> None:
    secret = "84629173"
    given = problem(canonical_solution=f"    return {secret}\n")
    problems = {given.task_id: given}
    references = measure_references(problems)
    seen: list[Program] = []

    def spy(programs: Any, limits: ProgramLimits) -> list[Outcome]:
        seen.extend(programs)
        return run_programs(programs, limits)

    solution = Solution(task_id=given.task_id, code="def double(x): return 0")
    (result,) = grade_solutions([solution], problems, references, run=spy)
    assert str(result.base) == "wrong at input 0"
    assert len(seen) == 2
    assert secret not in repr(seen)


def test_a_reference_that_does_not_answer_is_told() -> None:
    given = problem(canonical_solution="    return x * 2 if x != 10 else 1 / 0\n")
    with pytest.raises(MergebenchError, match="'HumanEval/0' gave no answer to its plus inputs \\(failed\\)"):
        measure_references({given.task_id: given})


def test_a_solution_needs_a_problem_and_a_reference(references_of_one: dict[str, Reference]) -> None:
    solution = Solution(task_id="HumanEval/0", code="")
    with pytest.raises(InputError, match="'HumanEval/0'"):
        grade_solutions([solution], {"HumanEval/0": problem()}, {})
    with pytest.raises(InputError, match="'HumanEval/0'"):
        grade_solutions([solution], {}, references_of_one)


@pytest.mark.parametrize(
    "call",
    [None, 3, [0.1, "int", 1], (0.1, "int"), (0.1, "int", 1, 2), (1, "int", 1), (0.1, 1, 1)],
)
def test_a_call_out_of_form_is_a_failure(call: Any) -> None:
    good = (0.1, "int", 1)
    assert read_calls(Outcome(status="completed", values=(good,))) == [(0.1, Answer(value=1, type_name="int"))]
    assert read_calls(Outcome(status="completed", values=(good, call))) == "failed"


# Limits


def test_time_limits() -> None:
    limits = GradingLimits()
    assert (limits.minimum_s, limits.factor) == (4.0, 4.0)
    assert limits.calls_s([0.5, 1.0, 2.5]) == (4.0, 4.0, 10.0)
    assert limits.program_s([]) == 4.0
    assert limits.program_s([0.5]) == 8.0
    assert limits.program_s([0.5, 1.0, 2.5]) == 32.0  # 4 to load, then 4, 4 and 10
    assert limits.program_s([0.1] * 100) == 64.0  # not 404
    assert limits.program_s([0.1] * 200) == 128.0  # 4 and four times 20


@pytest.mark.parametrize("value", [0, -1.0, float("inf"), float("nan")])
def test_limits_are_positive_and_finite(value: float) -> None:
    with pytest.raises(ValueError, match="factor must be above 0"):
        GradingLimits(factor=value)


def test_programs_of_one_time_limit_share_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mergebench_core.evaluation.code_grading.BATCH", 2)
    batches = []

    def echo(programs: Any, limits: ProgramLimits) -> list[Outcome]:
        batches.append((limits.time_s, [program.code for program in programs]))
        return [Outcome(status="completed", values=(program.code,)) for program in programs]

    programs = [Program(code=code, entry_point="f", inputs=()) for code in "abcde"]
    limits = GradingLimits(memory_bytes=1, output_bytes=2)
    outcomes = run_in_batches(programs, [1.0, 2.0, 1.0, 1.0, 2.0], limits, echo)
    assert [outcome.values for outcome in outcomes] == [(code,) for code in "abcde"]
    assert batches == [(1.0, ["a", "c"]), (1.0, ["d"]), (2.0, ["b", "e"])]


# Agreement with EvalPlus


@pytest.fixture(scope="module")
def problems() -> dict[str, CodeProblem]:
    """All 542 problems."""
    for path in FILES:
        if not path.is_file():
            pytest.skip(f"the problem file {path.name} is not in {path.parent}")
    return read_problems(FILES[0]) | read_problems(FILES[1])


def shortened(given: CodeProblem) -> CodeProblem:
    """Return the problem with the inputs that mutants are graded on."""
    return dataclasses.replace(given, plus_inputs=given.plus_inputs[:PLUS_INPUTS])


def taken(expected: Expectation, chosen: slice) -> Expectation:
    return Expectation(answers=expected.answers[chosen], times_s=expected.times_s[chosen])


def is_passed_there(name: str, task_id: str, part: str) -> bool:
    """Say what EvalPlus says."""
    ((kind, task_ids),) = RECORD["verdicts"][name][part].items()
    return (task_id in task_ids.split()) is (kind == "passed")


def disagreements(
    codes: Iterable[tuple[str, str, str]], chosen: Mapping[str, CodeProblem], references: Mapping[str, Reference]
) -> list[str]:
    """Grade named solutions, `(name, task_id, code)`, and list those that EvalPlus graded otherwise."""
    codes = list(codes)
    solutions = [Solution(task_id=task_id, code=code) for _, task_id, code in codes]
    return [
        f"{name} {task_id} {part}: {result.reason}"
        for (name, task_id, _), result in zip(
            codes, grade_solutions(solutions, chosen, references), strict=True
        )
        for part in PARTS
        if (getattr(result, part).verdict == "passed") is not is_passed_there(name, task_id, part)
    ]  # fmt: skip


def mutants(names: Iterable[str], chosen: Mapping[str, CodeProblem]) -> list[tuple[str, str, str]]:
    return [
        (name, task_id, mutant(name, given.reference_code, given.entry_point))
        for name in names
        for task_id, given in chosen.items()
    ]


def test_all_inputs_are_those_of_evalplus(problems: dict[str, CodeProblem]) -> None:
    assert len(problems) == 164 + 378
    rows = [(given.task_id, given.base_inputs, given.plus_inputs) for given in problems.values()]
    assert inputs_digest(rows) == RECORD["inputs_sha256"]


def test_agreement_on_special_problems(problems: dict[str, CodeProblem]) -> None:
    chosen = {task_id: shortened(problems[task_id]) for task_id in SPECIAL}
    references = measure_references(chosen)
    codes = [("reference", task_id, given.reference_code) for task_id, given in chosen.items()]
    codes += mutants(MUTANTS, chosen)
    codes += [(f"extra: {name}", task_id, code) for name, (task_id, code) in EXTRAS.items()]
    assert disagreements(codes, chosen, references) == []


@pytest.fixture(scope="module")
def references(problems: dict[str, CodeProblem]) -> dict[str, Reference]:
    """The references of all problems, on all inputs; takes minutes."""
    return measure_references(problems)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_references_pass(problems: dict[str, CodeProblem], references: dict[str, Reference]) -> None:
    """Slow ones are graded on every tenth plus input; all inputs were answered already."""
    chosen, expected = dict(problems), dict(references)
    for task_id, reference in references.items():
        if sum(reference.plus.times_s) > SLOW_S:
            every_tenth = slice(None, None, 10)
            inputs = problems[task_id].plus_inputs[every_tenth]
            chosen[task_id] = dataclasses.replace(problems[task_id], plus_inputs=inputs)
            expected[task_id] = dataclasses.replace(reference, plus=taken(reference.plus, every_tenth))
    codes = [("reference", task_id, given.reference_code) for task_id, given in chosen.items()]
    assert disagreements(codes, chosen, expected) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_agreement_on_mutants_of_all_problems(
    problems: dict[str, CodeProblem], references: dict[str, Reference]
) -> None:
    chosen = {task_id: shortened(given) for task_id, given in problems.items()}
    expected = {
        task_id: dataclasses.replace(reference, plus=taken(reference.plus, slice(PLUS_INPUTS)))
        for task_id, reference in references.items()
    }
    for task_id, reference in expected.items():
        if sum(reference.base.times_s) + sum(reference.plus.times_s) > SLOW_S:
            del chosen[task_id]
    assert len(chosen) > 500
    assert disagreements(mutants(SLOW_TEST_MUTANTS, chosen), chosen, expected) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_only_the_known_problems_have_large_answers(references: dict[str, Reference]) -> None:
    """Answers told by their hash know no tolerance; none of these problems needs one."""
    large = [
        task_id
        for task_id, reference in references.items()
        for answer in (*reference.base.answers, *reference.plus.answers)
        if isinstance(answer.value, tuple) and answer.value[:1] == (answer.type_name,)
    ]
    assert list(dict.fromkeys(large)) == LARGE_ANSWERS
