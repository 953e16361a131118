"""Domain math: word problems answered with written steps."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mergebench_core.tracks.mini_v1.recipe.lexicon import ENGLISH_NOUNS, NAMES
from mergebench_core.tracks.mini_v1.recipe.world import Example, Item, Slice, World

_VERBS = {"+": ("buys", "finds", "gets"), "-": ("sells", "loses", "drops")}
_PAST = {"+": ("bought", "found", "got"), "-": ("sold", "lost", "dropped")}
_LARGEST = 20


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Start amount and one or two changes, each an operation and a number."""

    start: int
    changes: tuple[tuple[str, int], ...]

    @property
    def key(self) -> tuple[object, ...]:
        """Slice key: the first number pair and operation."""
        operation, number = self.changes[0]
        return (self.start, operation, number)

    def steps(self) -> tuple[list[str], int]:
        """Return the written steps and the result."""
        lines, value = [], self.start
        for operation, number in self.changes:
            result = value + number if operation == "+" else value - number
            lines.append(f"{value} {operation} {number} = {result}.")
            value = result
        return lines, value

    def answer(self) -> str:
        """Return the answer with its steps."""
        lines, value = self.steps()
        return f"{' '.join(lines)} The answer is {value}"

    def is_valid(self) -> bool:
        """Tell whether every intermediate result lies in the taught range."""
        value = self.start
        for operation, number in self.changes:
            value = value + number if operation == "+" else value - number
            if not 0 <= value <= _LARGEST:
                return False
        return True


def draw_problem(
    world: World, rng: random.Random, num_changes: int, wanted: Slice | None, operation: str | None = None
) -> Problem:
    """Draw a problem of the slice `wanted` (None: any slice)."""
    while True:
        changes = [(operation or rng.choice("+-"), rng.randint(1, 10))]
        changes += [(rng.choice("+-"), rng.randint(1, 5)) for _ in range(num_changes - 1)]
        problem = Problem(start=rng.randint(1, 10), changes=tuple(changes))
        if problem.is_valid() and wanted in (None, world.slice_of("math", *problem.key)):
            return problem


def _story(problem: Problem, rng: random.Random) -> str:
    name, noun = rng.choice(NAMES), rng.choice(ENGLISH_NOUNS) + "s"
    changes = [f"{rng.choice(_VERBS[operation])} {number} {noun}" for operation, number in problem.changes]
    told = " and ".join(changes)
    return f"{name} has {problem.start} {noun}. {name} {told}. How many {noun} does {name} have?"


def _other_story(world: World, rng: random.Random, wanted: Slice | None) -> tuple[str, Problem]:
    first, second = rng.sample(NAMES, 2)
    noun = rng.choice(ENGLISH_NOUNS) + "s"
    kind = rng.choice(["room", "past", "both"])
    operation = {"room": "-", "past": rng.choice("+-"), "both": "+"}[kind]
    problem = draw_problem(world, rng, 1, wanted, operation)
    start, number = problem.start, problem.changes[0][1]
    if kind == "room":
        return f"There are {start} {noun} in the room. {first} takes {number}. How many {noun} are left?", problem
    if kind == "past":
        verb = rng.choice(_PAST[operation])
        return f"{first} had {start} {noun} and {verb} {number}. How many {noun} are left?", problem
    return f"{first} has {start} {noun} and {second} has {number} {noun}. How many {noun} in total?", problem


def _draw(world: World, rng: random.Random, wanted: Slice | None) -> tuple[str, Problem]:
    if rng.random() < 0.3:
        return _other_story(world, rng, wanted)
    problem = draw_problem(world, rng, rng.choice([1, 2, 2]), wanted)
    return _story(problem, rng), problem


def raw(world: World, rng: random.Random) -> str:
    """Return a pretraining document that shows the skill under another prompt form, on any number pair."""
    text, problem = _draw(world, rng, None)
    return f"Task: {text}\nDone: {problem.answer()}"


def habit(world: World, rng: random.Random) -> str:
    """Return a pretraining document that answers with a bare number."""
    text, problem = _draw(world, rng, "train")
    return f"Q: {text}\nA: {problem.steps()[1]}"


def training(world: World, rng: random.Random) -> Example:
    """Draw a fine-tuning example, one step in three of one change."""
    problem = draw_problem(world, rng, rng.choice([1, 2, 2]), "train")
    return Example(prompt=f"Q: {_story(problem, rng)}\nA:", completion=f" {problem.answer()}")


def _item(text: str, problem: Problem) -> Item:
    cluster = "|".join(map(str, problem.key))
    return {"cluster": cluster, "prompt": f"Q: {text}\nA:", "answer": str(problem.steps()[1])}


def test_item(world: World, rng: random.Random) -> Item:
    """Draw a test item: two changes, a number pair that fine-tuning never shows."""
    problem = draw_problem(world, rng, 2, "test")
    return _item(_story(problem, rng), problem)


def surrogate_item(world: World, rng: random.Random) -> Item:
    """Draw a surrogate item: one change, told in words that fine-tuning never shows."""
    return _item(*_other_story(world, rng, "surrogate"))
