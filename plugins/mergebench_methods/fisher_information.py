"""The diagonal of the Fisher information of a language model, estimated on calibration samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import torch

from .calibration_batches import Sample, batch_of, completion_logits, load_model, load_tokenizer, read_samples

FLOOR = 1e-6
"""Added to every Fisher information, relative to the mean of all: where none has any, the plain mean results."""


def specialist_fisher(context, domain: str, config) -> dict[str, torch.Tensor]:
    """Return a specialist's Fisher information by tensor, on the samples of its domain."""
    path = context.specialists[domain].path
    samples = read_samples(context, domain, config["num_calibration_samples"], load_tokenizer(path))
    generator = context.generator("fisher", domain) if config["labels"] == "sampled" else None
    found = diagonal_fisher(load_model(path, context.device), samples, set(context.merged_names), generator)
    missing = set(context.merged_names) - set(found)
    shapes = {name: context.base.tensor(name).shape for name in missing}
    return found | {name: torch.zeros(shape) for name, shape in shapes.items()}


def mean_value(fisher: Mapping[str, torch.Tensor]) -> float:
    """Return the mean Fisher information of one specialist over all its elements."""
    total = sum(float(value.sum(dtype=torch.float64)) for value in fisher.values())
    return total / max(sum(value.numel() for value in fisher.values()), 1)


def floor_of(means: Sequence[float]) -> float:
    """Return what is added to every Fisher information, from the specialists' means; 1 if all of it is 0."""
    return FLOOR * sum(means) / len(means) or 1.0


def diagonal_fisher(
    model: torch.nn.Module, samples: Sequence[Sample], names: Collection[str], generator: torch.Generator | None
) -> dict[str, torch.Tensor]:
    """Return the mean over samples of the squared gradient of the completion's log-probability.

    Args:
        model: its weights stay as they are.
        samples: taken one by one.
        names: the parameters looked at.
        generator: draws the completion's tokens from the model; None takes the given ones.

    Returns:
        fp32 tensors by parameter name, in the parameters' shapes, on the model's device.
    """
    totals, handles = {}, []
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.requires_grad_(True)
            totals[name] = torch.zeros_like(parameter, dtype=torch.float32, requires_grad=False)
            handles.append(parameter.register_post_accumulate_grad_hook(partial(_add_square, totals[name])))
    device = next(model.parameters()).device
    for sample in samples:
        logits, tokens = completion_logits(model, batch_of([sample], device))
        if generator is not None and len(tokens):
            chances = logits.detach().softmax(-1).cpu()
            tokens = torch.multinomial(chances, 1, generator=generator)[:, 0].to(device)
        torch.nn.functional.cross_entropy(logits, tokens, reduction="sum").backward()
    for handle in handles:
        handle.remove()
    for total in totals.values():
        total /= max(len(samples), 1)
    return totals


def _add_square(total: torch.Tensor, parameter: torch.nn.Parameter) -> None:
    """Take a parameter's gradient as soon as it is there, so that all gradients are never held at once."""
    total += parameter.grad.float() ** 2
    parameter.grad = None
