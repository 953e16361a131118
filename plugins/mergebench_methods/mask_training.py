"""Masks over task vectors, trained so that base + mask * task vector does a task (arXiv:2408.13656).

Nothing but the masks moves: a real score S per element, sigmoid(S) in training, S > 0 in the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from mergebench_core.checkpoints.thresholds import magnitude_thresholds

from .calibration_batches import (
    Batch,
    Sample,
    batch_of,
    completion_logits,
    load_model,
    load_tokenizer,
    read_samples,
)

SAMPLES_PER_STEP = 16
Tensors = dict[str, torch.Tensor]


class MaskedModel:
    """A model that stands at base + sigmoid(scores) * task vector, and gradients of a loss by the scores."""

    def __init__(
        self, model: torch.nn.Module, base: Mapping[str, torch.Tensor], vectors: Mapping[str, torch.Tensor]
    ) -> None:
        """Take over `model`: parameters named in `vectors` are trained through their scores.

        Args:
            model: fp32.
            base: the base's fp32 values; never changed.
            vectors: fp32 task vector.
        """
        self.scores: Tensors = {name: torch.zeros_like(vector) for name, vector in vectors.items()}
        self._base = base
        self._vectors = vectors
        self._parameters = {name: value for name, value in model.named_parameters() if name in vectors}
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)

    def start(self, threshold: float, bias: float) -> None:
        """Set the scores to `bias` where the task vector's magnitude reaches `threshold`, else to -`bias`."""
        for name, vector in self._vectors.items():
            is_large = vector.abs() >= threshold
            self.scores[name] = torch.where(is_large & (vector != 0.0), bias, -bias).to(vector.dtype)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the masked weights into the model."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self._base[name] + self.scores[name].sigmoid() * self._vectors[name])

    @torch.no_grad()
    def take_gradients(self, l1_strength: float) -> Tensors:
        """Turn the parameters' gradients of a loss into those of the scores, and clear them.

        Added is the gradient of `l1_strength` times the mean of sigmoid(scores).
        """
        numel = sum(vector.numel() for vector in self._vectors.values())
        gradients = {}
        for name, parameter in self._parameters.items():
            mask = self.scores[name].sigmoid()
            outer = parameter.grad * self._vectors[name] + l1_strength / numel
            gradients[name] = outer * mask * (1.0 - mask)
            parameter.grad = None
        return gradients

    @torch.no_grad()
    def step(self, gradients: Mapping[str, torch.Tensor], learning_rate: float) -> None:
        """Move the scores against their gradients, whose root mean square over all elements is taken for 1."""
        numel = sum(value.numel() for value in gradients.values())
        total = sum(float(value.square().sum(dtype=torch.float64)) for value in gradients.values())
        size = (total / max(numel, 1)) ** 0.5
        if size > 0.0:
            for name, value in gradients.items():
                self.scores[name] -= value * (learning_rate / size)

    def masks(self) -> Tensors:
        """Return the binary masks, uint8; an element that the specialist did not change is never claimed."""
        return {
            name: ((self.scores[name] > 0) & (self._vectors[name] != 0)).to(torch.uint8) for name in self.scores
        }


def trained_masks(context, config) -> Iterator[tuple[str, Tensors]]:
    """Yield each domain with its trained masks by tensor; one task vector is in memory at a time."""
    thresholds = magnitude_thresholds(context, config["density"])
    tokenizer = load_tokenizer(context.base.path)
    model = load_model(context.base.path, context.device)
    base = {name: context.base.tensor(name).float().to(context.device) for name in context.merged_names}
    for domain, specialist in context.specialists.items():
        samples = read_samples(context, domain, config["num_calibration_samples"], tokenizer)
        vectors = {name: specialist.tensor(name).float().to(context.device) - base[name] for name in base}
        masked = MaskedModel(model, base, vectors)
        masked.start(thresholds[domain], config["sigmoid_bias"])
        loss = train(masked, model, samples, config)
        masks = masked.masks()
        context.log(f"mask of {domain}: loss {loss:.3f}, {_density(masks):.1%} kept")
        yield domain, masks


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
