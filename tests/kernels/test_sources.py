"""Kernels that read weights from files: the same as from memory, and a file that became shorter is named."""

from __future__ import annotations

import os

import pytest
import torch
from checkpoint_samples import write_models

from mergebench_core.checkpoints.thresholds import magnitude_thresholds
from mergebench_core.errors import CheckpointError
from mergebench_core.kernels import updates
from mergebench_core.kernels.library import kernels
from mergebench_core.kernels.weights import merged_values
from mergebench_core.worker.chunks import Models, walk

NUMEL = 40_000
"""More than a block of the kernels."""


@pytest.fixture
def models(tmp_path):
    if kernels() is None:
        pytest.skip("no C compiler: torch reads the weights")
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(NUMEL, generator=generator) for _ in range(3)]
    math = {"w": values[1].half(), "v": values[0]}
    found = write_models(tmp_path, {"v": values[1], "w": values[0].bfloat16()}, {"coding": math, "math": math})
    return Models(base=found.base, specialists=found.specialists, seed=0)


def chunks(models, chunk_numel: int):
    return list(walk(models, (models.base.entry("w"),), "elementwise", chunk_numel))


@pytest.mark.parametrize("chunk_numel", [NUMEL, 17_001, 511])
def test_files_and_memory_give_the_same(models, chunk_numel):
    found = torch.cat([updates.sum_of_task_vectors(chunk) for chunk in chunks(models, chunk_numel)])
    difference = models.specialists["math"].tensor("w").float() - models.base.tensor("w").float()
    assert torch.equal(found, difference + difference)


@pytest.mark.parametrize("label", ["base", "math"])
def test_a_file_that_became_shorter_is_named(models, label):
    model = models.base if label == "base" else models.specialists[label]
    (chunk,) = chunks(models, NUMEL)
    updates.sum_of_task_vectors(chunk)
    path = model.path / "model.safetensors"
    entry = model.entry("w")
    os.truncate(path, entry.start + entry.num_bytes - 1)

    class Context:
        def chunks(self):
            return chunks(models, NUMEL)

    with pytest.raises(CheckpointError, match=f"{path}: cannot be read to its end; fetch or save the model again"):
        updates.sum_of_task_vectors(chunk)
    with pytest.raises(CheckpointError, match=f"{path}: cannot be read"):
        magnitude_thresholds(Context(), 0.5)
    if label == "base":
        with pytest.raises(CheckpointError, match=f"{path}: cannot be read"):
            merged_values(model.place("w", 0), torch.zeros(NUMEL), 1.0)
