"""Fuzzing that tries the same examples every time."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def fuzz(max_examples: int):
    """Return settings under which the same examples are tried every time."""
    return settings(
        max_examples=max_examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
