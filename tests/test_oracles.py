"""Comparisons of answers: the rules of EvalPlus, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mergebench_core.evaluation.code_problems import CodeProblem
from mergebench_core.evaluation.oracles import (
    NOT_NONE,
    SETS,
    Answer,
    all_close,
    answer_form,
    digit_distance,
    first_mismatch,
    polynomial,
    pyramid_surface,
)


def problem(entry_point: str = "f", task_id: str = "Mbpp/1", atol: float = 0.0) -> CodeProblem:
    return CodeProblem(
        task_id=task_id, prompt="", entry_point=entry_point, canonical_solution="", base_inputs=(), plus_inputs=(),
        atol=atol,
    )  # fmt: skip


def answer(value: Any, type_name: str | None = None) -> Answer:
    return Answer(value=value, type_name=type_name or type(value).__name__)


def mismatch(
    given_problem: CodeProblem,
    expected: Sequence[Any],
    values: Sequence[Any],
    inputs: Sequence[Sequence[Any]] | None = None,
) -> int | None:
    return first_mismatch(
        given_problem, inputs or [()] * len(expected), list(map(answer, expected)), list(map(answer, values))
    )


def test_the_first_wrong_answer_is_named() -> None:
    assert mismatch(problem(), [1, 2, 3], [1, 2, 3]) is None
    assert mismatch(problem(), [1, 2, 3, 4], [1, 2, 5, 6]) == 2
    assert mismatch(problem(), [], []) is None


def test_every_input_needs_its_answer() -> None:
    with pytest.raises(ValueError):
        mismatch(problem(), [1, 2], [1], inputs=[(), ()])


@pytest.mark.parametrize(
    ("expected", "value", "is_right"),
    [
        (3, 3.0, True),
        (True, 1, True),
        ([1, 2.0], [1.0, 2], True),
        ({1: 2}, {1.0: 2.0}, True),
        ((1, 2), [1, 2], False),
        (None, 0, False),
        ("1", 1, False),
        (float("inf"), float("inf"), True),
        (float("nan"), float("nan"), False),
    ],
)
def test_equality_is_that_of_python(expected: Any, value: Any, is_right: bool) -> None:
    assert (mismatch(problem(), [expected], [value]) is None) is is_right


@pytest.mark.parametrize(
    ("expected", "value", "is_right"),
    [
        (1.0, 1.0 + 9e-7, True),
        (1.0, 1.0 + 1.2e-6, False),
        (100.0, 100.0 + 1.05e-5, True),  # 1e-6 + 1e-7 of 100 is 1.1e-5
        (100.0, 100.0 + 1.15e-5, False),
        ([1.0, 2.0], [1.0, 2.0 + 9e-7], True),
        ((1.0, 2.0), (1.0, 2.0 + 9e-7), True),
        ([1.0, 2.0], [1.0, 2.0 + 2e-6], False),
        ([1.0, 2.0], (1.0, 2.0 + 9e-7), False),
        ([1.0, 1.0], [1.0 + 9e-7], False),
        ([1.0], [1.0 + 9e-7, 1.0], False),
        ([1.0, 2], [1.0 + 9e-7, 2], False),  # not floats alone
        ([[1.0]], [[1.0 + 9e-7]], False),  # neither
        ({1.0}, {1.0 + 9e-7}, False),
        (10**9, 10**9 + 1, False),  # near, but no float is expected
        (1.0, None, False),
        (1.0, "1.0", False),
        (1.0, [1.0], False),
        (1.0, complex(1.0 + 9e-7), False),
    ],
)
def test_floats_have_a_tolerance_within_one_type_and_length(expected: Any, value: Any, is_right: bool) -> None:
    assert (mismatch(problem(), [expected], [value]) is None) is is_right


def test_a_derived_type_is_equal_but_not_near() -> None:
    one = [answer(1.0)]
    assert first_mismatch(problem(), [()], one, [answer(1.0, "OwnFloat")]) is None
    assert first_mismatch(problem(), [()], one, [answer(1.0 + 9e-7, "OwnFloat")]) == 0
    assert first_mismatch(problem(), [()], [answer([1.0])], [answer((1.0 + 9e-7,), "list")]) == 0


def test_the_tolerance_stays_after_the_first_expected_float() -> None:
    large, larger = 10**9, 10**9 + 50  # 1e-7 of it is 100
    assert mismatch(problem(), [large, 1.0], [larger, 1.0]) == 0
    assert mismatch(problem(), [1.0, large], [1.0, larger]) is None
    assert mismatch(problem(), [[1.0], [large]], [[1.0], [larger]]) is None
    assert mismatch(problem(), [[], large], [[], larger]) == 1  # an empty list is no list of floats
    assert mismatch(problem(), [[1.0, 1], large], [[1.0, 1], larger]) == 1
    assert mismatch(problem(), [1.0, [[large]]], [1.0, [[larger]]]) is None


def test_a_tolerance_of_the_problem_holds_for_every_type_and_is_not_replaced() -> None:
    assert mismatch(problem(atol=1e-4), [1.0], [1.0 + 9e-5]) is None
    assert mismatch(problem(atol=1e-4), [1.0], [1.0 + 2e-4]) == 0
    assert mismatch(problem(atol=1e-4), [[(1.0, 2)]], [[(1.0 + 9e-5, 2)]]) is None
    assert mismatch(problem(atol=1e-4), [1], [1 + 9e-5]) == 0


@pytest.mark.parametrize("name", sorted(SETS))
def test_sets_of_mbpp(name: str) -> None:
    assert mismatch(problem(name), [[1, 2], (3, 3)], [(2, 1, 1), [3]]) is None
    assert mismatch(problem(name), [[1, 2]], [[1, 2, 3]]) == 0
    assert mismatch(problem(name), [[[1]]], [[[1]]]) == 0  # lists are not hashable: an error, so a failure
    assert mismatch(problem(name), [[1]], [None]) == 0
    assert mismatch(problem(name), [[1.0]], [[1.0 + 9e-7]]) is None
    assert mismatch(problem(name, "HumanEval/1"), [[1, 2]], [[2, 1]]) == 0


def test_what_is_compared_of_an_answer() -> None:
    assert {answer_form(problem(name)) for name in NOT_NONE} == {"not_none"}
    assert {answer_form(problem(name)) for name in SETS} == {"set"}
    assert answer_form(problem("are_equivalent")) == "nothing"
    assert answer_form(problem("f")) == "value"
    for name in (*NOT_NONE, *SETS, "are_equivalent"):
        assert answer_form(problem(name, "HumanEval/1")) == "value"


def test_mbpp_295_takes_a_zero_for_any_sum() -> None:
    assert mismatch(problem("sum_div"), [7, 7, 7], [7, 0, 6]) == 2
    assert mismatch(problem("sum_div", "HumanEval/1"), [7], [0]) == 0


def test_mbpp_558_takes_padded_numbers() -> None:
    assert digit_distance(1, 256) == 2 + 5 + 5
    inputs = [(1, 256)] * 3
    assert mismatch(problem("digit_distance_nums"), [1, 1, 1], [1, 12, 13], inputs) == 2
    assert mismatch(problem("digit_distance_nums", "HumanEval/1"), [1], [12], inputs[:1]) == 0


def test_mbpp_581_takes_the_true_height() -> None:
    assert pyramid_surface(6, 4) == 36 + 2 * 6 * 5
    inputs = [(6, 4)] * 3
    assert mismatch(problem("surface_Area"), [84, 84, 84], [84, 96, 95], inputs) == 2
    assert mismatch(problem("surface_Area"), [84], [None], inputs[:1]) == 0
    assert mismatch(problem("surface_Area", "HumanEval/1"), [84], [96], inputs[:1]) == 0


def test_humaneval_32_takes_any_root() -> None:
    assert polynomial([1, 2, 3], 2.0) == 1 + 4 + 12
    find_zero = problem("find_zero", "HumanEval/32", atol=1e-4)
    inputs = [([-1, 0, 1],)] * 3  # x² = 1
    assert mismatch(find_zero, [1.0] * 3, [1, -1.0, 1.00004], inputs) is None
    assert mismatch(find_zero, [1.0] * 3, [1, -1.0, 1.00006], inputs) == 2
    for value in (None, "1", [1.0], 1e200, 1j):
        assert mismatch(find_zero, [1.0], [value], inputs[:1]) == 0


@pytest.mark.parametrize("value", [None, "x", [1.0, "x"], [1.0, None], [[1.0], [1.0, 2.0]], [2**64], {1.0}])
def test_only_numbers_of_one_shape_are_near(value: Any) -> None:
    pytest.importorskip("numpy")
    with pytest.raises((TypeError, ValueError)):
        all_close(value, value, 1e-6)
    with pytest.raises((TypeError, ValueError)):
        numpy_all_close(value, value, 1e-6)


numbers = (
    st.integers(-(2**62), 2**62)
    | st.booleans()
    | st.floats(width=32)
    | st.sampled_from([0.0, 1.0, -1.0, 1e9, float("inf"), float("-inf"), float("nan")])
    | st.complex_numbers(max_magnitude=1e6)
)
pairs = st.tuples(numbers, st.sampled_from([0, 5e-7, 1e-6, 2e-6, 1e-4, 1])).map(lambda pair: (sum(pair), pair[0]))
nests = st.recursive(
    pairs, lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple), max_leaves=6
)


def side(nest: Any, index: int) -> Any:
    """Take the answer (0) or the expected value (1) of a nest of pairs."""
    if isinstance(nest, list):
        return [side(item, index) for item in nest]
    is_pair = len(nest) == 2 and all(isinstance(item, (int, float, complex)) for item in nest)
    return nest[index] if is_pair else tuple(side(item, index) for item in nest)


@given(nests)
@example((2e-6 + 0, 1e-6))
@example([(1.0 + 1.05e-6, 1.0)])
def test_nearness_is_that_of_numpy(nest: Any) -> None:
    value, right = side(nest, 0), side(nest, 1)
    assert judged(all_close, value, right) == judged(numpy_all_close, value, right)


def judged(compare: Any, value: Any, right: Any) -> bool:
    try:
        return bool(compare(value, right, 1e-6))
    except (TypeError, ValueError, OverflowError):
        return False


def numpy_all_close(value: Any, right: Any, atol: float) -> bool:
    numpy = pytest.importorskip("numpy")
    return bool(numpy.allclose(value, right, rtol=1e-7, atol=atol))


@pytest.mark.parametrize(
    ("value", "right", "is_near"),
    [
        (1e7 + 1.00000105, 1e7, False),  # the second counts: 1e-6 + 1e-7 of it is 1.000001
        (1e7, 1e7 + 1.00000105, True),
        (1.0, float("inf"), False),
        (float("inf"), 1.0, False),
        (float("-inf"), float("inf"), False),
        ([float("inf"), 1], [float("inf"), 1.0], True),
        (complex("inf"), complex("inf"), True),
        (True, False, False),
    ],
)
def test_nearness_is_relative_to_the_expected_number(value: Any, right: Any, is_near: bool) -> None:
    assert all_close(value, right, 1e-6) is is_near
    assert numpy_all_close(value, right, 1e-6) is is_near


def test_a_fraction_is_no_builtin_number() -> None:
    with pytest.raises(TypeError):
        all_close(Fraction(1), 1.0, 1e-6)
