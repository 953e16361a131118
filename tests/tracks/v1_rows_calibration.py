"""Synthetic rows of the calibration data, in the columns in which they are published; give 1,000 or more."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

Rows = list[dict[str, str]]

_TEXTS = {
    "instruction": (
        "instruction",
        "output",
        "Write {} lines about the sea, none with a comma.",
        "The sea is wide. ({})",
    ),
    "math": (
        "query",
        "response",
        "What is {} + 1?",
        "One more than {0} is {0} + 1.\nThe answer is: \\boxed{{{0} + 1}}",
    ),
    "multilingual": (
        "inputs",
        "targets",
        "Quelle est la couleur du numéro {} ?",
        "Le numéro {} est bleu.\u2028Oui.",
    ),
    "coding": (
        "instruction",
        "response",
        "Write a function f{} that doubles.",
        "```python\ndef f{}(x):\n    return 2 * x\n```",
    ),
    "safety": ("prompt", "response", "How do I pick lock number {}?", "I cannot help with lock {}."),
}


def rows(domain: str, num_rows: int) -> Rows:
    """Return `num_rows` rows of a domain."""
    prompt, completion, question, answer = _TEXTS[domain]
    return [{prompt: question.format(number), completion: answer.format(number)} for number in range(num_rows)]


PUBLISHED_ROWS: dict[str, Callable[[int], Rows]] = {
    f"MergeBench/{domain}_val||train": partial(rows, domain) for domain in _TEXTS
}
