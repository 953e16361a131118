"""Laws that every bundled method keeps, through a real worker."""

from __future__ import annotations

import hashlib

import pytest
import torch
from checkpoint_samples import (
    DOMAINS,
    EMBED,
    HEAD,
    NORM,
    SampleModels,
    random_models,
    random_tensors,
    write_in_order,
    write_models,
)
from tiny_llama import tiny_llama_models
from worker_samples import SampleServices

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.digest import weights_sha256
from mergebench_core.checkpoints.policy import check_compatible, merge_plan
from mergebench_core.checkpoints.roles import role_of
from mergebench_core.hyperparameters import resolve_config
from mergebench_core.plugins import installed_sources, load_methods

BUNDLED = [source for source in installed_sources() if source.distribution.startswith("mergebench ")]

NEED_TWO = {"consensus_ta", "consensus_ta_mergebench_compat", "sce"}
"""Two votes, or a variance over tasks above zero: a single specialist has neither by their formulas."""


@pytest.fixture(scope="module")
def toy_models(tmp_path_factory):
    return random_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def llama_models(tmp_path_factory):
    return tiny_llama_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=sorted(load_methods(BUNDLED)))
def method(request, bench):
    """Each bundled method: its description."""
    return bench.methods[request.param]


def needs_folders(method) -> bool:
    """Return whether a method reads more than weights: it runs the models, or another program that loads them."""
    return "calibration" in method.needs or method.depth == "model"


@pytest.fixture
def models(request, bench, method):
    """Models that the method can merge."""
    models = request.getfixturevalue("llama_models" if needs_folders(method) else "toy_models")
    bench.worker.services = SampleServices(models=models)
    return models


def default_config(method) -> dict:
    """Return the configuration that a method has where nobody says otherwise, with few samples."""
    given = {"num_calibration_samples": 6} if "calibration" in method.needs else {}
    return resolve_config(method.parameters, given, DOMAINS, method.name)


def file_bytes(models) -> dict[str, str]:
    folders = [models.base.path, *(model.path for model in models.specialists.values())]
    files = [path for folder in folders for path in sorted(folder.iterdir())]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_there_are_bundled_methods():
    assert {"model_soup", "task_arithmetic", "ties"} <= {source.name for source in BUNDLED}


def test_output_has_the_bases_form_and_inputs_stay(bench, models, method, tmp_path):
    before = file_bytes(models)
    bench.merge(models, method.name, default_config(method), tmp_path / "out")
    merged = Checkpoint(tmp_path / "out")
    assert merged.entries == models.base.entries
    assert file_bytes(models) == before
    assert weights_sha256(merged) != weights_sha256(models.base)
    for entry in merge_plan(models.base, method.base_roles).left_out:
        assert torch.equal(merged.tensor(entry.name), models.base.tensor(entry.name))


def test_same_seed_same_bytes(bench, models, method, tmp_path):
    config = default_config(method)
    digests = [
        bench.merge(models, method.name, config, tmp_path / str(number), seed=seed)
        for number, seed in enumerate((1, 1, 2))
    ]
    assert digests[0] == digests[1]
    assert (digests[0] == digests[2]) is not method.is_stochastic


def test_order_of_specialists_and_shards_do_not_matter(bench, models, method, tmp_path):
    if method.determinism != "exact":
        pytest.skip("promised by exact methods only")
    config = default_config(method)
    sharded = random_models(tmp_path / "sharded", num_shards=3)
    digests = {
        bench.merge(models, method.name, config, tmp_path / "a"),
        bench.merge(models, method.name, config, tmp_path / "b", domains=reversed(DOMAINS)),
        bench.merge(sharded, method.name, config, tmp_path / "c", domains=reversed(DOMAINS), chunk_numel=5),
    }
    assert len(digests) == 1


def test_specialists_that_are_the_base_change_nothing(bench, models, method, tmp_path):
    tensors = random_tensors(0)
    if needs_folders(method):
        same = tiny_llama_models(tmp_path, size=0.0)
    else:
        same = write_models(tmp_path, tensors, dict.fromkeys(DOMAINS, tensors))
    bench.worker.services = SampleServices(models=same)
    assert bench.merge(same, method.name, default_config(method), tmp_path / "out") == weights_sha256(same.base)


def test_identical_specialists_merge_to_themselves(bench, tmp_path):
    """Promised by Model Soup. The base stays where the policy says so."""
    specialist = random_tensors(1)
    same = write_models(tmp_path, random_tensors(0), dict.fromkeys(DOMAINS, specialist))
    bench.merge(same, "model_soup", {}, tmp_path / "out")
    merged = Checkpoint(tmp_path / "out")
    for entry in merge_plan(same.base, bench.methods["model_soup"].base_roles).merged:
        assert torch.equal(merged.tensor(entry.name), specialist[entry.name])
    assert not torch.equal(merged.tensor(NORM), same.base.tensor(NORM))


def test_one_specialist_is_enough(bench, models, method, tmp_path):
    config = resolve_config(method.parameters, {}, DOMAINS[:1], method.name) | {
        name: value for name, value in default_config(method).items() if name == "num_calibration_samples"
    }
    bench.merge(models, method.name, config, tmp_path / "out", domains=DOMAINS[:1])
    check_compatible(models.base, Checkpoint(tmp_path / "out"), method.name)
    is_base = weights_sha256(Checkpoint(tmp_path / "out")) == weights_sha256(models.base)
    assert is_base is (method.name in NEED_TWO)


def test_how_specialists_are_stored_does_not_matter(bench, models, method, tmp_path):
    """The same values in another order of tensors, as fp32, with more rows where the policy leaves the base's."""
    if method.determinism != "exact":
        pytest.skip("promised by exact methods only")
    specialists = {}
    for domain, model in models.specialists.items():
        tensors = {name: model.tensor(name).float() for name in reversed(model.names)}
        for name in (EMBED, HEAD):
            if role_of(name, tensors[name].shape) in method.base_roles:
                tensors[name] = torch.cat([tensors[name], torch.ones(2, tensors[name].shape[1])])
        specialists[domain] = write_in_order(tmp_path / domain, tensors)
    other = SampleModels(base=models.base, specialists=specialists)
    config = default_config(method)
    digest = bench.merge(models, method.name, config, tmp_path / "out")
    assert bench.merge(other, method.name, config, tmp_path / "other") == digest
