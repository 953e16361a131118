"""Problems of HumanEval+ and MBPP+, read from EvalPlus' release files.

Source of formats and conversions: evalplus 0.3.1, `data/humaneval.py` and `data/mbpp.py`. JSON has no tuples, sets
or complex numbers; the inputs of the MBPP problems named below are turned back into what their functions expect.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergebench_core.errors import InputError

Inputs = tuple[tuple[object, ...], ...]
"""Positional arguments of each call."""

TASK_ID = re.compile(r"(HumanEval|Mbpp)/[0-9]+")
REMEDY = "use HumanEvalPlus.jsonl.gz or MbppPlus.jsonl.gz as EvalPlus released them"


@dataclass(frozen=True, kw_only=True)
class CodeProblem:
    """One function to write, with the inputs that it is tried on."""

    task_id: str
    """`HumanEval/<number>` or `Mbpp/<number>`."""
    prompt: str
    """What a model is given: an open function or a docstring."""
    entry_point: str
    """Name of the function."""
    canonical_solution: str
    """Continues the prompt; its values are the expected ones."""
    base_inputs: Inputs
    """Those of the original benchmark."""
    plus_inputs: Inputs
    """Those that EvalPlus added; none for Mbpp/793."""
    atol: float
    """Absolute tolerance; 0 asks for equality, except of floats (see `oracles`)."""

    @property
    def is_mbpp(self) -> bool:
        """Whether the oracles of MBPP+ apply, else those of HumanEval+."""
        return self.task_id.startswith("Mbpp/")

    @property
    def reference_code(self) -> str:
        """The reference solution as a whole program."""
        return self.complete(self.canonical_solution)

    def complete(self, completion: str) -> str:
        """Return the program that a completion of the prompt makes."""
        return self.prompt + completion


def read_problems(path: Path) -> dict[str, CodeProblem]:
    """Read a release file and return its problems by `task_id`, in their order.

    Raises:
        InputError: the file cannot be read or a line is not a problem.
    """
    problems: dict[str, CodeProblem] = {}
    for number, line in enumerate(_lines(path), start=1):
        try:
            problem = parse_problem(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise InputError(f"'{path}', line {number}: {error}; {REMEDY}") from None
        if problem.task_id in problems:
            raise InputError(f"'{path}', line {number}: '{problem.task_id}' is there twice; {REMEDY}")
        problems[problem.task_id] = problem
    if not problems:
        raise InputError(f"'{path}': no problems in it; {REMEDY}")
    return problems


def _lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            yield from (line for line in file if line.strip())
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"'{path}': cannot be read: {error}; {REMEDY}") from None


def parse_problem(row: object) -> CodeProblem:
    """Build a problem from one decoded line.

    Raises:
        ValueError: a field is missing or of the wrong kind.
    """
    if not isinstance(row, dict):
        raise ValueError("not an object")
    task_id, entry_point = _text(row, "task_id"), _text(row, "entry_point")
    if not TASK_ID.fullmatch(task_id):
        raise ValueError(f"'{task_id}' is no problem of HumanEval+ or MBPP+")
    if not entry_point.isidentifier():
        raise ValueError(f"entry_point '{entry_point}' is not a name")
    atol = _field(row, "atol")
    if type(atol) not in (int, float) or not 0 <= atol < 1:
        raise ValueError(f"atol {atol!r} is not a number from 0 to 1")
    return CodeProblem(
        task_id=task_id,
        prompt=_text(row, "prompt"),
        entry_point=entry_point,
        canonical_solution=_text(row, "canonical_solution"),
        base_inputs=_inputs(row, "base_input", task_id),
        plus_inputs=_inputs(row, "plus_input", task_id),
        atol=float(atol),
    )


def _field(row: Mapping[str, Any], name: str) -> Any:
    if name not in row:
        raise ValueError(f"field '{name}' is missing")
    return row[name]


def _text(row: Mapping[str, Any], name: str) -> str:
    value = _field(row, name)
    if not isinstance(value, str):
        raise ValueError(f"field '{name}' is not a text")
    return value


def _inputs(row: Mapping[str, Any], name: str, task_id: str) -> Inputs:
    calls = _field(row, name)
    if calls == {}:  # so written for Mbpp/793, which has none
        return ()
    if not isinstance(calls, list) or not all(isinstance(arguments, list) for arguments in calls):
        raise ValueError(f"field '{name}' is not a list of argument lists")
    convert = MBPP_CONVERSIONS.get(task_id, list)
    try:
        return tuple(tuple(convert(arguments)) for arguments in calls)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise ValueError(f"field '{name}' of '{task_id}' does not have its usual form: {error}") from None


Conversion = Callable[[Any], Any]


def every(convert: Conversion) -> Conversion:
    """Convert each item of a list, or each argument of a call."""
    return lambda items: [convert(item) for item in items]


def argument(index: int, convert: Conversion) -> Conversion:
    """Convert one argument of a call."""
    return lambda arguments: [convert(item) if at == index else item for at, item in enumerate(arguments)]


def tuple_of(convert: Conversion) -> Conversion:
    """Convert each item and make the whole a tuple."""
    return lambda items: tuple(convert(item) for item in items)


def tuple_if_list(value: object) -> object:
    """Turn a list into a tuple, leave anything else."""
    return tuple(value) if isinstance(value, list) else value


def deep_tuple(value: object) -> object:
    """Turn lists at every depth into tuples."""
    return tuple(map(deep_tuple, value)) if isinstance(value, list) else value


def set_or_dict(value: object) -> object:
    """Turn a filled list into a set; anything else becomes an empty dict, as in EvalPlus."""
    return set(value) if isinstance(value, list) and value else {}


def tuple_values(value: dict[object, Iterable[object]]) -> dict[object, tuple[object, ...]]:
    """Turn the values of a dict into tuples."""
    return {key: tuple(items) for key, items in value.items()}


_CONVERSION_GROUPS: list[tuple[Conversion, str]] = [
    (every(tuple), "2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 744 809"),
    (every(every(tuple)), "63 64 70 94 120 237 272 299 400 409 417 438 473 614 780"),
    (every(tuple_of(tuple)), "259 401 445"),
    (every(deep_tuple), "580 615 791"),
    (argument(0, every(tuple)), "75 413 444 753"),
    (argument(0, tuple), "250 307 405 446 617 720 763 808"),
    (argument(0, tuple_of(tuple_if_list)), "278"),
    (argument(0, every(set_or_dict)), "115"),
    (argument(0, complex), "252"),
    (argument(0, tuple_values), "722"),
    (argument(1, tuple), "106 750"),
    (lambda arguments: [float(arguments[0]), complex(arguments[1])], "124"),
]
MBPP_CONVERSIONS: dict[str, Conversion] = {
    f"Mbpp/{number}": convert for convert, numbers in _CONVERSION_GROUPS for number in numbers.split()
}
"""What makes a call's arguments of its JSON list; problems that are not named need nothing."""
