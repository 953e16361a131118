"""Final answers of mathematical solutions, and the reward of reinforcement learning: is the answer right?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mergebench_core.errors import InputError

Reward = Callable[..., list[float | None]]
"""Called by TRL with `completions` and the columns of the data by name; returns a number per completion."""
BOX = r"\boxed{"


def last_boxed(text: str) -> str | None:
    r"""Return what the last complete `\boxed{...}` of a text holds, braces matched; None if there is none."""
    start = text.rfind(BOX)
    while start >= 0:
        content = _braced(text, start + len(BOX))
        if content is not None and content.strip():
            return content.strip()
        start = text.rfind(BOX, 0, start)
    return None


def _braced(text: str, start: int) -> str | None:
    depth = 1
    for position in range(start, len(text)):
        if text[position - 1] == "\\":
            continue
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start:position]
    return None


def answer_checker() -> Callable[[str, str], bool]:
    """Return a function that compares two LaTeX answers (right one first) with math-verify.

    Raises:
        InputError: math-verify is not installed.
    """
    try:
        from math_verify import LatexExtractionConfig, parse, verify  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise InputError(
            "--method grpo needs math-verify; install it with pip install 'mergebench[train]'"
        ) from None

    reading = (LatexExtractionConfig(boxed_match_priority=0),)

    def is_same(gold: str, answer: str) -> bool:
        texts = [rf"$\boxed{{{text}}}$" for text in (gold, answer)]
        parsed = [parse(text, extraction_config=reading) for text in texts]
        return bool(parsed[0]) and bool(parsed[1]) and bool(verify(parsed[0], parsed[1]))

    return is_same


def answer_reward(is_same: Callable[[str, str], bool]) -> Reward:
    """Return the reward: 1 where the completion's last boxed answer is the solution's, 0 otherwise.

    A solution without a boxed answer has no reward (None), so that TRL leaves the example out.
    """

    def answer_is_right(completions: Sequence[str], solution: Sequence[str], **_: Any) -> list[float | None]:
        rewards: list[float | None] = []
        for completion, worked in zip(completions, solution, strict=True):
            gold, answer = last_boxed(worked), last_boxed(completion)
            rewards.append(None if gold is None else float(answer is not None and is_same(gold, answer)))
        return rewards

    return answer_is_right
