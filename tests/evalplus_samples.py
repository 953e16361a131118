"""Solutions to grade: references, wrong and odd ones. Standard library only: the recording script runs it too."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

PLUS_INPUTS = 20
"""Mutants are graded on the base inputs and this many of the plus inputs."""

HELPERS = """
import collections
class OwnList(list): pass
class OwnTuple(tuple): pass
class OwnSet(set): pass
class OwnInt(int): pass
class OwnFloat(float): pass
class OwnStr(str): pass
OWN = {list: OwnList, tuple: OwnTuple, set: OwnSet, int: OwnInt, bool: OwnInt, float: OwnFloat, str: OwnStr,
       dict: collections.OrderedDict}
OTHER = {bool: int, int: float, float: complex, str: list, list: tuple, tuple: list, set: frozenset,
         dict: lambda value: list(value.items())}
SHIFTED = {bool: lambda value: not value, int: lambda value: value + 1, float: lambda value: value + 1,
           complex: lambda value: value + 1, str: lambda value: value + "x", list: lambda value: value[:-1] or [0],
           tuple: lambda value: value[:-1] or (0,), set: lambda value: value ^ {"x"},
           dict: lambda value: {**value, "x": 1}}
state = []
def by_type(table, value):
    return table.get(type(value), lambda value: value)(value)
def noisy(value, size, kinds=(float,)):
    if type(value) in (list, tuple):
        return type(value)([noisy(item, size, kinds) for item in value])
    return value + size if type(value) in kinds else value
def late(value):
    state.append(None)
    return by_type(SHIFTED, value) if len(state) > 12 else value
def cleared(value, arguments):
    for argument in arguments:
        if isinstance(argument, (list, dict, set)):
            argument.clear()
    return value
def fraction(value):
    import fractions
    try:
        return fractions.Fraction(value)
    except (TypeError, ValueError, OverflowError):
        return value
"""

MUTANTS = {
    "true": "True",
    "opaque": "object()",
    "raises": "1 / 0",
    "late": "late(value)",
    "retype": "by_type(OTHER, value)",
    "retype_noise": "by_type(OTHER, noisy(value, 5e-7))",
    "noise_5e-7": "noisy(value, 5e-7)",
    "noise_5e-6": "noisy(value, 5e-6)",
    "noise_5e-3": "noisy(value, 5e-3)",
    "noise_all": "noisy(value, 5e-7, (int, float))",
    "own_type": "by_type(OWN, value)",
    "own_type_noise": "by_type(OWN, noisy(value, 5e-7))",
    "fraction": "fraction(value)",
    "iterator": "iter(value) if isinstance(value, (list, tuple, set, dict, str)) else value",
    "reversed": "value[::-1] if isinstance(value, (list, tuple, str)) else value",
    "clears_inputs": "cleared(value, arguments)",
}
"""What each mutant returns; `value` is what the reference returned."""


def mutant(name: str, canonical_code: str, entry_point: str) -> str:
    """Return the code of a solution that spoils what the reference returns."""
    return (
        f"space = {{}}\nexec({canonical_code!r}, space)\nreference = space[{entry_point!r}]\n{HELPERS}\n"
        f"def {entry_point}(*arguments):\n    value = reference(*arguments)\n    return {MUTANTS[name]}\n"
    )


def inputs_digest(problems: Iterable[tuple[str, Iterable[Any], Iterable[Any]]]) -> str:
    """Return a digest of the inputs of problems (name, base, plus), sensitive to every value and type."""
    digest = hashlib.sha256()
    for task_id, base, plus in problems:
        digest.update(repr((task_id, list(map(tuple, base)), list(map(tuple, plus)))).encode())
    return digest.hexdigest()


EXTRAS = {
    "true height of a pyramid": (
        "Mbpp/581",
        "def surface_Area(b, h):\n    return round(b * b + 2 * b * (b * b / 4 + h * h) ** 0.5)",
    ),
    "half of the pyramid": ("Mbpp/581", "def surface_Area(b, h):\n    return b * b + b * h"),
    "digits padded": (
        "Mbpp/558",
        "def digit_distance_nums(a, b):\n    n = max(len(str(a)), len(str(b)))\n"
        "    return sum(abs(int(x) - int(y)) for x, y in zip(str(a).zfill(n), str(b).zfill(n)))",
    ),
    "digits not padded": (
        "Mbpp/558",
        "def digit_distance_nums(a, b):\n    return sum(abs(int(x) - int(y)) for x, y in zip(str(a), str(b)))",
    ),
    "another root": (
        "HumanEval/32",
        "def find_zero(xs):\n"
        "    def p(x):\n        return sum(c * x ** i for i, c in enumerate(xs))\n"
        "    end = 1.0\n    while p(end) * p(-end) > 0:\n        end *= 2\n"
        "    low, high = (-end, end) if p(-end) < p(end) else (end, -end)\n"
        "    for _ in range(500):\n"
        "        middle = low + (high - low) * 0.37\n"
        "        low, high = (middle, high) if p(middle) < 0 else (low, middle)\n"
        "    return low",
    ),
    "no root": ("HumanEval/32", "def find_zero(xs):\n    return 0.5"),
    "text for a root": ("HumanEval/32", "def find_zero(xs):\n    return '0.5'"),
    "annotations without import": (
        "HumanEval/3",
        "def below_zero(operations: List[int]) -> bool:\n    total = 0\n    for o in operations:\n"
        "        total += o\n        if total < 0:\n            return True\n    return False",
    ),
    "found or not": (
        "Mbpp/787",
        "import re\ndef text_match_three(text):\n    return bool(re.search('ab{3}?', text))",
    ),
    "match object": ("Mbpp/787", "import re\ndef text_match_three(text):\n    return re.search('ab{3}?', text)"),
    "words": (
        "Mbpp/787",
        "import re\ndef text_match_three(text):\n"
        "    return 'Found a match!' if re.search('ab{3}?', text) else 'Not matched!'",
    ),
    "generator": ("Mbpp/2", "def similar_elements(a, b):\n    return (x for x in a if x in b)"),
    "counter": ("Mbpp/88", "from collections import Counter\ndef freq_count(items):\n    return Counter(items)"),
    "plain counts": ("Mbpp/88", "def freq_count(items):\n    return {x: items.count(x) for x in items}"),
    "does not compile": ("Mbpp/88", "def freq_count(items:\n    return {}"),
    "other name": ("Mbpp/88", "def frequency(items):\n    return {x: items.count(x) for x in items}"),
    "ends on a decorator": ("Mbpp/88", "def freq_count(items):\n    return {}\n@freq_count"),
}
"""Solutions written by hand: name -> problem and code."""
