"""The world of a salt: which facts hold, and which slice an item belongs to."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mergebench_core.tracks.mini_v1.recipe.lexicon import VALUES, Noun

Slice = Literal["train", "surrogate", "test"]
Item = dict[str, object]
"""One row of a task: JSON values only, with `id`, `cluster` and `prompt` among them."""

# Multilingual surrogate items ask for a relation that is never fine-tuned: two slices per relation suffice.
_TRAIN_SHARE = {"multilingual": 0.5, "multilingual_surrogate": 0.4}
_SURROGATE_SHARE = {"multilingual": 0.0, "multilingual_surrogate": 0.6}


@dataclass(frozen=True, kw_only=True)
class Example:
    """One fine-tuning example; `completion` begins with a space and ends without an end token."""

    prompt: str
    completion: str
    cluster: str = ""
    """What examples about the same thing share; empty: nothing."""

    @property
    def document(self) -> str:
        """Prompt and completion as one text."""
        return self.prompt + self.completion


@dataclass(frozen=True, kw_only=True)
class World:
    """Facts and slices, both functions of the salt alone."""

    salt: str

    def fraction(self, *parts: object) -> float:
        """Return a number in [0, 1) that depends on the salt and `parts`."""
        text = "|".join([self.salt, *map(str, parts)])
        return int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:12], 16) / 16**12

    def slice_of(self, domain: str, *key: object) -> Slice:
        """Return the slice of all items of `domain` that share `key`."""
        fraction = self.fraction(domain, *key)
        train = _TRAIN_SHARE.get(domain, 0.5)
        if fraction < train:
            return "train"
        return "surrogate" if fraction < train + _SURROGATE_SHARE.get(domain, 0.15) else "test"

    def value_index(self, relation: str, noun: Noun) -> int:
        """Return which value `relation` has for `noun` in this world."""
        values = VALUES[relation]["english"]
        return int(self.fraction("fact", relation, noun.english) * len(values))


def generator(*parts: object) -> random.Random:
    """Return a random generator seeded by `parts`, the same on every machine."""
    return random.Random("|".join(map(str, parts)))


def draw_distinct(make: Callable[[], Item], num_items: int, name: str) -> list[Item]:
    """Call `make` until `num_items` items with distinct prompts are found, and number them.

    Raises:
        RuntimeError: the generator has too few distinct prompts.
    """
    found: dict[object, Item] = {}
    for _ in range(num_items * 400):
        item = make()
        found.setdefault(item["prompt"], item)
        if len(found) == num_items:
            return [{"id": f"{name}-{i:04d}", **item} for i, item in enumerate(found.values())]
    raise RuntimeError(f"{name}: only {len(found)} of {num_items} distinct prompts")
