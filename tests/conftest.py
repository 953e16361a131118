"""Fixtures that several folders of tests use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from toy_track import build_toy_track

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the user's state."""
    home = tmp_path / "home"
    monkeypatch.setenv("MERGEBENCH_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def toy_track(tmp_path_factory: pytest.TempPathFactory):
    """The toy track, built once; tests must not change its files."""
    return build_toy_track(tmp_path_factory.mktemp("toy"))
