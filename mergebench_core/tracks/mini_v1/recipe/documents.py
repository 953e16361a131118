"""The pretraining mix: raw skills, habits that hide them under the test format, and general knowledge."""

from __future__ import annotations

import random
from collections.abc import Callable

from mergebench_core.tracks.mini_v1.recipe import coding, instruction, math, multilingual, safety
from mergebench_core.tracks.mini_v1.recipe.general import GENERAL, copying
from mergebench_core.tracks.mini_v1.recipe.world import World, generator

DOMAINS = {
    "instruction": instruction,
    "math": math,
    "multilingual": multilingual,
    "coding": coding,
    "safety": safety,
}
"""Module by domain; each offers `raw`, `habit`, `training` and its items."""

SHARES = {"raw": 0.45, "habit": 0.13, "general": 0.42}
RAW_WEIGHTS = {"instruction": 2.2, "math": 1.8, "multilingual": 1.8, "coding": 1.1, "safety": 0.8}
HABIT_WEIGHTS = {"instruction": 1.0, "math": 1.0, "multilingual": 1.2, "coding": 0.8, "safety": 0.5}
GENERAL_WEIGHTS = {"fact": 1.1, "cloze": 1.1, "dict": 1.3, "arith": 3.0, "know": 2.0, "read": 1.5, "copy": 0.8}


Writer = Callable[[World, random.Random], str]


def _general(name: str) -> Writer:
    make = copying if name == "copy" else GENERAL[name]
    return lambda world, rng: make(world, rng).document


def _writers() -> tuple[list[Writer], list[float]]:
    groups: list[tuple[float, dict[str, float], Callable[[str], Writer]]] = [
        (SHARES["raw"], RAW_WEIGHTS, lambda name: DOMAINS[name].raw),
        (SHARES["habit"], HABIT_WEIGHTS, lambda name: DOMAINS[name].habit),
        (SHARES["general"], GENERAL_WEIGHTS, _general),
    ]
    writers, weights = [], []
    for share, by_name, writer in groups:
        for name, weight in by_name.items():
            writers.append(writer(name))
            weights.append(share * weight / sum(by_name.values()))
    return writers, weights


def write_documents(world: World, num_documents: int, seed: int) -> list[str]:
    """Return `num_documents` pretraining documents, a function of the world and the seed."""
    rng = generator("documents", world.salt, seed)
    writers, weights = _writers()
    chosen = rng.choices(writers, weights, k=num_documents)
    return [write(world, rng) for write in chosen]
