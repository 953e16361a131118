"""Attacks run at every level that this machine gives; what a lower level cannot stop is shown, not skipped."""

from __future__ import annotations

import os
import sys

import pytest
from attack_samples import Attacker

from mergebench_core.isolation.sandbox import means

REQUIRED = "MERGEBENCH_REQUIRE_ISOLATION"
"""Level that must be there, so that skipping cannot hide a regression; CI sets it."""


def available_levels() -> list[int]:
    """Return the levels that this machine gives, by what it has; the probe has the last word in each test."""
    given = means()
    levels = [0]
    if given.has_landlock and given.has_seccomp:
        levels.append(1)
        if given.has_bubblewrap:
            levels.append(2)
            if given.has_cgroup:
                levels.append(3)
    return levels


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "level" in metafunc.fixturenames:
        given = set(available_levels())
        metafunc.parametrize(
            "level",
            [
                level
                if level in given
                else pytest.param(
                    level, marks=pytest.mark.skip(reason=f"this machine does not give level {level}")
                )
                for level in range(4)
            ],
        )


@pytest.fixture
def attacker(level: int, tmp_path, monkeypatch):
    """Runs code in a sandbox of the level; ends it, whatever happens."""
    monkeypatch.setenv("SECRET_TOKEN", "token-in-the-environment")
    with Attacker(level, tmp_path) as found:
        yield found


@pytest.fixture(scope="session", autouse=True)
def required_level() -> None:
    """Fail where the machine gives less than is required."""
    if wanted := os.environ.get(REQUIRED):
        assert sys.platform == "linux"
        assert max(available_levels()) >= int(wanted), means().missing
