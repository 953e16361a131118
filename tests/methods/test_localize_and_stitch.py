"""Localize-and-Stitch: stitching by hand, gradients of masks against autograd, training on a tiny model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from checkpoint_samples import DOMAINS, SampleModels
from local_session import LocalSession
from mergebench_methods.calibration_batches import Sample, batch_of, completion_logits
from mergebench_methods.localize_and_stitch import LocalizeAndStitch
from mergebench_methods.mask_training import MaskedModel, train
from tiny_llama import near, save_model, tiny_llama, tiny_llama_models

from mergebench_core.methods import PerDomain

CPU = torch.device("cpu")
ROWS = {domain: [{"prompt": f"{domain} {n}", "completion": f" is {n}"} for n in range(20)] for domain in DOMAINS}


def stitch(vectors, masks):
    tensors = PerDomain({f"d{n}": torch.tensor(vector) for n, vector in enumerate(vectors)})
    found = {f"mask.d{n}": torch.tensor(mask, dtype=torch.uint8) for n, mask in enumerate(masks)}
    chunk = SimpleNamespace(task_vectors=tensors)
    return LocalizeAndStitch().update(chunk, {}, SimpleNamespace(tensor=found.__getitem__)).tolist()


@pytest.mark.parametrize(
    ("vectors", "masks", "expected"),
    [
        ([[3.0, 3.0], [6.0, 6.0], [9.0, 9.0]], [[1, 1], [1, 0], [1, 0]], [6.0, 3.0]),
        ([[3.0, 3.0], [6.0, -7.0]], [[0, 1], [0, 1]], [0.0, -2.0]),
        ([[3.0, 0.5]], [[1, 0]], [3.0, 0.0]),
    ],
)
def test_claimed_entries_are_averaged_over_those_that_claim_them(vectors, masks, expected):
    assert stitch(vectors, masks) == expected


def masked_model(seed=1, size=0.3):
    base = tiny_llama(0)
    model = near(base, seed, size).requires_grad_(False)
    names = [name for name, _ in model.named_parameters() if "embed" not in name and "lm_head" not in name]
    start = {name: value.clone() for name, value in base.state_dict().items() if name in names}
    vectors = {name: model.state_dict()[name] - start[name] for name in names}
    return model, MaskedModel(model, start, vectors), start, vectors


def test_scores_start_from_the_largest_entries():
    _, masked, _, vectors = masked_model()
    name = "model.norm.weight"
    vectors[name][:4] = torch.tensor([0.0, 0.5, -0.6, 0.4])
    masked.start(threshold=0.5, bias=3.0)
    assert masked.scores[name][:4].tolist() == [-3.0, 3.0, 3.0, -3.0]
    masked.start(threshold=0.0, bias=2.0)
    assert masked.scores[name][:4].tolist() == [-2.0, 2.0, 2.0, 2.0]
    assert masked.masks()[name][:4].tolist() == [0, 1, 1, 1]


def test_gradients_of_scores_equal_autograd():
    model, masked, start, vectors = masked_model()
    generator = torch.Generator().manual_seed(0)
    for score in masked.scores.values():
        score.copy_(torch.randn(score.shape, generator=generator))
    batch = batch_of([Sample(tokens=(3, 4, 5, 6), num_prompt_tokens=2)], CPU)
    masked.apply()
    logits, tokens = completion_logits(model, batch)
    torch.nn.functional.cross_entropy(logits, tokens).backward()
    found = masked.take_gradients(l1_strength=0.7)
    assert all(parameter.grad is None for parameter in model.parameters())

    scores = {name: score.clone().requires_grad_(True) for name, score in masked.scores.items()}
    weights = {name: start[name] + score.sigmoid() * vectors[name] for name, score in scores.items()}
    logits = torch.func.functional_call(model, weights, kwargs={"input_ids": batch.tokens}).logits[0, 1:3]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([5, 6]))
    soft = torch.cat([score.sigmoid().flatten() for score in scores.values()])
    (loss + 0.7 * soft.mean()).backward()
    for name, score in scores.items():
        torch.testing.assert_close(found[name], score.grad, rtol=1e-3, atol=1e-8)


def test_a_step_is_the_same_for_any_scale_of_the_loss():
    _, masked, _, _ = masked_model()
    gradients = {name: torch.zeros_like(score) for name, score in masked.scores.items()}
    numel = sum(score.numel() for score in masked.scores.values())
    for scale in (1e-12, 1.0):
        masked.start(0.1, 3.0)
        before = masked.scores["model.norm.weight"].clone()
        gradients["model.norm.weight"] = torch.tensor([3.0, -4.0, 0, 0, 0, 0, 0, 0]) * scale
        masked.step(gradients, learning_rate=0.5)
        moved = masked.scores["model.norm.weight"] - before
        expected = torch.tensor([-3.0, 4.0, 0, 0, 0, 0, 0, 0]) * 0.5 * (numel / 25) ** 0.5
        torch.testing.assert_close(moved, expected)
    masked.step({name: torch.zeros_like(score) for name, score in masked.scores.items()}, 0.5)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny_llama_models(tmp_path_factory.mktemp("models"), size=0.3)


def masks_of(models, folder, **given):
    session = LocalSession(LocalizeAndStitch(), models, folder, ROWS)
    prepared = LocalizeAndStitch().prepare(session.context, session.config(**given))
    return {domain: prepared.tensors[f"mask.{domain}"] for domain in models.specialists}


def kept(masks):
    return sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())


def test_masks_do_not_depend_on_other_specialists(models, tmp_path):
    """The base stays clean: each task is localized as if it were alone."""
    masks = masks_of(models, tmp_path / "all")
    for domain in DOMAINS:
        one = SampleModels(base=models.base, specialists={domain: models.specialists[domain]})
        alone = masks_of(one, tmp_path / domain)[domain]
        assert all(torch.equal(alone[name], mask) for name, mask in masks[domain].items())


def test_without_epochs_the_largest_entries_are_kept(models, tmp_path):
    for masks in masks_of(models, tmp_path, num_epochs=0, density=0.25).values():
        assert kept(masks) == pytest.approx(0.25, abs=0.002)


def test_a_penalty_keeps_less(models, tmp_path):
    settings = {"density": 0.5, "num_epochs": 4, "learning_rate": 1.0}
    free, penalised = (masks_of(models, tmp_path / str(l1), l1_strength=l1, **settings) for l1 in (0.0, 100.0))
    assert all(kept(penalised[domain]) < 0.8 * kept(free[domain]) for domain in DOMAINS)


def loss_of(model, samples):
    with torch.no_grad():
        logits, tokens = completion_logits(model, batch_of(samples, CPU))
        return float(torch.nn.functional.cross_entropy(logits, tokens))


def test_training_moves_masks_towards_the_task():
    """The specialist assigns its own samples a lower loss; so does the trained mask, and the weights are only
    ever base + mask * task vector."""
    model, masked, start, vectors = masked_model(size=0.3)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(3, 259, (32, 6), generator=generator)
    with torch.no_grad():
        answers = model(input_ids=tokens).logits.argmax(-1)
    samples = [Sample(tokens=(*row[:5], int(answer[4])), num_prompt_tokens=5)
               for row, answer in zip(tokens.tolist(), answers, strict=True)]  # fmt: skip
    masked.start(threshold=0.5, bias=3.0)
    losses = []
    for num_epochs in (0, 5):
        train(masked, model, samples, {"num_epochs": num_epochs, "learning_rate": 0.3, "l1_strength": 0.0})
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in vectors:
                    parameter.copy_(start[name] + masked.masks()[name] * vectors[name])
        losses.append(loss_of(model, samples))
    assert losses[1] < 0.9 * losses[0]


def test_a_specialist_that_is_the_base_claims_nothing(models, tmp_path):
    same = save_model(tmp_path / "same", tiny_llama(0))
    both = SampleModels(base=models.base, specialists={"coding": same, "math": models.specialists["math"]})
    masks = masks_of(both, tmp_path / "work", density=1.0)
    assert kept(masks["coding"]) == 0.0
    assert kept(masks["math"]) > 0.5
