"""The `_mergebench_compat` variants against a dense simulation of the released code, to the bit."""

from __future__ import annotations

import pytest
import released_simulation as released
import torch
from checkpoint_samples import write_models

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.hyperparameters import resolve_config

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SHAPES = {
    EMBED: (23, 8),
    "model.layers.0.self_attn.q_proj.weight": (8, 8),
    "model.layers.0.mlp.up_proj.weight": (12, 8),
    "model.layers.0.input_layernorm.weight": (8,),
    "model.layers.1.mlp.down_proj.weight": (8, 12),
    "model.norm.weight": (8,),
    HEAD: (23, 8),
}
UP = "model.layers.0.mlp.up_proj.weight"


def random_model(seed: int, names, scale: float = 0.02) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: (scale * torch.randn(SHAPES[name], generator=generator)).bfloat16() for name in names}


def near(base, seed: int, scale: float) -> dict[str, torch.Tensor]:
    """Return a specialist some of whose entries are the base's."""
    generator = torch.Generator().manual_seed(seed)
    model = {}
    for name, tensor in base.items():
        changed = torch.rand(tensor.shape, generator=generator) < 0.8
        step = scale * torch.randn(tensor.shape, generator=generator)
        model[name] = (tensor.float() + step * changed).bfloat16()
    return model


def zero_sums(majority: int) -> tuple:
    """Return models that differ by a few eighths, so that sums are often 0 and magnitudes often tie."""
    names = [*SHAPES]
    generator = torch.Generator().manual_seed(7)
    base = {name: torch.randint(-8, 9, SHAPES[name], generator=generator) / 8 for name in names}
    specialists = {}
    for domain in released.ORDER:
        steps = {name: torch.randint(-2, 3, SHAPES[name], generator=generator) / 8 for name in names}
        shift = {name: (torch.rand(SHAPES[name], generator=generator) < 0.2) * majority / 8 for name in names}
        specialists[domain] = {name: (base[name] + steps[name] + shift[name]).bfloat16() for name in names}
    return {name: tensor.bfloat16() for name, tensor in base.items()}, specialists


def case(name: str) -> tuple:
    """Return a base and its specialists by domain."""
    if name in ("zero sums, majority positive", "zero sums, majority negative"):
        return zero_sums(1 if "positive" in name else -1)
    names = [key for key in SHAPES if key != HEAD or name != "tied"]
    domains = {"one specialist": ["safety"], "other domains": ["law", "math", "art"]}.get(name, released.ORDER)
    base = random_model(0, names)
    specialists = {domain: near(base, seed, 0.004 * seed) for seed, domain in enumerate(domains, 1)}
    if name == "a specialist that is the base":
        specialists["multilingual"] = dict(base)
    if name == "all steps equal":
        base = {key: torch.ones_like(tensor) for key, tensor in base.items()}
        specialists = {domain: {key: tensor + 0.25 for key, tensor in base.items()} for domain in domains}
    if name == "fp32":
        base, specialists = fp32(base, 0), {domain: fp32(specialists[domain], 1) for domain in domains}
    return base, specialists


def fp32(model, seed: int):
    """Return values that bf16 cannot hold."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: tensor.float() * (1 + torch.rand(tensor.shape, generator=generator) / 256)
        for key, tensor in model.items()
    }


CASES = [
    "untied",
    "tied",
    "one specialist",
    "other domains",
    "zero sums, majority positive",
    "zero sums, majority negative",
    "a specialist that is the base",
    "all steps equal",
    "fp32",
]
RUNS = [
    ("task_arithmetic", {"scaling_coefficient": 0.4}),
    ("ties", {"scaling_coefficient": 0.6, "density": 0.2, "aggregation": "sum"}),
    ("ties", {"scaling_coefficient": 1.0, "density": 0.5, "aggregation": "mean"}),
    ("ties", {"scaling_coefficient": 0.2, "density": 0.9, "aggregation": "sum"}),
    ("consensus_ta", {"scaling_coefficient": 0.3, "min_votes": 2}),
    ("consensus_ta", {"scaling_coefficient": 1.0, "min_votes": 1}),
    ("dataless_localize_and_stitch", {"density": 0.1}),
    ("dataless_localize_and_stitch", {"density": 0.5}),
]


def simulated(method: str, base, specialists, config):
    order = [domain for domain in released.ORDER if domain in specialists]
    order += sorted(domain for domain in specialists if domain not in order)
    models = [released.loaded(specialists[domain]) for domain in order]
    return getattr(released, method)(released.loaded(base), models, **config)


def merged(bench, folder, method: str, base, specialists, config, **settings) -> Checkpoint:
    models = write_models(folder, base, specialists)
    name = f"{method}_mergebench_compat"
    whole = resolve_config(bench.methods[name].parameters, config, list(specialists), name)
    bench.merge(models, name, whole, folder / "out", **settings)
    return Checkpoint(folder / "out")


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Return whether dtype and bytes are equal: -0.0 is not 0.0."""
    return left.dtype == right.dtype and torch.equal(left.view(torch.uint8), right.view(torch.uint8))


@pytest.mark.parametrize(("method", "config"), RUNS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_equals_the_released_code_to_the_bit(bench, tmp_path, name, method, config):
    base, specialists = case(name)
    found = merged(bench, tmp_path, method, base, specialists, config, chunk_numel=97)
    expected = simulated(method, base, specialists, config)
    for key in base:
        if key in (EMBED, HEAD):
            assert same_bits(found.tensor(key), base[key])
        else:
            assert same_bits(found.tensor(key), expected[key].to(base[key].dtype)), key
    assert not torch.equal(found.tensor(UP), base[UP]) or name == "one specialist"


def test_zero_sums_go_with_the_majority(bench, tmp_path):
    """The same pair of opposite steps ends above or below the base, by the sign of all other entries; below if
    these are balanced."""
    for majority, sign in ((1.0, 1), (-1.0, -1), (0.0, -1)):
        base = {UP: torch.zeros(1, 4).bfloat16()}
        steps = {"math": [0.5, majority, majority, 0.0], "coding": [-0.5, majority, 0.0, 0.0]}
        specialists = {domain: {UP: torch.tensor([values]).bfloat16()} for domain, values in steps.items()}
        config = {"scaling_coefficient": 1.0, "density": 0.7}
        found = merged(bench, tmp_path / str(majority), "ties", base, specialists, config).tensor(UP)
        assert found.tolist() == [[0.5 * sign, 2 * majority, majority, 0.0]]


def test_the_untied_head_counts_in_thresholds(bench, tmp_path):
    """Large steps in the head push everything else below the threshold of the released code."""
    base = {UP: torch.zeros(1, 4).bfloat16(), HEAD: torch.zeros(1, 4).bfloat16()}
    specialists = {"math": {UP: torch.ones(1, 4).bfloat16(), HEAD: 2 * torch.ones(1, 4).bfloat16()}}
    for method in ("ties", "dataless_localize_and_stitch"):
        found = merged(bench, tmp_path / method, method, base, specialists, {"density": 0.25})
        assert torch.equal(found.tensor(UP), base[UP])
        assert torch.equal(found.tensor(HEAD), base[HEAD])


def test_density_1_is_refused_where_the_released_code_stops(bench):
    parameter = bench.methods["ties_mergebench_compat"].parameters["density"]
    assert "below 1" in parameter.problem(1.0)


def test_variants_are_named_for_what_they_vary(bench):
    found = {name: method.variant_of for name, method in bench.methods.items() if name.endswith("_compat")}
    assert found == {f"{name}_mergebench_compat": name for name in sorted({method for method, _ in RUNS})}
