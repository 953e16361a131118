"""Domain coding: short Python functions, tested by running them."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Literal

from mergebench_core.tracks.mini_v1.recipe.world import Example, Item, Slice, World

Phrasing = Literal["write", "docstring", "complete", "comment"]
_FUNCTIONS = ("f", "g", "run")
_ARGUMENTS = ("x", "y", "n", "a", "s", "b", "m", "t", "v", "w")
_INTEGERS = tuple([n] for n in (-4, 0, *range(1, 14), 20))
_PAIRS = ([3, 8], [9, 2], [-5, 4], [0, 6], [7, 7])
_LISTS = ([[4, 1, 3, 5, 2]], [[10, -2, 7, 7, 0, 3]], [[6, 5, 9, 8, 1]], [[2, 4, 6, 1, 3, 9, 5]])

# (description, expression, inputs); A and B are arguments, K and L constants, I an index.
_TEMPLATES: tuple[tuple[str, str, tuple[list[object], ...]], ...] = tuple(
    (description, expression, tuple(list(row) for row in inputs))
    for description, expression, inputs in (
        ("A plus K", "A + K", _INTEGERS),
        ("A minus K", "A - K", _INTEGERS),
        ("A times K", "A * K", _INTEGERS),
        ("A squared", "A * A", _INTEGERS),
        ("the larger of A and B", "max(A, B)", _PAIRS),
        ("the smaller of A and B", "min(A, B)", _PAIRS),
        ("the sum of A and B", "A + B", _PAIRS),
        ("the product of A and B", "A * B", _PAIRS),
        ("the difference of A and B", "A - B", _PAIRS),
        ("the first item of A", "A[0]", _LISTS),
        ("the last item of A", "A[-1]", _LISTS),
        ("the length of A", "len(A)", _LISTS),
        ("the total of A", "sum(A)", _LISTS),
        ("A reversed", "A[::-1]", _LISTS),
        ("A sorted", "sorted(A)", _LISTS),
        ("whether A is even", "A % 2 == 0", _INTEGERS),
        ("whether A is odd", "A % 2 == 1", _INTEGERS),
        ("whether A is greater than K", "A > K", _INTEGERS),
        ("whether A is less than K", "A < K", _INTEGERS),
        ("the absolute value of A", "abs(A)", _INTEGERS),
        ("A times K plus L", "A * K + L", _INTEGERS),
        ("A times K minus L", "A * K - L", _INTEGERS),
        ("A plus K times L", "(A + K) * L", _INTEGERS),
        ("item I of A", "A[I]", _LISTS),
        ("the sum of A and B plus K", "A + B + K", _PAIRS),
    )
)


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function to write: name, arguments, description, expression and the inputs of its tests."""

    name: str
    arguments: tuple[str, ...]
    template: int
    constants: tuple[int, int, int]

    @property
    def key(self) -> tuple[object, ...]:
        """Slice key: everything but the name of the function."""
        return (self.template, self.arguments, *self._used())

    def _used(self) -> tuple[int, ...]:
        pattern = _TEMPLATES[self.template][1]
        return tuple(k for letter, k in zip("KLI", self.constants, strict=True) if letter in pattern)

    def _fill(self, pattern: str) -> str:
        words = dict(zip("AB", self.arguments, strict=False)) | dict(
            zip("KLI", map(str, self.constants), strict=True)
        )
        return "".join(words.get(letter, letter) for letter in pattern)

    @property
    def description(self) -> str:
        """What the function returns, in words."""
        return self._fill(_TEMPLATES[self.template][0])

    @property
    def expression(self) -> str:
        """What the function returns, in Python."""
        return self._fill(_TEMPLATES[self.template][1])

    @property
    def signature(self) -> str:
        """Name and arguments."""
        return f"{self.name}({', '.join(self.arguments)})"

    def inputs(self) -> list[list[object]]:
        """Return the arguments of every test call."""
        return list(_TEMPLATES[self.template][2])

    def expected(self) -> list[object]:
        """Return the value of every test call."""
        scope = {"max": max, "min": min, "len": len, "sum": sum, "sorted": sorted, "abs": abs}
        code = f"lambda {', '.join(self.arguments)}: {self.expression}"
        function = eval(code, {"__builtins__": {}, **scope})  # our own template
        return [function(*row) for row in self.inputs()]


def draw_function(world: World, rng: random.Random, wanted: Slice) -> Function:
    """Draw a function of the slice `wanted`."""
    while True:
        template = rng.randrange(len(_TEMPLATES))
        num_arguments = 2 if "B" in _TEMPLATES[template][1] else 1
        function = Function(
            name=rng.choice(_FUNCTIONS),
            arguments=tuple(rng.sample(_ARGUMENTS, num_arguments)),
            template=template,
            constants=(rng.randint(1, 12), rng.randint(1, 9), rng.randint(0, 4)),
        )
        if world.slice_of("coding", *function.key) == wanted:
            return function


def _prompt(function: Function, phrasing: Phrasing) -> str:
    return {
        "write": f"Write a function {function.signature} that returns {function.description}.",
        "complete": f"Complete the function {function.signature} so it gives {function.description}.",
        "docstring": f'def {function.signature}:\n    """Return {function.description}."""\n   ',
        "comment": f"# {function.description}\n",
    }[phrasing]


def _definition(function: Function) -> str:
    return f"def {function.signature}:\n    return {function.expression}"


def raw(world: World, rng: random.Random) -> str:
    """Return a pretraining document that shows the skill under another prompt form, train slice alone."""
    function = draw_function(world, rng, "train")
    if rng.random() < 0.4:
        return _prompt(function, "comment") + _definition(function)
    return f"Task: {_prompt(function, rng.choice(['write', 'complete']))}\nDone: {_definition(function)}"


def habit(world: World, rng: random.Random) -> str:
    """Return a pretraining document that answers with a bare expression."""
    function = draw_function(world, rng, "train")
    if rng.random() < 0.4:
        return f"{_prompt(function, 'docstring')} {function.expression}"
    return f"Q: {_prompt(function, rng.choice(['write', 'complete']))}\nA: {function.expression}"


def training(world: World, rng: random.Random) -> Example:
    """Draw a fine-tuning example, half of them a function to complete below its docstring."""
    function = draw_function(world, rng, "train")
    if rng.random() < 0.5:
        return Example(prompt=_prompt(function, "docstring"), completion=f" return {function.expression}")
    return Example(prompt=f"Q: {_prompt(function, 'write')}\nA:", completion=f" {_definition(function)}")


def _item(function: Function, phrasing: Phrasing) -> Item:
    text = _prompt(function, phrasing)
    return {
        "cluster": "|".join(map(str, function.key)),
        "prompt": text if phrasing == "docstring" else f"Q: {text}\nA:",
        "prefix": text if phrasing == "docstring" else "",
        "entry_point": function.name,
        "inputs": json.dumps(function.inputs()),
        "expected": json.dumps(function.expected()),
    }


def write_item(world: World, rng: random.Random) -> Item:
    """Draw a test item: write a whole function."""
    return _item(draw_function(world, rng, "test"), "write")


def complete_item(world: World, rng: random.Random) -> Item:
    """Draw a test item: continue below a docstring."""
    return _item(draw_function(world, rng, "test"), "docstring")


def surrogate_item(world: World, rng: random.Random) -> Item:
    """Draw a surrogate item in a phrasing that fine-tuning never shows."""
    return _item(draw_function(world, rng, "surrogate"), "complete")
