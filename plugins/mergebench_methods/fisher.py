"""Fisher merging (arXiv:2111.09832): the mean of specialists, weighted by Fisher information."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch

from mergebench_core import MergingMethod, MethodInfo, Parameter, Prepared, hookimpl

from .calibration_batches import (
    NUM_CALIBRATION_SAMPLES,
    Sample,
    batch_of,
    completion_logits,
    load_model,
    load_tokenizer,
    read_samples,
)
from .file_tensors import FileTensors

FLOOR = 1e-6
"""Added to every Fisher information, relative to the mean of all: where none has any, the plain mean results."""


class Fisher(MergingMethod):
    info = MethodInfo(
        name="fisher",
        title="Fisher Merging",
        paper_url="https://arxiv.org/abs/2111.09832",
        needs={"calibration"},
        determinism="tolerance",
        is_stochastic=True,
        formula="sum_t (F_t + e) tau_t / sum_t (F_t + e); F_t = mean over samples of (grad sum_i log p(y_i))^2, "
        "e = 1e-6 * mean of all F",
        cost="One forward and backward pass per calibration sample; one specialist in fp32 and its Fisher "
        "information at a time (8 bytes per parameter, activations and the largest gradient besides); one fp32 "
        "file of Fisher information per specialist.",
        fidelity="y_i is drawn from the specialist's own distribution at each token of the given completion. "
        "Given what precedes it, each term has mean zero, so the square of the sum estimates the sum of the "
        "squares without bias. Checked against a loop of single gradients. The released code of MergeBench moves "
        "the weights while it accumulates and looks at one token per sample; neither is done here.",
    )
    hyperparameters: ClassVar = {
        "num_calibration_samples": NUM_CALIBRATION_SAMPLES,
        "labels": Parameter(
            default="sampled",
            choices=("sampled", "given"),
            meaning="draw completion tokens from the model, or take those of the sample (empirical Fisher)",
        ),
    }
    prepare_uses = ("num_calibration_samples", "labels")

    def prepare(self, context, config):
        """Estimate each specialist's diagonal Fisher information, one specialist after the other."""
        files = FileTensors(context.work_folder)
        fishers = {}
        for domain in context.specialists.domains:
            context.log(f"Fisher information of {domain}")
            found = _specialist_fisher(context, domain, config)
            fishers[f"fisher.{domain}"] = {name: files.keep(value) for name, value in found.items()}
        return Prepared(data={"floor": floor_of(fishers.values())}, tensors=fishers)

    def update(self, tensor, config, prepared):
        vectors, floor = tensor.task_vectors, prepared.data["floor"]
        weights = {domain: prepared.tensor(f"fisher.{domain}") + floor for domain in vectors.domains}
        mean = sum(vectors) / len(vectors)
        # the same as sum(weight * vector) / sum(weight), but exact where all vectors agree
        excess = sum(weights[domain] * (vector - mean) for domain, vector in vectors.items())
        return mean + excess / sum(weights.values())


def _specialist_fisher(context, domain: str, config) -> dict[str, torch.Tensor]:
    path = context.specialists[domain].path
    samples = read_samples(context, domain, config["num_calibration_samples"], load_tokenizer(path))
    generator = context.generator("fisher", domain) if config["labels"] == "sampled" else None
    found = diagonal_fisher(load_model(path, context.device), samples, set(context.merged_names), generator)
    missing = set(context.merged_names) - set(found)
    shapes = {name: context.base.tensor(name).shape for name in missing}
    return found | {name: torch.zeros(shape) for name, shape in shapes.items()}


def floor_of(fishers: Iterable[Mapping[str, torch.Tensor]]) -> float:
    """Return what is added to every Fisher information; 1 if all of it is 0."""
    values = [value for found in fishers for value in found.values()]
    total = sum(float(value.sum(dtype=torch.float64)) for value in values)
    return FLOOR * total / max(sum(value.numel() for value in values), 1) or 1.0


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
    return {name: total / max(len(samples), 1) for name, total in totals.items()}


def _add_square(total: torch.Tensor, parameter: torch.nn.Parameter) -> None:
    """Take a parameter's gradient as soon as it is there, so that all gradients are never held at once."""
    total += parameter.grad.float() ** 2
    parameter.grad = None


@hookimpl
def mergebench_register_methods(register):
    register(Fisher())
