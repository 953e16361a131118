"""One worker with all bundled methods."""

from __future__ import annotations

import pytest
from worker_samples import Bench

from mergebench_core.plugins import installed_sources


@pytest.fixture(scope="package")
def bench(tmp_path_factory):
    bundled = [source for source in installed_sources() if source.distribution.startswith("mergebench ")]
    with Bench.started(tmp_path_factory.mktemp("worker"), bundled) as bench:
        yield bench
