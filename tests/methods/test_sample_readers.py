"""What the methods that read samples have in common: how many they read, and where they run."""

from __future__ import annotations

import pytest
import torch
from checkpoint_samples import DOMAINS
from local_session import LocalSession
from tiny_llama import tiny_llama_models

from mergebench_core.plugins import installed_sources, load_methods
from mergebench_core.worker.context import WorkerContext

BUNDLED = [source for source in installed_sources() if source.distribution.startswith("mergebench ")]
METHODS = {name: loaded.method for name, loaded in load_methods(BUNDLED).items()}
READERS = sorted(name for name, method in METHODS.items() if "calibration" in method.info.needs)
ROWS = {domain: [{"prompt": f"{domain} {n}", "completion": f" is {n}"} for n in range(9)] for domain in DOMAINS}
RUNS = {"fisher": 0, "regmean": 5, "regmean_plus_plus": 5, "localize_and_stitch": 0}
"""The paper's validation runs (arXiv:2505.10833, table 6)."""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny_llama_models(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("name", RUNS)
def test_runs_are_the_papers(name):
    assert METHODS[name].search_space.num_configurations == RUNS[name]


@pytest.mark.parametrize("name", READERS)
def test_no_more_samples_are_asked_for_than_configured(models, tmp_path, name):
    session = LocalSession(METHODS[name], models, tmp_path, ROWS)
    session.updates(num_calibration_samples=3)
    assert session.stream.asked == [(domain, 0, 3) for domain in DOMAINS]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", READERS)
def test_gpu_and_cpu_agree(monkeypatch, models, tmp_path, name):
    found = []
    for device in ("cpu", "cuda"):
        monkeypatch.setattr(WorkerContext, "device", torch.device(device))
        given = {"labels": "given"} if name == "fisher" else {}
        found.append(LocalSession(METHODS[name], models, tmp_path / device, ROWS).updates(**given))
    for tensor, value in found[0].items():
        difference = (found[1][tensor] - value).norm() / value.norm()
        assert float(difference) < (0.1 if name == "localize_and_stitch" else 1e-2), tensor
