"""A slow, dense simulation of the released MergeBench code (uiuctml/MergeBench, commit b245648).

It flattens whole models into bf16 vectors and changes the base in place, as that code does. Nothing of the methods
is used here; what the released code does is described in docs/fidelity.md.
"""

from __future__ import annotations

import torch

ORDER = ["instruction", "math", "coding", "safety", "multilingual"]

Model = dict[str, torch.Tensor]


def loaded(model: Model) -> Model:
    """Return a copy in bf16, as the released code loads a model."""
    return {name: tensor.to(torch.bfloat16).clone() for name, tensor in model.items()}


def flat(model: Model) -> torch.Tensor:
    return torch.cat([tensor.flatten() for name, tensor in model.items() if "embed" not in name])


def task_vector(specialist: Model, base: Model) -> torch.Tensor:
    return flat(specialist) - flat(base)


def add_in_place(vector: torch.Tensor, model: Model) -> Model:
    """Add a flat vector to a model; the head at its end is left out."""
    offset = 0
    for name, tensor in model.items():
        if "embed" not in name and "lm_head" not in name:
            tensor += vector[offset : offset + tensor.numel()].reshape(tensor.shape)
            offset += tensor.numel()
    return model


def task_arithmetic(base: Model, specialists: list[Model], scaling_coefficient: float) -> Model:
    return add_in_place(scaling_coefficient * sum(task_vector(each, base) for each in specialists), base)


def ties(
    base: Model, specialists: list[Model], scaling_coefficient: float, density: float, aggregation: str
) -> Model:
    stack = torch.stack([task_vector(each, base) for each in specialists])
    rank = stack.shape[1] - int(stack.shape[1] * density)
    stack = stack * (stack.abs() >= stack.abs().kthvalue(rank, dim=1, keepdim=True).values)
    sign = torch.sign(stack.sum(dim=0))
    sign[sign == 0] = torch.sign(sign.sum())
    chosen = stack * torch.where(sign.unsqueeze(0) > 0, stack > 0, stack < 0)
    merged = torch.sum(chosen, dim=0)
    if aggregation == "mean":
        merged = merged / torch.clamp((chosen != 0).sum(dim=0).float(), min=1)
    return add_in_place(scaling_coefficient * merged, base)


def consensus_ta(base: Model, specialists: list[Model], scaling_coefficient: float, min_votes: int) -> Model:
    vectors = [task_vector(each, base) for each in specialists]
    total = sum(vectors)
    votes = torch.zeros_like(total, dtype=torch.int16)
    for vector in vectors:
        votes += (torch.abs(vector) > torch.abs(total - vector) * 0.2).to(torch.int16)
    return add_in_place(total * (votes >= min_votes) * scaling_coefficient, base)


def dataless_localize_and_stitch(base: Model, specialists: list[Model], density: float) -> Model:
    masks = []
    for each in specialists:
        vector = task_vector(each, base)
        logits = torch.full_like(vector, -3)
        logits[vector.abs() >= torch.topk(vector.abs(), int(density * len(vector))).values.min()] = 3
        masks.append(torch.round(torch.sigmoid(logits)))
        add_in_place(vector * masks[-1], base)
    stitched = torch.zeros_like(flat(base))
    for mask, each in zip(_overlap_weights(masks), specialists, strict=True):
        stitched += mask * task_vector(each, base)
    return add_in_place(stitched, base)


def _overlap_weights(masks: list[torch.Tensor]) -> list[torch.Tensor]:
    if len(masks) == 1:
        return masks
    weights = []
    for i, mask in enumerate(masks):
        for j, other in enumerate(masks):
            if i != j:
                shared = torch.logical_and(mask, other)
        count = mask + shared
        weights.append(torch.reciprocal(count).masked_fill(count == 0, 0))
    return weights
