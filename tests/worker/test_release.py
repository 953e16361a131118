"""Giving back the GPU memory that a worker only keeps in reserve: when it is asked, and if it does not answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from worker_samples import Bench, SampleServices

from mergebench_core.errors import BudgetError, MethodError
from mergebench_core.isolation import gpu_memory, sandbox
from mergebench_core.plugins import file_source
from mergebench_core.worker.serve import release_gpu

PLUGIN = Path(__file__).with_name("gpu_plugin.py")


@pytest.fixture
def services(models) -> SampleServices:
    return SampleServices(models=models)


@pytest.fixture
def gpu_bench(tmp_path, services, monkeypatch, request):
    """A worker that is given a GPU, unless the test says otherwise."""
    has_gpu = getattr(request, "param", True)
    monkeypatch.setattr(sandbox, "devices", lambda: ("/dev/null",) if has_gpu else ())
    monkeypatch.setattr(gpu_memory, "source", lambda: None)
    with Bench.started(tmp_path, [file_source(PLUGIN)], services) as bench:
        yield bench


def prepared_twice(bench, models) -> None:
    bench.open(models, "released")
    bench.worker.prepare({}, is_fresh=True)
    bench.worker.prepare({}, is_fresh=True)


def test_released_after_each_answer_and_before_scores(gpu_bench, services, models):
    prepared_twice(gpu_bench, models)  # loaded and opened before: two answers; a candidate is taken and scored
    assert services.logged == ["before 2 None", "after its scores 4", "before 5 None", "after its scores 7"]


@pytest.mark.parametrize("gpu_bench", [False], indirect=True)
def test_never_asked_without_a_gpu(gpu_bench, services, models):
    prepared_twice(gpu_bench, models)
    assert services.logged[0] == "before 0 None"
    assert services.logged[1] == services.logged[3] == "after its scores 0"


def test_worker_that_does_not_release_runs_out_of_time(gpu_bench, models):
    gpu_bench.open(models, "stuck")
    gpu_bench.worker._clock._limit_s = gpu_bench.worker._clock.elapsed_s() + 2.0
    with pytest.raises(BudgetError, match="s of time and was ended"):
        gpu_bench.worker.prepare({})


def test_worker_that_dies_while_it_releases(gpu_bench, models):
    gpu_bench.open(models, "dying")
    with pytest.raises(MethodError, match="the worker ended with exit code 7"):
        gpu_bench.worker.prepare({})


def test_nothing_is_done_where_cuda_was_not_used(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "empty_cache", pytest.fail)
    release_gpu()


def test_torch_is_not_loaded_for_it():
    program = (
        "import sys; from mergebench_core.worker.serve import release_gpu; release_gpu(); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
