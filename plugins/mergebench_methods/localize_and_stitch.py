"""Localize-and-Stitch (arXiv:2408.13656): train a mask per task vector, average where masks meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch

from mergebench_core import MergingMethod, MethodInfo, Parameter, Prepared, hookimpl
from mergebench_core.checkpoints.thresholds import magnitude_thresholds

from .calibration_batches import (
    NUM_CALIBRATION_SAMPLES,
    Batch,
    Sample,
    batch_of,
    completion_logits,
    load_model,
    load_tokenizer,
    read_samples,
)
from .file_tensors import FileTensors
from .mask_training import MaskedModel

SAMPLES_PER_STEP = 16


class LocalizeAndStitch(MergingMethod):
    info = MethodInfo(
        name="localize_and_stitch",
        title="Localize-and-Stitch",
        paper_url="https://arxiv.org/abs/2408.13656",
        needs={"calibration"},
        determinism="tolerance",
        formula="sum_t m_t tau_t / max(1, sum_t m_t); m_t = [S_t > 0], S_t minimises "
        "loss_t(base + sigmoid(S_t) tau_t) + l1_strength mean(sigmoid(S_t)), starting from the largest |tau_t|",
        cost="Two passes over the models for thresholds; then, per task and epoch, one forward and backward pass "
        "over the calibration samples. In memory 20 bytes per parameter: weights, gradients, base, task vector, "
        "scores, all fp32; one file of a byte per parameter and specialist.",
        fidelity="",
    )
    hyperparameters: ClassVar = {
        "num_calibration_samples": NUM_CALIBRATION_SAMPLES,
        "density": Parameter(
            default=0.1, low=0.0, is_low_open=True, high=1.0, meaning="fraction kept at the start of training"
        ),
        "sigmoid_bias": Parameter(
            default=3.0,
            low=0.0,
            is_low_open=True,
            meaning="score at the start of what is kept; minus it elsewhere",
        ),
        "learning_rate": Parameter(
            default=0.1, low=0.0, meaning="how far a score with a gradient of root mean square moves per step"
        ),
        "num_epochs": Parameter(default=1, low=0, meaning="passes over the calibration samples"),
        "l1_strength": Parameter(default=0.0, low=0.0, meaning="weight of the mean of the soft mask in the loss"),
    }
    prepare_uses = tuple(hyperparameters)

    def prepare(self, context, config):
        """Train a mask per task vector, one after the other, always from the clean base."""
        files = FileTensors(context.work_folder)
        thresholds = magnitude_thresholds(context, config["density"])
        tokenizer = load_tokenizer(context.base.path)
        model = load_model(context.base.path, context.device)
        base = {name: context.base.tensor(name).float().to(context.device) for name in context.merged_names}
        tensors = {}
        for domain, specialist in context.specialists.items():
            samples = read_samples(context, domain, config["num_calibration_samples"], tokenizer)
            vectors = {name: specialist.tensor(name).float().to(context.device) - base[name] for name in base}
            masked = MaskedModel(model, base, vectors)
            masked.start(thresholds[domain], config["sigmoid_bias"])
            loss = train(masked, model, samples, config)
            masks = masked.masks()
            context.log(f"mask of {domain}: loss {loss:.3f}, {_density(masks):.1%} kept")
            tensors[f"mask.{domain}"] = {name: files.keep(mask) for name, mask in masks.items()}
        return Prepared(tensors=tensors)

    def update(self, tensor, config, prepared):
        masks = {domain: prepared.tensor(f"mask.{domain}").float() for domain in tensor.task_vectors.domains}
        stitched = sum(masks[domain] * vector for domain, vector in tensor.task_vectors.items())
        return stitched / sum(masks.values()).clamp(min=1.0)


def _density(masks: dict[str, torch.Tensor]) -> float:
    numel = sum(mask.numel() for mask in masks.values())
    return sum(int(mask.sum()) for mask in masks.values()) / max(numel, 1)


def train(masked: MaskedModel, model: torch.nn.Module, samples: Sequence[Sample], config) -> float:
    """Train the masks on the samples' completions; return the mean loss per token of the last epoch."""
    device = next(model.parameters()).device
    total, count = 0.0, 0
    for epoch in range(config["num_epochs"]):
        total, count = 0.0, 0
        for batch in _steps(samples, epoch, device):
            masked.apply()
            logits, tokens = completion_logits(model, batch)
            if not len(tokens):
                continue
            loss = torch.nn.functional.cross_entropy(logits, tokens)
            loss.backward()
            masked.step(masked.take_gradients(config["l1_strength"]), config["learning_rate"])
            total, count = total + float(loss.detach()) * len(tokens), count + len(tokens)
    return total / max(count, 1)


def _steps(samples: Sequence[Sample], epoch: int, device: torch.device) -> Iterator[Batch]:
    """Yield the samples `SAMPLES_PER_STEP` at a time, in an order of the epoch's that depends on no seed."""
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(epoch)).tolist()
    for start in range(0, len(order), SAMPLES_PER_STEP):
        yield batch_of([samples[place] for place in order[start : start + SAMPLES_PER_STEP]], device)


@hookimpl
def mergebench_register_methods(register):
    register(LocalizeAndStitch())
