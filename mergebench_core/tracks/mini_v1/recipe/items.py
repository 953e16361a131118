"""The items of every task, drawn from the slices of a world."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from mergebench_core.tracks.mini_v1.recipe import coding, instruction, math, multilingual, safety
from mergebench_core.tracks.mini_v1.recipe.general import GENERAL
from mergebench_core.tracks.mini_v1.recipe.world import Item, World, draw_distinct, generator

NUM_TEST, NUM_SURROGATE = 300, 200
Draw = Callable[[World, random.Random], Item]
_SafetyDraw = Callable[[World, random.Random, bool], Item]


@dataclass(frozen=True, kw_only=True)
class ItemSet:
    """One file of items: how to draw one, and how many."""

    draw: Draw | None = None
    draw_half: _SafetyDraw | None = None
    """Draws a harmful or a harmless item; such a set holds half of each."""
    num_items: int = NUM_TEST

    def items(self, world: World, name: str) -> list[Item]:
        """Return the distinct items of this set in `world`."""
        rng = generator("items", world.salt, name)
        if self.draw_half is None:
            draw = self.draw
            assert draw is not None
            return draw_distinct(lambda: draw(world, rng), self.num_items, name)
        draw_half, half = self.draw_half, self.num_items // 2
        harmful = draw_distinct(lambda: draw_half(world, rng, True), half, f"{name}-harmful")
        harmless = draw_distinct(lambda: draw_half(world, rng, False), half, f"{name}-harmless")
        return [item for pair in zip(harmful, harmless, strict=True) for item in pair]


def _general_draw(name: str) -> Draw:
    def draw(world: World, rng: random.Random) -> Item:
        example = GENERAL[name](world, rng)
        return {
            "cluster": example.cluster or example.prompt,
            "prompt": example.prompt,
            "answer": example.completion.strip(),
        }

    return draw


ITEM_SETS: dict[str, ItemSet] = {
    "mini_instruction": ItemSet(draw=instruction.test_item),
    "mini_math": ItemSet(draw=math.test_item),
    "mini_multilingual": ItemSet(draw=multilingual.test_item),
    "mini_coding_write": ItemSet(draw=coding.write_item),
    "mini_coding_complete": ItemSet(draw=coding.complete_item),
    "mini_safety_harm": ItemSet(draw_half=safety.harm_item),
    "mini_safety_contrast": ItemSet(draw_half=safety.contrast_item),
    "mini_instruction_surrogate": ItemSet(draw=instruction.surrogate_item, num_items=NUM_SURROGATE),
    "mini_math_surrogate": ItemSet(draw=math.surrogate_item, num_items=NUM_SURROGATE),
    "mini_multilingual_surrogate": ItemSet(draw=multilingual.surrogate_item, num_items=NUM_SURROGATE),
    "mini_coding_surrogate": ItemSet(draw=coding.surrogate_item, num_items=NUM_SURROGATE),
    "mini_safety_surrogate": ItemSet(draw_half=safety.surrogate_item, num_items=NUM_SURROGATE),
    **{f"mini_general_{name}": ItemSet(draw=_general_draw(name)) for name in GENERAL},
}
"""Item set by task name."""
