"""DARE, Consensus TA and dataless Localize-and-Stitch against slow references: element by element, in numpy."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from checkpoint_samples import write_models
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mergebench_methods.consensus_ta import ConsensusTA
from mergebench_methods.dare import Dare
from mergebench_methods.dataless_localize_and_stitch import DatalessLocalizeAndStitch

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.errors import MergebenchError
from mergebench_core.hyperparameters import resolve_config
from mergebench_core.methods import PerDomain

f32 = np.float32
Vectors = dict[str, np.ndarray]
WEIGHT = "model.layers.0.mlp.up_proj.weight"


def levels(seed: int, domain: str, numel: int) -> np.ndarray:
    """Return the 16-bit levels of a stream: sixteen of them in each block of Philox4x64."""
    key = hashlib.sha256(json.dumps([str(seed), domain, WEIGHT]).encode()).digest()[:16]
    words = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(4 * (numel // 16 + 1))
    return np.array([int(word) >> shift & 0xFFFF for word in words for shift in (0, 16, 32, 48)])[:numel]


def dare_reference(vectors: Vectors, config, seed: int) -> np.ndarray:
    """Return the DARE update (arXiv:2311.03099), density in 16-bit levels."""
    kept_levels = round(config["density"] * 65536)
    total = np.zeros_like(vectors[min(vectors)])
    for domain in sorted(vectors):
        for i, level in enumerate(levels(seed, domain, len(total))):
            total[i] += vectors[domain][i] if level < kept_levels else f32(0)
    return total / f32(kept_levels / 65536)


def consensus_reference(vectors: Vectors, config) -> np.ndarray:
    """Return the Consensus TA update (arXiv:2505.10833, after arXiv:2405.07813)."""
    update = np.zeros_like(vectors[min(vectors)])
    for i in range(len(update)):
        total = f32(0)
        for domain in sorted(vectors):
            total = total + vectors[domain][i]
        voters = [config["only_mask_of"]] if config["only_mask_of"] else sorted(vectors)
        rest = {domain: abs(total - vectors[domain][i]) for domain in voters}
        votes = [abs(vectors[domain][i]) >= f32(config[f"lambda_{domain}"]) * rest[domain] for domain in voters]
        if sum(votes) >= (1 if config["only_mask_of"] else config["min_votes"]):
            update[i] = total
    return update


def stitch_reference(vectors: Vectors, config) -> np.ndarray:
    """Return the update of dataless Localize-and-Stitch (arXiv:2408.13656)."""
    size = len(vectors[min(vectors)])
    num_kept = max(1, int(config["density"] * size))
    smallest = {domain: sorted(np.abs(vector))[size - num_kept] for domain, vector in vectors.items()}
    update = np.zeros(size, f32)
    for i in range(size):
        entries = [vectors[domain][i] for domain in sorted(vectors) if abs(vectors[domain][i]) >= smallest[domain]]
        total = f32(0)
        for entry in (claimed := [entry for entry in entries if entry != 0]):
            total = total + entry
        update[i] = total / f32(max(len(claimed), 1))
    return update


def update_of(method, vectors: Vectors, given_config, seed: int = 0) -> np.ndarray:
    """Run a method as a worker would, in two chunks."""
    config = resolve_config(method.parameters, given_config, list(vectors), method.info.name)
    tensors = {domain: torch.from_numpy(vector) for domain, vector in vectors.items()}
    size = len(tensors[min(tensors)])
    parts = []
    for place in (slice(size // 2), slice(size // 2, size)):
        part = PerDomain({domain: tensor[place] for domain, tensor in tensors.items()})
        uniform = {
            domain: torch.from_numpy(levels(seed, domain, size)[place] / 65536).float() for domain in vectors
        }
        parts.append(SimpleNamespace(task_vectors=part, domains=part.domains, random=uniform.__getitem__))
    prepared = method.prepare(SimpleNamespace(chunks=lambda: iter(parts)), config)
    view = SimpleNamespace(data=json.loads(json.dumps(prepared.data)))
    return torch.cat([method.update(part, config, view) for part in parts]).numpy()


VALUES = st.one_of(st.sampled_from([0.0, 1.0, -1.0, 2.0, -2.0, 0.5]), st.floats(-(2.0**40), 2.0**40, width=32))
ZEROS = np.zeros(4, f32)


@st.composite
def task_vectors(draw) -> Vectors:
    size, count = draw(st.integers(1, 20)), draw(st.integers(1, 4))
    domains = ["math", "coding", "law", "safety"][:count]
    return {domain: np.array(draw(st.lists(VALUES, min_size=size, max_size=size)), f32) for domain in domains}


@settings(max_examples=60, deadline=None)
@given(task_vectors(), st.sampled_from([1.0, 0.9, 0.5, 0.2, 0.001, 1 / 65536]), st.integers(0, 3))
def test_dare_equals_the_reference_to_the_bit(vectors, density, seed):
    config = {"density": density}
    assert np.array_equal(update_of(Dare(), vectors, config, seed), dare_reference(vectors, config, seed))


@settings(max_examples=80, deadline=None)
@given(task_vectors(), st.sampled_from([0.0, 0.2, 0.6, 1.0]), st.integers(1, 5), st.booleans())
@example({"math": np.array([1, -1], f32), "law": np.array([1, 1], f32)}, 1.0, 2, False)
def test_consensus_equals_the_reference_to_the_bit(vectors, threshold, min_votes, is_single):
    config = {"lambda_math": threshold, "min_votes": min_votes, "only_mask_of": "math" if is_single else ""}
    whole = resolve_config(ConsensusTA.hyperparameters, config, list(vectors), "consensus_ta")
    assert np.array_equal(update_of(ConsensusTA(), vectors, config), consensus_reference(vectors, whole))


@settings(max_examples=80, deadline=None)
@given(task_vectors(), st.sampled_from([1.0, 0.9, 0.5, 0.2, 0.01]))
@example({"math": ZEROS, "law": np.array([0, 1, -1, 1], f32)}, 0.5)
@example({"math": np.ones(4, f32), "law": -np.ones(4, f32)}, 0.1)
def test_stitching_equals_the_reference_to_the_bit(vectors, density):
    config = {"density": density}
    assert np.array_equal(
        update_of(DatalessLocalizeAndStitch(), vectors, config), stitch_reference(vectors, config)
    )


@pytest.mark.parametrize("seed", [0, 5])
def test_dare_in_a_worker_equals_the_reference_to_the_bit(bench, tmp_path, seed):
    """The worker's own stream, cut into chunks that no block of it fits."""
    generator = np.random.default_rng(seed)
    vectors = {domain: generator.normal(size=100).astype(f32) for domain in ("math", "coding", "law")}
    zero = {WEIGHT: torch.zeros(1, 100)}
    specialists = {domain: {WEIGHT: torch.from_numpy(vector)[None]} for domain, vector in vectors.items()}
    config = {"density": 0.3, "scaling_coefficient": 1.0}
    models = write_models(tmp_path, zero, specialists)
    bench.merge(models, "dare", config, tmp_path / "out", seed=seed, chunk_numel=7)
    found = Checkpoint(tmp_path / "out").tensor(WEIGHT).flatten().numpy()
    assert np.array_equal(found, dare_reference(vectors, config, seed))


def test_dare_rescales_by_the_density_that_is_used():
    """0.3 is 19,661 of 65,536 levels; one kept entry of 1 becomes 65536 / 19661."""
    ones = {"math": np.ones(4096, f32)}
    update = update_of(Dare(), ones, {"density": 0.3})
    assert set(update.tolist()) == {0.0, float(f32(1) / f32(19661 / 65536))}
    assert 0.27 < np.count_nonzero(update) / 4096 < 0.33


def test_dare_draws_apart_for_every_domain():
    """The two never coincide on the same entries, and their sum's mean is near the sum of the means."""
    ones = {"math": np.ones(4096, f32), "law": np.ones(4096, f32)}
    update = update_of(Dare(), ones, {"density": 0.5})
    counts = np.bincount((update / 2).astype(int), minlength=3) / 4096
    assert counts == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_dare_at_density_1_is_task_arithmetic():
    vectors = {"math": np.array([1, -2, 3], f32), "law": np.array([0.5, 1, 0], f32)}
    assert update_of(Dare(), vectors, {"density": 1.0}).tolist() == [1.5, -1.0, 3.0]


def test_dare_refuses_a_density_that_keeps_nothing():
    assert Dare.hyperparameters["density"].problem(1e-6)
    assert Dare.hyperparameters["density"].problem(1 / 65536) is None


CONSENSUS = {
    "both want it": ({"math": [2.0], "law": [1.0]}, {}, [3.0]),
    "one dwarfs the other": ({"math": [4.0], "law": [1.0]}, {}, [0.0]),
    "equality counts": ({"math": [4.0], "law": [2.0]}, {"lambda_law": 0.5}, [6.0]),
    "a lambda of its own": ({"math": [4.0], "law": [1.0]}, {"lambda_law": 0.25}, [5.0]),
    "one vote is enough": ({"math": [4.0], "law": [1.0]}, {"min_votes": 1}, [5.0]),
    "one mask alone, on the sum": ({"math": [4.0], "law": [1.0]}, {"only_mask_of": "math"}, [5.0]),
    "one mask alone that is out": ({"math": [4.0], "law": [1.0]}, {"only_mask_of": "law"}, [0.0]),
    "a single task has no second vote": ({"math": [4.0]}, {}, [0.0]),
    "opposites": ({"math": [1.0], "law": [-1.0]}, {}, [0.0]),
}


@pytest.mark.parametrize("case", CONSENSUS)
def test_consensus_by_hand(case):
    """Default: lambda 0.4 for every domain, two votes."""
    vectors, config, expected = CONSENSUS[case]
    arrays = {domain: np.array(values, f32) for domain, values in vectors.items()}
    assert update_of(ConsensusTA(), arrays, config).tolist() == expected


def test_consensus_search_space_is_the_papers_35_runs():
    space = ConsensusTA.search_space
    assert space.num_configurations == 35
    assert space.cost(num_domains=5) == 15.0
    assert [stage.domains for stage in space.stages[:5]] == [
        (domain,) for domain in ("instruction", "math", "multilingual", "coding", "safety")
    ]
    assert space.stages[1].candidate == {"only_mask_of": "math", "scaling_coefficient": 1.0}


def test_consensus_refuses_a_domain_that_is_not_there():
    with pytest.raises(
        MergebenchError, match="only_mask_of is 'safety', which is no domain here; give one of math"
    ):
        update_of(ConsensusTA(), {"math": np.ones(2, f32)}, {"only_mask_of": "safety"})


STITCH = {
    "each its own half": ({"math": [4.0, 1.0], "law": [1.0, -6.0]}, 0.5, [4.0, -6.0]),
    "overlaps are averaged": ({"math": [4.0, 1.0], "law": [2.0, 1.0]}, 0.5, [3.0, 0.0]),
    "three claims": ({"math": [3.0], "law": [4.0], "art": [-1.0]}, 1.0, [2.0]),
    "a task that is the base claims nothing": ({"math": [4.0, 2.0], "law": [0.0, 0.0]}, 1.0, [4.0, 2.0]),
    "ties are kept": ({"math": [1.0, -1.0, 1.0]}, 0.4, [1.0, -1.0, 1.0]),
}


@pytest.mark.parametrize("case", STITCH)
def test_stitching_by_hand(case):
    vectors, density, expected = STITCH[case]
    arrays = {domain: np.array(values, f32) for domain, values in vectors.items()}
    assert update_of(DatalessLocalizeAndStitch(), arrays, {"density": density}).tolist() == expected


@pytest.mark.parametrize(
    ("method", "num_runs"), [(Dare(), 30), (ConsensusTA(), 35), (DatalessLocalizeAndStitch(), 5)], ids=str
)
def test_number_of_runs_is_the_papers(method, num_runs):
    assert method.search_space.num_configurations == num_runs
