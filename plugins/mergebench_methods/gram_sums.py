"""What RegMean needs of all domains: sums of the Gram matrices of layer inputs, and products with task vectors."""

from __future__ import annotations

import torch

from mergebench_core.worker.prepared import release

from .calibration_batches import batches, load_model, load_tokenizer, read_samples
from .file_tensors import FileTensors
from .input_grams import InputGrams, gram_product, linear_layers, mean_of


def specialist_grams(context, domain: str, num_samples: int) -> InputGrams:
    """Run a specialist on its domain's samples and return the Gram matrices of its linear layers' inputs."""
    path = context.specialists[domain].path
    samples = read_samples(context, domain, num_samples, load_tokenizer(path))
    model = load_model(path, context.device)
    with torch.no_grad(), InputGrams(linear_layers(model, context.merged_names)) as grams:
        for batch in batches(samples, context.device):
            grams.expect(batch)
            model.base_model(input_ids=batch.tokens, use_cache=False)
    return grams


class GramSums:
    """Sums over domains, kept in files: Gram matrices, and their products with task vectors."""

    def __init__(self, context) -> None:
        self.products: dict[str, torch.Tensor] = {}
        self._grams: dict[str, torch.Tensor] = {}
        self._diagonals: dict[str, dict[str, torch.Tensor]] = {}
        self._context = context
        self._files = FileTensors(context.work_folder)

    def add(self, domain: str, grams: InputGrams) -> None:
        """Add a domain's matrices."""
        diagonals = self._diagonals[f"diagonal.{domain}"] = {}
        for name in grams.owners:
            matrix = grams.matrix(name)
            product = gram_product(self._excess(domain, name).to(matrix.device), matrix).cpu()
            diagonals[name] = matrix.diagonal().cpu().clone()
            self._add(self.products, name, product)
            self._add(self._grams, name, matrix.cpu())

    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return them as `Prepared` takes them."""
        return {"product": self.products, "gram": self._grams, **self._diagonals}

    def _add(self, sums: dict[str, torch.Tensor], name: str, value: torch.Tensor) -> None:
        if name not in sums:
            sums[name] = self._files.zeros(tuple(value.shape))
        sums[name] += value
        release(sums[name])

    def _excess(self, domain: str, name: str) -> torch.Tensor:
        """Return a domain's task vector less the mean of all."""
        base = self._context.base.tensor(name).float()
        items = self._context.specialists.items()
        vectors = {domain: model.tensor(name).float() - base for domain, model in items}
        return vectors[domain] - mean_of(list(vectors.values()))
