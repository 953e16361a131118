"""RegMean++ block by block: samples go through merged blocks, each specialist's block runs on what comes out."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .calibration_batches import Batch, batches, load_model, load_tokenizer, read_samples
from .input_grams import InputGrams, gram_product, linear_layers, mean_of, regmean_update
from .transformer_blocks import Blocks


def merge_blocks(context, num_samples: int, reduction: float):
    """Yield name and fp32 value of every merged tensor, block after block, then the rest."""
    blocks = Blocks(load_model(context.base.path, context.device))
    streams = _domain_streams(context, blocks, num_samples)
    done = set()
    for number in range(len(blocks)):
        context.log(f"block {number + 1} of {len(blocks)}")
        for name, value in _merge_block(context, blocks, number, streams, reduction):
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
