"""Masks over task vectors, trained so that base + mask * task vector does a task (arXiv:2408.13656).

Nothing but the masks moves: a real score S per element, sigmoid(S) in training, S > 0 in the end.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

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
