"""mergekit itself, through a worker: numbers by hand, dense references, laws, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checkpoint_samples import DOMAINS
from mergekit_samples import FAMILIES, NUM_LAYERS, loadable_models, require_mergekit
from worker_samples import Bench

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.digest import weights_sha256
from mergebench_core.errors import MethodError
from mergebench_core.plugins import file_source, installed_sources

NORM, EMBED = "model.norm.weight", "model.embed_tokens.weight"
RECIPES = {
    "linear": "merge_method: linear\nmodels: [{model: specialists, parameters: {weight: 1.0}}]",
    "two": """
merge_method: task_arithmetic
base_model: base
models:
  - {model: math, parameters: {weight: 0.5}}
  - {model: coding, parameters: {weight: [0.0, 1.0]}}
""",
    "dare": """
merge_method: dare_ties
base_model: base
models: [{model: specialists, parameters: {weight: 0.5, density: 0.5}}]
""",
    "kept_head": """
mergebench: {base_roles: [embedding, head]}
merge_method: linear
models: [{model: specialists, parameters: {weight: 1.0}}]
""",
    "swapped": f"""
merge_method: passthrough
slices:
  - sources: [{{model: math, layer_range: [0, 1]}}]
  - sources: [{{model: coding, layer_range: [1, {NUM_LAYERS}]}}]
""",
    "taller": f"""
merge_method: passthrough
slices:
  - sources: [{{model: math, layer_range: [0, {NUM_LAYERS}]}}]
  - sources: [{{model: coding, layer_range: [1, {NUM_LAYERS}]}}]
""",
    "unknown": "merge_method: magic\nmodels: [{model: math}]",
    "stranger": "merge_method: linear\nmodels: [{model: poetry, parameters: {weight: 1.0}}]",
    "weightless": "merge_method: linear\nmodels: [{model: specialists}]",
}


def bridge_source():
    return next(source for source in installed_sources() if source.name == "mergekit")


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    require_mergekit()
    folder = tmp_path_factory.mktemp("recipes")
    for name, text in RECIPES.items():
        (folder / f"{name}.yaml").write_text(text)
    return [bridge_source(), *(file_source(folder / f"{name}.yaml") for name in RECIPES)]


@pytest.fixture(scope="module")
def bench(recipes, tmp_path_factory):
    with Bench.started(tmp_path_factory.mktemp("worker"), recipes) as bench:
        yield bench


@pytest.fixture(scope="module", params=FAMILIES)
def models(request, tmp_path_factory):
    return loadable_models(tmp_path_factory.mktemp("models"), request.param)


def arrays(model: Checkpoint) -> dict[str, np.ndarray]:
    return {name: model.tensor(name).double().numpy() for name in model.names}


def merge(bench, models, method, config, folder, **settings) -> dict[str, np.ndarray]:
    bench.merge(models, f"mergekit_{method}", config, folder, **settings)
    return arrays(Checkpoint(folder))


def assert_near(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def vectors(models) -> dict[str, dict[str, np.ndarray]]:
    """Return the task vectors, by domain and tensor."""
    base = arrays(models.base)
    specialists = {domain: arrays(model) for domain, model in models.specialists.items()}
    return {domain: {name: found[name] - base[name] for name in base} for domain, found in specialists.items()}


def test_linear_is_the_mean_of_every_tensor(bench, models, tmp_path):
    found = merge(bench, models, "linear", {}, tmp_path / "out")
    specialists = [arrays(model) for model in models.specialists.values()]
    assert_near(found, {name: sum(s[name] for s in specialists) / 3 for name in found})


@pytest.mark.parametrize("coefficient", [0.4, 1.0, 0.0])
def test_task_arithmetic(bench, models, tmp_path, coefficient):
    found = merge(bench, models, "task_arithmetic", {"scaling_coefficient": coefficient}, tmp_path / "out")
    base, moved = arrays(models.base), vectors(models)
    expected = {name: base[name] + coefficient * sum(moved[d][name] for d in DOMAINS) for name in base}
    assert_near(found, expected)


def ties_reference(tensors: list[np.ndarray], density: float) -> np.ndarray:
    """Return the mean of what agrees, trimmed within one tensor, as mergekit reads it (0.1.5)."""
    kept = max(1, int(density * tensors[0].size))
    trimmed = []
    for values in (tensor.reshape(-1) for tensor in tensors):
        order = np.argsort(-np.abs(values), kind="stable")
        flat = np.zeros(values.size)
        flat[order[:kept]] = values[order[:kept]]
        trimmed.append(flat)
    update = np.zeros(tensors[0].size)
    for i in range(update.size):
        column = [flat[i] for flat in trimmed]
        sign = 1 if sum(column) >= 0 else -1
        agreeing = [value for value in column if np.sign(value) == sign]
        update[i] = sum(agreeing) / max(1, len(agreeing))
    return update.reshape(tensors[0].shape)


@pytest.mark.parametrize(("density", "coefficient"), [(0.3, 1.0), (0.01, 1.5), (1.0, 0.5)])
def test_ties(bench, models, tmp_path, density, coefficient):
    config = {"density": density, "scaling_coefficient": coefficient}
    found = merge(bench, models, "ties", config, tmp_path / "out")
    base, moved = arrays(models.base), vectors(models)
    updates = {name: ties_reference([moved[d][name] for d in DOMAINS], density) for name in base}
    assert_near(found, {name: base[name] + coefficient * updates[name] for name in base})


def test_ties_by_hand(bench, tmp_path):
    """Density 1/2 of eight: the four largest of each; the zero sum in the third place elects +."""
    rows = {
        "base": [1.0] * 8,
        "coding": [5.0, 3.0, 2.0, 0.0, 1.5, 1.25, 0.75, 1.0],
        "instruction": [3.0, -6.0, 0.0, 4.0, 1.5, 1.25, 0.75, 1.0],
        "math": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    }
    by_hand = {place: {NORM: torch.tensor(row)} for place, row in rows.items()}
    models = loadable_models(tmp_path / "models", by_hand=by_hand)
    found = merge(bench, models, "ties", {"density": 0.5, "scaling_coefficient": 1.0}, tmp_path / "out")
    assert found[NORM].tolist() == [4.0, -6.0, 2.0, 4.0, 1.0, 1.0, 1.0, 1.0]


def test_some_domains_and_a_gradient_over_layers(bench, tmp_path):
    models = loadable_models(tmp_path / "models")
    found = merge(bench, models, "two", {}, tmp_path / "out")
    base, moved = arrays(models.base), vectors(models)
    first, last = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"
    assert_near({first: found[first]}, {first: base[first] + 0.5 * moved["math"][first]})
    assert_near({last: found[last]}, {last: base[last] + 0.5 * moved["math"][last] + moved["coding"][last]})


def test_slices_that_keep_the_architecture(bench, tmp_path):
    models = loadable_models(tmp_path / "models")
    found = merge(bench, models, "swapped", {}, tmp_path / "out")
    for layer, domain in enumerate(("math", "coding")):
        name = f"model.layers.{layer}.mlp.up_proj.weight"
        assert np.array_equal(found[name], arrays(models.specialists[domain])[name])


def test_roles_that_a_recipe_leaves_to_the_base(bench, models, tmp_path):
    found = merge(bench, models, "kept_head", {}, tmp_path / "out")
    base = arrays(models.base)
    assert np.array_equal(found[EMBED], base[EMBED])
    assert not np.array_equal(found[NORM], base[NORM])


def test_random_recipe_follows_the_seed_alone(bench, recipes, tmp_path):
    models, moved = loadable_models(tmp_path / "models"), loadable_models(tmp_path / "elsewhere" / "models")
    digests = [
        bench.merge(models, "mergekit_dare", {}, tmp_path / f"out{number}", seed=seed)
        for number, seed in enumerate([1, 2, 1])
    ]
    with Bench.started(tmp_path, recipes) as other:
        digests.append(other.merge(moved, "mergekit_dare", {}, tmp_path / "other", seed=1))
    assert digests[0] == digests[2] == digests[3]
    assert digests[0] != digests[1]


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties", "dare"])
def test_specialists_that_are_the_base_change_nothing(bench, tmp_path, method):
    same = loadable_models(tmp_path / "models", "llama-tied", noise=0.0)
    found = bench.methods[f"mergekit_{method}"]
    config = {name: parameter.default for name, parameter in found.parameters.items()}
    found = merge(bench, same, method, config, tmp_path / "out")
    assert_near(found, arrays(same.base))
    assert method == "linear" or weights_sha256(Checkpoint(tmp_path / "out")) == weights_sha256(same.base)


REFUSED = {
    "taller": "the recipe's slices stack 3 layers, the base has 2; keep them",
    "unknown": "mergekit fails: Unimplemented merge method magic",
    "stranger": "the recipe names model 'poetry'; there are: base, specialists, coding, instruction, math",
    "weightless": "mergekit fails: .*weight",
}


@pytest.mark.parametrize("recipe", REFUSED)
def test_refusal_is_one_line(bench, tmp_path, recipe):
    models = loadable_models(tmp_path / "models")
    with pytest.raises(MethodError, match=REFUSED[recipe]) as error:
        bench.merge(models, f"mergekit_{recipe}", {}, tmp_path / "out")
    assert "\n" not in str(error.value)


def test_models_without_config(bench, tmp_path):
    models = loadable_models(tmp_path / "models")
    (models.base.path / "config.json").unlink()
    with pytest.raises(MethodError, match=r"has no config\.json, from which mergekit tells the architecture"):
        bench.merge(models, "mergekit_linear", {}, tmp_path / "out")


def test_nothing_is_left_in_the_work_folder_and_inputs_stay(bench, tmp_path):
    models = loadable_models(tmp_path / "models")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    bench.merge(models, "mergekit_linear", {}, tmp_path / "out")
    assert {path: path.read_bytes() for path in before} == before
    assert not list((bench.worker._folder / "scratch").iterdir())
