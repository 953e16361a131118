"""RegMean and RegMean++: numbers by hand, least squares in numpy, and slow references that run whole models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from checkpoint_samples import DOMAINS, SampleModels
from local_session import LocalSession, task_vector
from mergebench_methods.calibration_batches import encode, load_model
from mergebench_methods.input_grams import gram_product, regmean_update
from mergebench_methods.regmean import RegMean
from mergebench_methods.regmean_plus_plus import RegMeanPlusPlus
from mergebench_methods.transformer_blocks import Blocks
from tiny_llama import byte_tokenizer, tiny_llama_models

from mergebench_core.errors import CheckpointError
from mergebench_core.tracks.registry import load_track

CPU = torch.device("cpu")
WORDS = {"coding": "return a + b", "instruction": "say it twice", "math": "2 + 3 = 5"}
ROWS = {
    domain: [{"prompt": f"{text} {n}" * (n + 1), "completion": text} for n in range(4)]
    for domain, text in WORDS.items()
}


def update(vectors, grams, reduction=1.0):
    mean = sum(vectors) / len(vectors)
    product = sum(gram_product(vector - mean, gram) for vector, gram in zip(vectors, grams, strict=True))
    return regmean_update(vectors, product, sum(grams), [gram.diagonal() for gram in grams], reduction)


BY_HAND = {
    "one input: a weighted mean": ([[[1.0]], [[6.0]]], [[[4.0]], [[1.0]]], 1.0, [[2.0]]),
    "two inputs": ([[[1.0, 0.0]], [[0.0, 0.0]]], [[[2.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]], 1.0,
                   [[0.625, 0.125]]),
    "the diagonal alone": ([[[1.0, 0.0]], [[0.0, 0.0]]], [[[2.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]], 0.0,
                           [[2 / 3, 0.0]]),
    "half the off-diagonal": ([[[1.0, 0.0]], [[0.0, 0.0]]], [[[2.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]],
                              0.5, [[23 / 35, 2 / 35]]),
    "two outputs": ([[[1.0], [0.0]], [[0.0], [4.0]]], [[[3.0]], [[1.0]]], 1.0, [[0.75], [1.0]]),
    "a direction without samples gets the mean":
        ([[[1.0, 1.0]], [[3.0, 5.0]]], [[[2.0, 0.0], [0.0, 0.0]], [[6.0, 0.0], [0.0, 0.0]]], 1.0, [[2.5, 3.0]]),
    "no samples at all": ([[[1.0]], [[3.0]]], [[[0.0]], [[0.0]]], 1.0, [[2.0]]),
}  # fmt: skip


@pytest.mark.parametrize("case", BY_HAND)
def test_closed_form_by_hand(case):
    vectors, grams, reduction, expected = BY_HAND[case]
    found = update([torch.tensor(v) for v in vectors], [torch.tensor(g) for g in grams], reduction)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_agreeing_specialists_merge_to_themselves_exactly():
    vector, features = torch.randn(3, 5), torch.randn(2, 5)
    assert torch.equal(update([vector], [features.T @ features]), vector)
    assert torch.equal(update([vector, vector], [features.T @ features, torch.eye(5)]), vector)
    zero = torch.zeros(3, 5)
    assert torch.equal(update([zero, zero], [torch.eye(5), torch.eye(5)]), zero)


def test_minimises_the_distance_to_all_outputs():
    """Against a least-squares solver on the stacked features, whole weights, in x out."""
    generator = np.random.default_rng(0)
    features = [generator.normal(size=(rows, 6)) * generator.uniform(0.1, 3, 6) for rows in (30, 50, 40)]
    weights = [generator.normal(size=(6, 4)) for _ in features]
    base = generator.normal(size=(6, 4))
    grams = [torch.from_numpy(x.T @ x) for x in features]
    vectors = [torch.from_numpy(w - base).T.contiguous() for w in weights]
    found = base + update(vectors, grams).numpy().T
    outputs = [x @ w for x, w in zip(features, weights, strict=True)]
    best = np.linalg.lstsq(np.concatenate(features), np.concatenate(outputs), rcond=None)[0]
    np.testing.assert_allclose(found, best, rtol=1e-4, atol=1e-4)
    assert not np.allclose(best, sum(weights) / 3, rtol=0.1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny_llama_models(tmp_path_factory.mktemp("models"))


def linear_inputs(model, rows) -> dict[str, torch.Tensor]:
    """Run rows one by one; return by weight the inputs [tokens, in] of every linear layer but the head."""
    found: dict[str, list] = {}
    layers = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n != "lm_head"}
    for name, layer in layers.items():
        rows_of = found.setdefault(f"{name}.weight", [])
        layer.register_forward_pre_hook(lambda _, inputs, rows_of=rows_of: rows_of.append(inputs[0][0]))
    for row in rows:
        tokens = encode(row, byte_tokenizer()).tokens
        with torch.no_grad():
            model(input_ids=torch.tensor([tokens]))
    for layer in layers.values():
        layer._forward_pre_hooks.clear()
    return {name: torch.cat(parts) for name, parts in found.items()}


def least_squares(inputs: list[torch.Tensor], vectors: list[torch.Tensor]) -> torch.Tensor:
    """Return the update [out, in] that best repeats all outputs; each domain's tokens count 1 together, and a
    ridge, the same for all, is part of the rows."""
    scaled = [x.double() / len(x) ** 0.5 for x in inputs]
    ridge = (1e-6 * sum((x**2).sum(0).mean() for x in scaled) / len(inputs)) ** 0.5
    stacked = [torch.cat([x, ridge * torch.eye(x.shape[1])]) for x in scaled]
    outputs = [x @ vector.double().T for x, vector in zip(stacked, vectors, strict=True)]
    best = np.linalg.lstsq(torch.cat(stacked).numpy(), torch.cat(outputs).numpy(), rcond=None)[0]
    return torch.from_numpy(best).T.float()


def mean(models, name):
    return sum(task_vector(models, domain, name) for domain in DOMAINS) / len(DOMAINS)


def test_regmean_equals_a_slow_reference(models, tmp_path):
    found = LocalSession(RegMean(), models, tmp_path, ROWS).updates(reduction=1.0)
    inputs = {d: linear_inputs(load_model(models.specialists[d].path, CPU), ROWS[d]) for d in DOMAINS}
    for name, value in found.items():
        expected = mean(models, name)
        if name in inputs["math"]:
            vectors = [task_vector(models, domain, name) for domain in DOMAINS]
            plain, expected = expected, least_squares([inputs[domain][name] for domain in DOMAINS], vectors)
            assert not torch.allclose(expected, plain, rtol=0.1, atol=1e-3)
        torch.testing.assert_close(value, expected, rtol=2e-3, atol=2e-4)


def test_all_reductions_prepare_once(models, tmp_path):
    session = LocalSession(RegMean(), models, tmp_path, ROWS)
    found = [session.updates(reduction=value)["model.layers.1.mlp.down_proj.weight"] for value in (0.1, 0.5, 0.9)]
    assert [asked[:2] for asked in session.stream.asked] == [(d, s) for d in DOMAINS for s in (0, 4)]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


@pytest.mark.parametrize("method", [RegMean(), RegMeanPlusPlus()])
def test_one_specialist_merges_to_itself(models, tmp_path, method):
    one = SampleModels(base=models.base, specialists={"math": models.specialists["math"]})
    for name, value in LocalSession(method, one, tmp_path, ROWS).updates().items():
        torch.testing.assert_close(value, task_vector(models, "math", name), rtol=0, atol=1e-6)


def test_regmean_plus_plus_equals_a_slow_reference(models, tmp_path):
    """Whole models: merged blocks below, the specialist's block in question, run row by row."""
    found = LocalSession(RegMeanPlusPlus(), models, tmp_path / "a", ROWS).updates(reduction=1.0)
    merged = load_model(models.base.path, CPU)
    for number in range(2):
        inputs = {}
        block = merged.model.layers[number]
        for domain in DOMAINS:
            for name, parameter in block.named_parameters():
                parameter.data = models.specialists[domain].tensor(f"model.layers.{number}.{name}")
            inputs[domain] = linear_inputs(merged, ROWS[domain])
        for short_name, parameter in block.named_parameters():
            name = f"model.layers.{number}.{short_name}"
            expected = mean(models, name)
            if name in inputs["math"]:
                vectors = [task_vector(models, domain, name) for domain in DOMAINS]
                expected = least_squares([inputs[domain][name] for domain in DOMAINS], vectors)
            torch.testing.assert_close(found[name], expected, rtol=5e-3, atol=5e-4)
            parameter.data = models.base.tensor(name) + expected
    torch.testing.assert_close(found["model.norm.weight"], mean(models, "model.norm.weight"))
    regmean = LocalSession(RegMean(), models, tmp_path / "b", ROWS).updates(reduction=1.0)
    first, second = (f"model.layers.{number}.mlp.up_proj.weight" for number in range(2))
    torch.testing.assert_close(found[first], regmean[first], rtol=5e-3, atol=5e-4)
    assert not torch.allclose(found[second], regmean[second], rtol=5e-3, atol=5e-4)


@pytest.mark.parametrize("base", ["mini-llama", "mini-gemma"])
def test_blocks_one_by_one_are_the_model(base):
    """Also where blocks differ in their attention masks: 80 tokens exceed mini-gemma's window of 64."""
    model = load_model(load_track("mini-v1").base(base).path, CPU)
    blocks, tokens = Blocks(model), torch.arange(160).view(2, 80) + 3
    entry = blocks.enter(tokens)
    with torch.no_grad():
        expected, hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state, entry.hidden
        for number in range(len(blocks)):
            hidden = blocks[number](hidden, **entry.arguments[number])
        torch.testing.assert_close(model.base_model.norm(hidden), expected)


def test_a_model_without_blocks_is_named(models):
    model = load_model(models.base.path, CPU)
    model.config.num_hidden_layers = 7
    with pytest.raises(CheckpointError, match="LlamaForCausalLM has no list of 7 blocks"):
        Blocks(model)
