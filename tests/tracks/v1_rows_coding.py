"""Made-up rows in the published form of the coding sets, any number of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Rows = list[dict[str, Any]]

_INTENTS = ("multiply each item of list {name} by {n}", "get item {n} of list {name}", "print {n} with {name}")
_SNIPPETS = ("[x * {n} for x in {name}]", "{name}[{n}]", "print('%d %s' % ({n}, {name}))")


def humaneval_rows(num_rows: int) -> Rows:
    """Return rows of evalplus/humanevalplus_release."""
    return [
        {
            "task_id": f"HumanEval/{n}",
            "prompt": "from typing import List\n\n\n"
            f"def scale_{n}(values: List[int]) -> List[int]:\n"
            f'    """ Multiply each value by {n + 2}.\n    >>> scale_{n}([1])\n    [{n + 2}]\n    """\n',
            "entry_point": f"scale_{n}",
            "canonical_solution": f"\n\n    return [value * {n + 2} for value in values]\n\n",
            "test": f"def check(candidate):\n    assert candidate([1]) == [{n + 2}]\n",
            "contract": '\n    assert isinstance(values, list), "invalid inputs" # $_CONTRACT_$\n',
            "base_input": [[[1, 2]], [[]]],
            "atol": 0,
            "plus_input": [[[-1]], [[10**20, 0]]],
        }
        for n in range(num_rows)
    ]


def mbpp_rows(num_rows: int) -> Rows:
    """Return rows of evalplus/mbppplus_release."""
    return [
        {
            "task_id": f"Mbpp/{1000 + n}",
            "prompt": f'"""\nWrite a function to add {n} to the sum of the given list.\n'
            f'assert total_{n}([1, 2]) == {n + 3}\n"""\n',
            "entry_point": f"total_{n}",
            "canonical_solution": f"\ndef total_{n}(items):\n  return sum(items) + {n}\n",
            "base_input": [[[1, 2]]],
            "atol": 0,
            "plus_input": [[[]], [[0.5, 0.25]]],
            "contract": "",
            "assertion": f"\nassert total_{n}([1, 2]) == {n + 3}\n",
        }
        for n in range(num_rows)
    ]


def conala_rows(num_rows: int) -> Rows:
    """Return rows of CoNaLa: some questions have several rows, some rows no rewritten intent."""
    return [
        {
            "question_id": 15_000_000 + n // 2,
            "intent": f"How to work with list number {n // 2}?",
            "rewritten_intent": None if n % 7 == 3 else _INTENTS[n % 3].format(n=n, name=f"`my_list_{n // 2}`"),
            "snippet": _SNIPPETS[n % 3].format(n=n, name=f"my_list_{n // 2}"),
        }
        for n in range(num_rows)
    ]


_HUMANEVAL = "raw/200defce9e3429d28ca215b6dd061c0f7f31c18b/HumanEvalPlus.jsonl.gz"
_MBPP = "raw/dadf43da556a00f7bacd71cb154f2932757d9144/MbppPlus.jsonl.gz"
_CONALA = "raw/5c9a15b1f5ab0fd7d8b6cd87735505c0d4028b38/data/conala-test.json"
PUBLISHED_ROWS: dict[str, Callable[[int], Rows]] = {
    f"evalplus/humanevalplus_release|{_HUMANEVAL}": humaneval_rows,
    f"evalplus/mbppplus_release|{_MBPP}": mbpp_rows,
    f"ypapanik/t5-for-code-generation|{_CONALA}": conala_rows,
}
NUM_PUBLISHED_ROWS: dict[str, int] = dict(zip(PUBLISHED_ROWS, (164, 378, 500), strict=True))
"""With so many rows each set has the number of items that the track says."""
