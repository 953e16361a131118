"""Fixtures that several folders of tests use."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings
from toy_track import build_toy_track

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background: children would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

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
def catalog():
    """The installed methods, described once."""
    from mergebench_core.worker.catalog import load_catalog

    return load_catalog()


@pytest.fixture
def known_catalog(catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let merges without --plugin use the methods described once: starting a worker takes a second."""
    from mergebench_core.merging import merge
    from mergebench_core.worker.catalog import load_catalog

    monkeypatch.setattr(merge, "load_catalog", lambda plugin: load_catalog(plugin) if plugin else catalog)


@pytest.fixture(scope="session")
def toy_track(tmp_path_factory: pytest.TempPathFactory):
    """The toy track, built once; tests must not change its files."""
    return build_toy_track(tmp_path_factory.mktemp("toy"))
