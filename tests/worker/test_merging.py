"""Merging through a real worker: values against formulas computed here, and what they must not depend on."""

from __future__ import annotations

import pytest
import torch
from checkpoint_samples import DOMAINS, EMBED, HEAD, MERGED, random_models

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.digest import weights_sha256
from mergebench_core.kernels.weights import merged_values
from mergebench_core.worker.random import key_of, uniform

CONFIGS = {
    "model_soup": {},
    "task_arithmetic": {"scaling_coefficient": 0.3},
    "ties": {"density": 0.5, "scaling_coefficient": 0.7},
    "noise": {},
    "centred": {},
    "one_specialist": {"domain": "math"},
    "own_rounding": {},
    "masked": {},
    "masked_whole": {},
}


def vectors(models, name: str) -> list[torch.Tensor]:
    base = models.base.tensor(name).float()
    return [models.specialists[domain].tensor(name).float() - base for domain in DOMAINS]


def check_merged(models, path, expected) -> None:
    """Check every merged tensor against `expected(name)` and the others against the base."""
    merged = Checkpoint(path)
    for name in models.base.names:
        wanted = models.base.tensor(name) if name in (EMBED, HEAD) else expected(name)
        assert torch.equal(merged.tensor(name), wanted), name


def test_elementwise_method(bench, models, tmp_path):
    digest = bench.merge(models, "task_arithmetic", CONFIGS["task_arithmetic"], tmp_path / "out")
    check_merged(
        models, tmp_path / "out", lambda n: merged_values(models.base.tensor(n), sum(vectors(models, n)), 0.3)
    )
    assert digest == weights_sha256(Checkpoint(tmp_path / "out"))


def test_tensor_method_gets_whole_tensors_in_shape(bench, models, tmp_path):
    bench.merge(models, "centred", {}, tmp_path / "out", chunk_numel=5)

    def expected(name):
        total = sum(vectors(models, name))
        return merged_values(models.base.tensor(name), total - total.mean(), 1.0)

    check_merged(models, tmp_path / "out", expected)


@pytest.mark.parametrize("domain", ["math", "coding"])
def test_model_method_sends_final_values(bench, models, tmp_path, domain):
    bench.merge(models, "one_specialist", {"domain": domain}, tmp_path / "out", chunk_numel=5)
    check_merged(models, tmp_path / "out", models.specialists[domain].tensor)


def test_model_method_may_merge_everything(bench, models, tmp_path):
    digest = bench.merge(models, "everything", {}, tmp_path / "out")
    assert digest == weights_sha256(models.specialists["math"])


def test_own_rounding_is_kept(bench, models, tmp_path):
    bench.merge(models, "own_rounding", {}, tmp_path / "out", chunk_numel=5)

    def expected(name):
        return models.base.tensor(name) + vectors(models, name)[DOMAINS.index("math")].bfloat16()

    check_merged(models, tmp_path / "out", expected)


def test_random_stream_is_keyed_by_seed_domain_and_tensor(bench, models, tmp_path):
    bench.merge(models, "noise", {}, tmp_path / "out", seed=5, chunk_numel=7)

    def expected(name):
        total = 0
        for domain, vector in zip(DOMAINS, vectors(models, name), strict=True):
            total = total + vector * (uniform(key_of(5, domain, name), 0, vector.numel()).view(vector.shape) < 0.5)
        return merged_values(models.base.tensor(name), total, 1.0)

    check_merged(models, tmp_path / "out", expected)
    assert bench.merge(models, "noise", {}, tmp_path / "6", seed=6) != weights_sha256(Checkpoint(tmp_path / "out"))


@pytest.mark.parametrize("method", ["masked", "masked_whole"])
def test_prepared_tensors_come_sliced_like_the_weight(bench, models, tmp_path, method):
    """The method's own checks run for each chunk; what it returns doubles the base."""
    bench.merge(models, method, {}, tmp_path / "out", chunk_numel=5)
    check_merged(models, tmp_path / "out", lambda name: models.base.tensor(name) * 2)


@pytest.mark.parametrize("method", CONFIGS)
def test_chunks_threads_and_order_of_domains_do_not_matter(bench, models, tmp_path, method):
    settings = [
        {},
        {"chunk_numel": 1},
        {"chunk_numel": 7, "num_threads": 2, "domains": ("math", "coding", "instruction")},
        {"chunk_numel": 4096, "num_threads": 2},
    ]
    digests = [
        bench.merge(models, method, CONFIGS[method], tmp_path / str(number), seed=3, **setting)
        for number, setting in enumerate(settings)
    ]
    assert len(set(digests)) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_other_dtypes_and_shards(bench, tmp_path, dtype):
    one = random_models(tmp_path / "one", dtype)
    three = random_models(tmp_path / "three", dtype, num_shards=3)
    for method in ("task_arithmetic", "ties", "one_specialist"):
        first = bench.merge(one, method, CONFIGS[method], tmp_path / f"{method} 1")
        assert first == bench.merge(three, method, CONFIGS[method], tmp_path / f"{method} 3", chunk_numel=7)
        assert Checkpoint(tmp_path / f"{method} 3").entry(MERGED[0]).dtype == {2: "F16", 4: "F32"}[dtype.itemsize]
        assert len(Checkpoint(tmp_path / f"{method} 3").headers) == 3


def test_tensor_larger_than_a_slot(bench, tmp_path):
    """A whole tensor of depth `tensor` crosses in as many slots as it takes."""
    from checkpoint_samples import write_models

    shape = (3, 2**20 + 5)
    values = torch.arange(3 * (2**20 + 5)).view(shape) % 251
    big = write_models(tmp_path, {"w": values.bfloat16()}, {"math": {"w": (values * 2).bfloat16()}})
    bench.merge(big, "centred", {}, tmp_path / "out")
    vector = big.specialists["math"].tensor("w").float() - big.base.tensor("w").float()
    expected = merged_values(big.base.tensor("w"), vector - vector.mean(), 1.0)
    assert torch.allclose(Checkpoint(tmp_path / "out").tensor("w").float(), expected.float(), atol=1, rtol=0.01)
