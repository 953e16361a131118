"""Tiny checkpoints written into a folder: any tensors, any dtype, any number of shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from mergebench_core.checkpoints.checkpoint import INDEX, SINGLE, Checkpoint

DOMAINS = ("coding", "instruction", "math")
SHAPES = {
    "model.embed_tokens.weight": (11, 4),
    "model.layers.0.self_attn.q_proj.weight": (4, 4),
    "model.layers.0.mlp.up_proj.weight": (6, 4),
    "model.layers.0.mlp.up_proj.bias": (6,),
    "model.layers.0.input_layernorm.weight": (4,),
    "model.layers.1.mlp.down_proj.weight": (4, 6),
    "model.norm.weight": (4,),
    "lm_head.weight": (11, 4),
}
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
NORM, UP = "model.norm.weight", "model.layers.0.mlp.up_proj.weight"
MERGED = tuple(name for name in SHAPES if name not in (EMBED, HEAD))

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class SampleModels:
    """A base with its specialists, on disk."""

    base: Checkpoint
    specialists: Mapping[str, Checkpoint]


def random_tensors(seed: int, dtype: torch.dtype = torch.bfloat16) -> Tensors:
    """Return values around 1 in the shapes of a two-layer model."""
    generator = torch.Generator().manual_seed(seed)
    return {name: (1 + torch.randn(shape, generator=generator) / 4).to(dtype) for name, shape in SHAPES.items()}


def write_raw(path: Path, header: object, data: bytes = b"") -> Path:
    """Write a safetensors file with any header: bytes as they are, everything else as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def write_checkpoint(folder: Path, tensors: Tensors, *, num_shards: int = 1) -> Checkpoint:
    """Write tensors into one file, or dealt out in turn to several with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(tensors)
    if num_shards == 1:
        save_file(tensors, folder / SINGLE, metadata={"format": "pt"})
        return Checkpoint(folder)
    weight_map: dict[str, str] = {}
    for number in range(num_shards):
        shard = f"model-{number + 1:05}-of-{num_shards:05}.safetensors"
        part = {name: tensors[name] for name in names[number::num_shards]}
        save_file(part, folder / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return Checkpoint(folder)


def write_in_order(folder: Path, tensors: Tensors) -> Checkpoint:
    """Write one file whose data stand in the order given (the library would sort them)."""
    entries, data = {}, b""
    for name, tensor in tensors.items():
        part = tensor.contiguous().view(torch.uint8).numpy().tobytes()
        dtype = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}[tensor.dtype]
        offsets = [len(data), len(data) + len(part)]
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        data += part
    write_raw(folder / SINGLE, entries, data)
    return Checkpoint(folder)


def write_models(
    folder: Path, base: Tensors, specialists: Mapping[str, Tensors], *, num_shards: int = 1
) -> SampleModels:
    """Write a base and its specialists."""
    return SampleModels(
        base=write_checkpoint(folder / "base", base, num_shards=num_shards),
        specialists={
            domain: write_checkpoint(folder / domain, tensors, num_shards=num_shards)
            for domain, tensors in specialists.items()
        },
    )


def random_models(folder: Path, dtype: torch.dtype = torch.bfloat16, *, num_shards: int = 1) -> SampleModels:
    """Write a random base with a random specialist per domain."""
    specialists = {domain: random_tensors(seed, dtype) for seed, domain in enumerate(DOMAINS, 1)}
    return write_models(folder, random_tensors(0, dtype), specialists, num_shards=num_shards)
