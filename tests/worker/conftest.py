"""One worker for all tests that leave it alive, and random models on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpoint_samples import SampleModels, random_models
from worker_samples import Bench, SampleServices

from mergebench_core.plugins import file_source, installed_sources

PLUGINS = [Path(__file__).parent / name for name in ("sample_plugin.py", "failing_plugin.py")]


@pytest.fixture(scope="package")
def models(tmp_path_factory) -> SampleModels:
    """A bf16 base with three specialists."""
    return random_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="package")
def shared_bench(tmp_path_factory):
    sources = [*installed_sources(), *map(file_source, PLUGINS)]
    with Bench.started(tmp_path_factory.mktemp("worker"), sources) as bench:
        yield bench


@pytest.fixture
def services(models) -> SampleServices:
    return SampleServices(models=models)


@pytest.fixture
def bench(shared_bench, services) -> Bench:
    """The shared worker with services of this test's own; the test must leave it alive."""
    shared_bench.worker.services = services
    return shared_bench
