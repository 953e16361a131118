"""RegMean++ (arXiv:2508.03121): RegMean block by block, on the features that the merged blocks below produce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from mergebench_core import MergingMethod, MethodInfo, Parameter, grid, hookimpl

from .calibration_batches import (
    NUM_CALIBRATION_SAMPLES,
    Batch,
    batches,
    load_model,
    load_tokenizer,
    read_samples,
)
from .input_grams import InputGrams, gram_product, linear_layers, mean_of, regmean_update
from .transformer_blocks import Blocks

REDUCTION = Parameter(default=0.5, low=0.0, high=1.0, meaning="what off-diagonal Gram elements are multiplied by")


class RegMeanPlusPlus(MergingMethod):
    info = MethodInfo(
        name="regmean_plus_plus",
        title="RegMean++",
        paper_url="https://arxiv.org/abs/2508.03121",
        needs={"calibration", "validation"},
        depth="model",
        determinism="platform",
        formula="RegMean's, block by block; X_t are the features inside specialist t's block when it is fed what "
        "the merged blocks below make of domain t's samples",
        cost="Two forward passes over all domains' calibration samples per reduction; in memory the base in fp32, "
        "two blocks, one block's Gram matrices of every domain, and every token's hidden state in the base's "
        "dtype (domains * samples * tokens * features).",
        fidelity="Checked against a slow reference that runs whole models. Embeddings are the base's, so the "
        "first block's inputs are the same for all specialists. Each domain has the same number of samples; the "
        "release reads whole data sets. Gram matrices are means over tokens, without padding, in fp32. The grid "
        "of the paper's five runs is RegMean's.",
    )
    hyperparameters: ClassVar = {
        "reduction": REDUCTION,
        "num_calibration_samples": NUM_CALIBRATION_SAMPLES,
    }
    search_space = grid(reduction=[0.1, 0.3, 0.5, 0.7, 0.9])

    def merge(self, context, config):
        blocks = Blocks(load_model(context.base.path, context.device))
        streams = _domain_streams(context, blocks, config["num_calibration_samples"])
        done = set()
        for number in range(len(blocks)):
            context.log(f"block {number + 1} of {len(blocks)}")
            for name, value in _merge_block(context, blocks, number, streams, config["reduction"]):
                done.add(name)
                yield name, value
            for stream in streams.values():
                stream.push(blocks, number)
        for name in context.merged_names:
            if name not in done:
                yield name, context.base.tensor(name).float() + mean_of(_task_vectors(context, name))


@dataclass(kw_only=True)
class Portion:
    """A batch on its way through the blocks."""

    batch: Batch
    hidden: torch.Tensor
    """[samples, length, features] on the CPU, in the base's dtype."""

    def output(self, blocks: Blocks, number: int, block: torch.nn.Module) -> torch.Tensor:
        """Return what `block`, standing at place `number`, makes of the hidden states."""
        tokens = self.batch.tokens
        with torch.no_grad():
            arguments = blocks.enter(tokens).arguments[number]
            return block(self.hidden.to(tokens.device, torch.float32), **arguments)


class DomainStream:
    """A domain's samples on their way through the merged blocks."""

    def __init__(self, blocks: Blocks, samples, device: torch.device, dtype: torch.dtype) -> None:
        self._portions = [
            Portion(batch=batch, hidden=blocks.enter(batch.tokens).hidden.to("cpu", dtype))
            for batch in batches(samples, device)
        ]

    def push(self, blocks: Blocks, number: int) -> None:
        """Replace the hidden states by what the model's own block makes of them."""
        for portion in self._portions:
            portion.hidden = portion.output(blocks, number, blocks[number]).to("cpu", portion.hidden.dtype)

    def grams(self, blocks: Blocks, number: int, block: torch.nn.Module, names) -> InputGrams:
        """Return the Gram matrices within `block` at place `number`."""
        with InputGrams(linear_layers(block, names, prefix=blocks.name(number, ""))) as grams:
            for portion in self._portions:
                grams.expect(portion.batch)
                portion.output(blocks, number, block)
        return grams


def _domain_streams(context, blocks: Blocks, num_samples: int) -> dict[str, DomainStream]:
    tokenizer = load_tokenizer(context.base.path)
    dtype = context.base.tensor(context.merged_names[0]).dtype
    return {
        domain: DomainStream(blocks, read_samples(context, domain, num_samples, tokenizer), context.device, dtype)
        for domain in context.specialists.domains
    }


def _merge_block(context, blocks: Blocks, number: int, streams, reduction: float):
    """Yield the merged tensors of a block, fp32, and put them, rounded, into the model."""
    grams = {}
    for domain, stream in streams.items():
        specialist = blocks.copy_of(number, context.specialists[domain])
        grams[domain] = stream.grams(blocks, number, specialist, context.merged_names)
    for short_name, parameter in blocks[number].named_parameters():
        name = blocks.name(number, short_name)
        if name in context.merged_names:
            base = context.base.tensor(name)
            value = base.float() + _update(context, name, grams, reduction).cpu()
            with torch.no_grad():
                parameter.copy_(value.to(base.dtype))
            yield name, value


def _update(context, name: str, grams: dict[str, InputGrams], reduction: float) -> torch.Tensor:
    vectors = _task_vectors(context, name)
    mean = mean_of(vectors)
    if any(name not in found.owners for found in grams.values()):
        return mean
    matrices = [found.matrix(name) for found in grams.values()]
    device = matrices[0].device
    pairs = zip(vectors, matrices, strict=True)
    product = sum(gram_product((vector - mean).to(device), matrix) for vector, matrix in pairs)
    diagonals = [matrix.diagonal() for matrix in matrices]
    return regmean_update(vectors, product, sum(matrices), diagonals, reduction)


def _task_vectors(context, name: str) -> list[torch.Tensor]:
    base = context.base.tensor(name).float()
    return [model.tensor(name).float() - base for model in context.specialists]


@hookimpl
def mergebench_register_methods(register):
    register(RegMeanPlusPlus())
