"""RegMean (arXiv:2212.09849): per linear layer the weights that best repeat all specialists' outputs."""

from __future__ import annotations

from typing import ClassVar

import torch

from mergebench_core import MergingMethod, MethodInfo, Parameter, Prepared, grid, hookimpl

from .calibration_batches import NUM_CALIBRATION_SAMPLES, batches, load_model, load_tokenizer, read_samples
from .file_tensors import FileTensors
from .input_grams import InputGrams, gram_product, linear_layers, mean_of, regmean_update

REDUCTION = Parameter(default=0.5, low=0.0, high=1.0, meaning="what off-diagonal Gram elements are multiplied by")


class RegMean(MergingMethod):
    info = MethodInfo(
        name="regmean",
        title="RegMean",
        paper_url="https://arxiv.org/abs/2212.09849",
        needs={"calibration", "validation"},
        depth="tensor",
        determinism="platform",
        formula="linear: sum_t tau_t H_t (sum_t H_t)^-1, H_t = reduction G_t + (1 - reduction) diag(G_t) + "
        "1e-6 mean(diag) I, G_t = X_t^T X_t / tokens; else mean of tau_t",
        cost="One forward pass over the calibration samples per specialist, one at a time in fp32 (4 bytes per "
        "parameter) with its Gram matrices (4 in^2 bytes per distinct input); then one fp64 solve per linear "
        "layer and reduction. On disk: the summed Gram matrix per layer and 4 bytes per parameter.",
        fidelity="Checked as the minimiser of sum_t |X_t W - X_t W_t|^2 against a dense least-squares solver. "
        "Gram matrices are means over tokens, as in the authors' and the released code, so that no domain counts "
        "more for being longer; padding is left out and everything is fp32 or fp64, where the release has padding "
        "in and bf16. The grid of the paper's five runs is not known; 0.1 to 0.9 is tried.",
    )
    hyperparameters: ClassVar = {
        "reduction": REDUCTION,
        "num_calibration_samples": NUM_CALIBRATION_SAMPLES,
    }
    search_space = grid(reduction=[0.1, 0.3, 0.5, 0.7, 0.9])
    prepare_uses = ("num_calibration_samples",)

    def prepare(self, context, config):
        """Sum what the closed form needs of each domain's Gram matrices; a reduction costs no second pass."""
        sums = GramSums(context)
        for domain in context.specialists.domains:
            context.log(f"Gram matrices of {domain}")
            sums.add(domain, specialist_grams(context, domain, config["num_calibration_samples"]))
        data = {"linear": sorted(sums.products), "device": str(context.device)}
        return Prepared(data=data, tensors=sums.tensors())

    def update(self, tensor, config, prepared):
        vectors = tensor.task_vectors
        if tensor.name not in prepared.data["linear"]:
            return mean_of(list(vectors))
        num_inputs = tensor.base.shape[1]
        return regmean_update(
            list(vectors),
            prepared.tensor("product").to(prepared.data["device"]),
            prepared.tensor("gram"),
            [prepared.tensor(f"diagonal.{domain}").view(num_inputs) for domain in vectors.domains],
            config["reduction"],
        ).cpu()


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

    def _excess(self, domain: str, name: str) -> torch.Tensor:
        """Return a domain's task vector less the mean of all."""
        base = self._context.base.tensor(name).float()
        items = self._context.specialists.items()
        vectors = {domain: model.tensor(name).float() - base for domain, model in items}
        return vectors[domain] - mean_of(list(vectors.values()))


@hookimpl
def mergebench_register_methods(register):
    register(RegMean())
