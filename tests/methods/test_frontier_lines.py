"""LiNeS by hand, against a dense reference, and on methods of a plugin of one's own."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoint_samples import EMBED
from mergebench_frontier.lines import relative_depth
from update_samples import SHAPES, random_values, updates
from worker_samples import Bench

from mergebench_core.errors import PluginError
from mergebench_core.plugins import file_source, installed_sources, load_methods

BUNDLED = [source for source in installed_sources() if source.distribution.startswith("mergebench ")]
DEPTHS = dict(zip(SHAPES, (0.0, 0.0, 0.5, 1.0, 0.0), strict=True))
"""By tensor: how deep its block lies; the norm is outside the blocks, the expert's number counts for nothing."""

OWN = '''
from mergebench_core import MergingMethod, MethodInfo, Parameter, Prepared, grid, hookimpl
from mergebench_frontier.lines import lines_on


class Centred(MergingMethod):
    """Whole tensors, prepared tensors and numbers, a parameter for each domain."""

    info = MethodInfo(name="centred", title="Centred", paper_url="", depth="tensor", base_roles=())
    hyperparameters = {"weight": Parameter(default=1.0, is_per_domain=True), "scale": Parameter(default=2.0)}
    linear_in = "scale"
    prepare_uses = ("weight",)

    def prepare(self, context, config):
        mask = {name: context.base.tensor(name) * 0 + 2 for name in context.merged_names}
        return Prepared(data={"weight": config["weight_domain0"]}, tensors={"mask": mask})

    def update(self, tensor, config, prepared):
        total = sum(config[f"weight_{domain}"] * vector for domain, vector in tensor.task_vectors.items())
        return (total - total.mean()) * prepared.tensor("mask") * prepared.data["weight"]


class Final(MergingMethod):
    info = MethodInfo(name="final", title="Final", paper_url="")

    def merge_tensor(self, tensor, config, prepared):
        return tensor.base


@hookimpl
def mergebench_register_methods(register):
    register(Centred())
    register(lines_on("centred"))
'''


def test_depth_of_blocks():
    assert [relative_depth(layer, 5) for layer in (0, 1, 4, None)] == [0, 0.25, 1, 0]
    assert [relative_depth(0, 1), relative_depth(None, 0)] == [0, 0]


def test_by_hand(bench, tmp_path):
    """|3 + 1| and |1 - 2| make 5 for the sum, so alpha is 5 / 5 / 2; beta 0.5 is added in the last block only."""
    names = ["model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"]
    vectors = [dict(zip(names, np.array(values, np.float32), strict=True)) for values in ([[3], [1]], [[1], [-2]])]
    found = updates(bench, tmp_path, "lines", {"beta": 0.5}, vectors)
    assert [found[name].tolist() for name in names] == [[2.0], [-1.0]]


def test_specialists_that_are_the_base(bench, tmp_path):
    zeros = {name: values * 0 for name, values in random_values(0).items()}
    found = updates(bench, tmp_path, "lines", {"beta": 0.5}, [zeros, zeros])
    assert not any(update.any() for update in found.values())


def scaled(merged: dict, vectors: list[dict], beta: float) -> dict:
    """Scale a merged task vector in float64."""
    summed = sum(np.abs(sum(vector[name] for vector in vectors).astype(np.float64)).sum() for name in SHAPES)
    alpha = summed / sum(np.abs(merged[name]).sum() for name in SHAPES) / len(vectors)
    return {name: merged[name] * (alpha + beta * DEPTHS[name]) for name in SHAPES}


def ties_reference(vectors: list[dict], density: float) -> dict:
    """Trim over all tensors, elect, average."""
    flat = np.stack([np.concatenate([vector[name].ravel() for name in SHAPES]) for vector in vectors])
    flat = flat.astype(np.float64)
    for vector in flat:
        vector[np.abs(vector) < np.sort(np.abs(vector))[vector.size - int(density * vector.size)]] = 0
    agreeing = np.where(np.sign(flat) == np.sign(flat.sum(0)), flat, 0)
    merged = agreeing.sum(0) / np.maximum((agreeing != 0).sum(0), 1)
    cuts = np.cumsum([int(np.prod(shape)) for shape in SHAPES.values()])[:-1]
    parts = zip(SHAPES.items(), np.split(merged, cuts), strict=True)
    return {name: part.reshape(shape) for (name, shape), part in parts}


def sum_reference(vectors: list[dict]) -> dict:
    return {name: sum(vector[name].astype(np.float64) for vector in vectors) for name in SHAPES}


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_on_task_arithmetic(bench, tmp_path, beta):
    vectors = [random_values(seed) for seed in range(3)]
    found = updates(bench, tmp_path, "lines", {"beta": beta}, vectors, chunk_numel=7)
    expected = scaled(sum_reference(vectors), vectors, beta)
    for name in SHAPES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_on_ties(bench, tmp_path):
    """TIES prepares thresholds with its own density; alpha makes up for what trimming takes."""
    vectors = [random_values(seed) for seed in range(3)]
    found = updates(bench, tmp_path, "lines_ties", {"beta": 0.7, "density": 0.3}, vectors, chunk_numel=7)
    expected = scaled(ties_reference(vectors, 0.3), vectors, 0.7)
    for name in SHAPES:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "own.py").write_text(OWN)
    with Bench.started(folder, [*BUNDLED, file_source(folder / "own.py")]) as bench:
        yield bench


def test_takes_over_what_its_part_says(own, bench):
    found = own.methods["lines_centred"]
    assert (found.depth, found.base_roles, found.determinism) == ("tensor", frozenset(), "platform")
    assert (list(found.parameters), found.prepare_uses) == (["beta", "weight"], ("weight",))
    assert list(bench.methods["lines_ties"].parameters) == ["beta", *bench.methods["ties"].prepare_uses]
    assert bench.methods["lines"].linear_in is None


def test_on_a_method_of_ones_own(own, tmp_path):
    """Whole tensors, prepared tensors, a value for each domain; the embedding is merged as the part says."""
    vectors = [random_values(seed, {**SHAPES, EMBED: (3, 4)}) for seed in range(2)]
    config = {"beta": 0.7, "weight_domain0": 3.0, "weight_domain1": 0.5}
    found = updates(own, tmp_path, "lines_centred", config, vectors, chunk_numel=7)
    totals = {name: 3.0 * vectors[0][name].astype(np.float64) + 0.5 * vectors[1][name] for name in vectors[0]}
    merged = {name: (total - total.mean()) * 6 for name, total in totals.items()}
    summed = sum(np.abs(vectors[0][name] + vectors[1][name]).sum() for name in merged)
    alpha = summed / sum(np.abs(update).sum() for update in merged.values()) / 2
    for name, update in merged.items():
        expected = update * (alpha + 0.7 * DEPTHS.get(name, 0))
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", ["final", "lines_centred"])
def test_refuses_parts_that_give_no_update(tmp_path, part):
    text = OWN + f'    register(Final())\n    register(lines_on("{part}"))\n'
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(PluginError, match=f"'lines_{part}' builds on '{part}', which gives final weights or is"):
        load_methods([*BUNDLED, file_source(tmp_path / "own.py")])
