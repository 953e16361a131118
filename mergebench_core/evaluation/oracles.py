"""When a solution's answers count as right: EvalPlus' comparisons, on plain builtins.

Source: evalplus 0.3.1, `eval/__init__.py` (`unsafe_execute`, `is_floats`) and `eval/_special_oracle.py`. One fault
of 0.3.1 is not ported: it fails every solution of HumanEval/32, because it forgets to note what passed (mended on
its main branch). `np.allclose` is written out, so that grading needs no numpy.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mergebench_core.evaluation.code_problems import CodeProblem

FLOAT_ATOL = 1e-6
"""Takes the place of a tolerance of 0 from the first expected float on."""
RTOL = 1e-7
INTEGERS = range(-(2**63), 2**64)
"""Integers that numpy can hold in an array of numbers."""

NOT_NONE = frozenset({"check_str", "text_match_three", "text_starta_endb"})
"""Problems of MBPP+ whose answers are match objects: only whether there is one counts."""
SETS = frozenset(
    {
        "similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum",
        "intersection_array", "find_dissimilar", "Diff",
    }
)  # fmt: skip
"""Problems of MBPP+ whose answers are compared as sets."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a solution returned, as far as it is compared."""

    value: Any
    """Builtins only; equal to the returned value."""
    type_name: str
    """Name of the returned value's own type: a tolerance is granted only within one type."""


Exact = Callable[[Sequence[Any], Any, Any, float], bool]
"""Whether a value is right without tolerance, given the arguments, the value, the expected one, and atol."""


def answer_form(problem: CodeProblem) -> str:
    """Return what of a problem's answers is compared, in the words of `solution_wrapper.wrap`."""
    if problem.is_mbpp and problem.entry_point == "are_equivalent":  # Mbpp/164: any answer will do
        return "nothing"
    if problem.is_mbpp and problem.entry_point in NOT_NONE:
        return "not_none"
    return "set" if problem.is_mbpp and problem.entry_point in SETS else "value"


def first_mismatch(
    problem: CodeProblem, inputs: Sequence[Sequence[Any]], expected: Sequence[Answer], answers: Sequence[Answer]
) -> int | None:
    """Return the position of the first wrong answer, or None.

    The tolerance that a float brings stays for the inputs after it, whatever they expect.
    """
    atol = problem.atol
    is_root_wanted = not problem.is_mbpp and problem.entry_point == "find_zero"  # HumanEval/32
    exact = EXACT.get(problem.entry_point, equal) if problem.is_mbpp else equal
    for index, (arguments, right, answer) in enumerate(zip(inputs, expected, answers, strict=True)):
        try:
            if is_root_wanted:
                is_right = abs(polynomial(arguments[0], answer.value)) <= atol
            else:
                is_exact = exact(arguments, answer.value, right.value, atol)
                atol = FLOAT_ATOL if atol == 0 and is_floats(right.value) else atol
                is_right = is_exact or (atol != 0 and is_close(answer, right, atol))
        except (TypeError, ValueError, OverflowError, RecursionError):
            is_right = False
        if not is_right:
            return index
    return None


def is_floats(value: object) -> bool:
    """Whether a value is a float, or a list or tuple of nothing but floats."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def is_close(answer: Answer, right: Answer, atol: float) -> bool:
    """Whether an answer has the expected type and is near enough.

    Raises:
        TypeError, ValueError, OverflowError: these are not numbers, or not of one shape.
    """
    if answer.type_name != right.type_name or type(answer.value) is not type(right.value):
        return False
    return all_close(answer.value, right.value, atol)


def all_close(value: Any, right: Any, atol: float) -> bool:
    """Do what `np.allclose(value, right, rtol=1e-7, atol=atol)` of numpy 2 does, without broadcasting.

    Raises:
        TypeError, ValueError, OverflowError: as numpy does for what is no number or ragged.
    """
    if not isinstance(right, (list, tuple)):
        return near(value, right, atol)
    if shape(value) != shape(right):
        raise ValueError("not of one shape")
    pairs = list(zip(leaves(value), leaves(right), strict=True))
    if any(type(leaf) is int and leaf not in INTEGERS for pair in pairs for leaf in pair):
        raise TypeError("too large an integer")
    return all(near(leaf, right_leaf, atol) for leaf, right_leaf in pairs)


def near(value: Any, right: Any, atol: float) -> bool:
    """Compare two numbers, relative to the second.

    Raises:
        TypeError, OverflowError: these are not numbers that a float can hold.
    """
    if not all(isinstance(number, (int, float, complex)) for number in (value, right)):
        raise TypeError("not a number")
    right = right if isinstance(right, complex) else float(right)
    difference = abs(value - right)
    return bool(value == right or (cmath.isfinite(right) and difference <= atol + RTOL * abs(right)))


def shape(value: object) -> tuple[int, ...]:
    """Return the lengths at each depth.

    Raises:
        ValueError: a ragged nest.
    """
    if not isinstance(value, (list, tuple)):
        return ()
    shapes = {shape(item) for item in value}
    if len(shapes) > 1:
        raise ValueError("ragged")
    return len(value), *(shapes.pop() if shapes else ())


def leaves(value: Any) -> list[Any]:
    """Return the items at the bottom of a nest, in order."""
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, (list, tuple)) else [value]


def equal(arguments: Sequence[Any], value: Any, right: Any, atol: float) -> bool:
    """Plain equality, across types that Python calls equal."""
    return bool(value == right)


def equal_or_zero(arguments: Sequence[Any], value: Any, right: Any, atol: float) -> bool:
    """Mbpp/295, sum of divisors: 0 will always do."""
    return bool(value == right or value == 0)


def equal_as_sets(arguments: Sequence[Any], value: Any, right: Any, atol: float) -> bool:
    """Order and repetition do not count."""
    return set(value) == set(right)


def padded_distance(arguments: Sequence[Any], value: Any, right: Any, atol: float) -> bool:
    """Mbpp/558, distance of digits: the shorter number may also be filled up with zeros."""
    return bool(value == right or value == digit_distance(*arguments))


def true_height(arguments: Sequence[Any], value: Any, right: Any, atol: float) -> bool:
    """Mbpp/581, surface of a pyramid: the height may also be the one from base to apex."""
    return bool(value == right or abs(value - pyramid_surface(*arguments)) <= atol)


EXACT: dict[str, Exact] = {
    "sum_div": equal_or_zero,
    "digit_distance_nums": padded_distance,
    "surface_Area": true_height,
    **dict.fromkeys(SETS, equal_as_sets),
}
"""Comparisons of MBPP+ that are not plain equality."""


def digit_distance(first: int, second: int) -> int:
    """Return the sum of differences of two numbers' digits, the shorter one led by zeros."""
    width = max(len(str(first)), len(str(second)))
    digits = zip(str(first).zfill(width), str(second).zfill(width), strict=True)
    return sum(abs(int(one) - int(other)) for one, other in digits)


def pyramid_surface(base_edge: float, height: float) -> int:
    """Return the surface of a square pyramid from its base edge and its true height, rounded."""
    slant_height = math.sqrt((base_edge / 2) ** 2 + height**2)
    return round(base_edge**2 + 4 * (base_edge * slant_height) / 2)


def polynomial(coefficients: Sequence[float], x: float) -> float:
    """Return the polynomial's value at x; coefficients rise with the power."""
    return sum([coefficient * math.pow(x, power) for power, coefficient in enumerate(coefficients)])
