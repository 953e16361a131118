"""Fixtures of the tests that train."""

from __future__ import annotations

from dataclasses import replace

import datasets
import pytest
from training_rows import FakeHub, small_base

from mergebench_core.training import settings


@pytest.fixture
def hub(monkeypatch):
    fake = FakeHub()
    monkeypatch.setattr(datasets, "load_dataset", fake)
    return fake


@pytest.fixture
def small_recipes(monkeypatch):
    """The paper's recipe, but for a batch and texts that fit a test."""
    monkeypatch.setattr(settings, "SMALL", replace(settings.SMALL, global_batch_size=4, max_length=256))
    monkeypatch.setattr(settings, "LARGE", replace(settings.LARGE, global_batch_size=4, max_length=256))


@pytest.fixture
def base(tmp_path):
    return small_base(tmp_path / "base")
