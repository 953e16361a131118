"""Gram matrices of the inputs of linear layers, and RegMean's closed form (arXiv:2212.09849) on them.

With weights written out x in, as torch stores them, task vectors tau_t and Gram matrices G_t = X_t^T X_t (in x in)
of the inputs X_t (tokens x in), divided by the number of tokens:

    update = tau + (sum_t (tau_t - tau) H_t) (sum_t H_t)^-1, tau = mean of tau_t
    H_t = reduction * G_t + (1 - reduction) * diag(G_t) + ridge

which is sum_t tau_t H_t (sum_t H_t)^-1, written so that specialists that agree merge to themselves exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from .calibration_batches import Batch

RIDGE = 1e-6
"""Added to the diagonal of each H_t, relative to the mean diagonal: where no sample points, the mean stands."""


def linear_layers(model: torch.nn.Module, names: Iterable[str], prefix: str = "") -> dict[str, torch.nn.Linear]:
    """Return the linear layers of `model` by the name of their weight, those of `names` only."""
    wanted = set(names)
    found = {f"{prefix}{name}.weight": layer for name, layer in model.named_modules()}
    return {name: layer for name, layer in found.items() if isinstance(layer, torch.nn.Linear) and name in wanted}


class InputGrams:
    """Collects, while a model runs, the Gram matrix of each linear layer's inputs. Use it as a context manager.

    Layers that are handed the same tensor one after the other (query, key, value) share one matrix.
    """

    def __init__(self, layers: Mapping[str, torch.nn.Linear]) -> None:
        self.owners: dict[str, str] = {}
        """By layer, the first layer that has the same inputs."""
        self._layers = layers
        self._sums: dict[str, torch.Tensor] = {}
        self._num_tokens = 0
        self._is_token: torch.Tensor | None = None
        self._last: tuple[str, torch.Tensor] | None = None
        self._handles: list = []

    def __enter__(self) -> InputGrams:
        for name, layer in self._layers.items():
            self._handles.append(layer.register_forward_pre_hook(self._observer(name)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._last = None

    def expect(self, batch: Batch) -> None:
        """Announce the batch that runs next."""
        self._is_token, self._last = batch.is_token, None
        self._num_tokens += int(batch.is_token.sum())

    def matrix(self, name: str) -> torch.Tensor:
        """Return a layer's fp32 Gram matrix [in, in], the mean over all tokens that ran."""
        return self._sums[self.owners[name]] / max(self._num_tokens, 1)

    def _observer(self, name: str):
        def observe(layer, inputs) -> None:
            features = inputs[0]
            if self._last is not None and self._last[1] is features:
                self.owners[name] = self._last[0]
                return
            self.owners[name] = name
            self._last = (name, features)
            rows = features[self._is_token].float()
            product = rows.T @ rows
            self._sums[name] = self._sums[name] + product if name in self._sums else product

        return observe


def mean_of(vectors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean of task vectors."""
    return sum(vectors) / len(vectors)


def gram_product(excess: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """Return fp64 (tau_t - tau) G_t [out, in] for one domain."""
    return excess.double() @ gram.double()


def regmean_update(
    vectors: Sequence[torch.Tensor],
    product: torch.Tensor,
    gram: torch.Tensor,
    diagonals: Sequence[torch.Tensor],
    reduction: float,
) -> torch.Tensor:
    """Return RegMean's update of one weight, fp32 [out, in] on the device of `product`; solved in fp64.

    Args:
        vectors: task vectors [out, in].
        product: sum_t (tau_t - tau) G_t [out, in].
        gram: sum_t G_t [in, in].
        diagonals: diagonal of each G_t [in].
        reduction: what off-diagonal elements are multiplied by.
    """
    device = product.device
    vectors = [vector.to(device) for vector in vectors]
    mean = mean_of(vectors)
    gram = gram.to(device).double()
    ridge = RIDGE * gram.diagonal().mean()
    if ridge == 0.0:
        return mean
    pairs = zip(vectors, diagonals, strict=True)
    diagonal_part = sum((vector - mean).double() * diagonal.to(device).double() for vector, diagonal in pairs)
    right = reduction * product.double() + (1.0 - reduction) * diagonal_part
    left = reduction * gram + torch.diag((1.0 - reduction) * gram.diagonal() + ridge)
    return mean + torch.linalg.solve(left, right.T).T.float()
