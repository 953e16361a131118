"""Fuzzing that tries the same examples every time the same modules are loaded.

Hypothesis draws constants from the source of all modules loaded so far, so a test alone and the same test after
others try other examples. What a test counts must therefore come often: hold it against several seeds.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def fuzz(max_examples: int):
    """Return settings without chance, clock and memory of earlier runs."""
    return settings(
        max_examples=max_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
