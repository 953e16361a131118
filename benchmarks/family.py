"""Synthetic model families for timing: a base and five specialists with the names and shapes of a Llama, in bf16.

    python benchmarks/family.py SIZE FOLDER

Base N(0, 0.02**2). A specialist differs by N(0, 1e-3**2) on a random half of the entries and by N(0, 1e-4**2) on
the rest, so that magnitudes spread and many differences vanish in bf16, as those of fine-tuned models do.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

DOMAINS = ("coding", "instruction", "math", "multilingual", "safety")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a Llama with tied embeddings."""

    hidden: int
    layers: int
    intermediate: int
    vocabulary: int
    heads: int
    kv_heads: int
    head_dim: int
    shards: int

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield name and shape of every tensor."""
        width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield "model.embed_tokens.weight", (self.vocabulary, self.hidden)
        for layer in range(self.layers):
            block = f"model.layers.{layer}."
            yield f"{block}self_attn.q_proj.weight", (width, self.hidden)
            yield f"{block}self_attn.k_proj.weight", (kv_width, self.hidden)
            yield f"{block}self_attn.v_proj.weight", (kv_width, self.hidden)
            yield f"{block}self_attn.o_proj.weight", (self.hidden, width)
            yield f"{block}mlp.gate_proj.weight", (self.intermediate, self.hidden)
            yield f"{block}mlp.up_proj.weight", (self.intermediate, self.hidden)
            yield f"{block}mlp.down_proj.weight", (self.hidden, self.intermediate)
            yield f"{block}input_layernorm.weight", (self.hidden,)
            yield f"{block}post_attention_layernorm.weight", (self.hidden,)
        yield "model.norm.weight", (self.hidden,)

    def config(self) -> dict[str, object]:
        """Return what config.json says."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.intermediate,
            "vocab_size": self.vocabulary,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
        }


SHAPES = {
    "tiny": Shape(
        hidden=64, layers=2, intermediate=256, vocabulary=2048, heads=4, kv_heads=4, head_dim=16, shards=1
    ),
    "small": Shape(
        hidden=1024, layers=12, intermediate=4096, vocabulary=32768, heads=16, kv_heads=8, head_dim=64, shards=1
    ),
    "large": Shape(
        hidden=2048, layers=16, intermediate=8192, vocabulary=128256, heads=32, kv_heads=8, head_dim=64, shards=3
    ),
}
"""`small` has 0.22 billion parameters; `large` is exactly Llama-3.2-1B, 1.24 billion; `tiny` tries the script."""


def write_family(shape: Shape, folder: Path) -> None:
    """Write the base and its specialists."""
    for number, model in enumerate(("base", *DOMAINS)):
        (folder / model).mkdir(parents=True)
        (folder / model / "config.json").write_text(json.dumps(shape.config(), indent=1))
        _write_shards(shape, number, folder / model)


def _write_shards(shape: Shape, number: int, folder: Path) -> None:
    tensors = list(shape.tensors())
    per_shard = -(-len(tensors) // shape.shards)
    weight_map: dict[str, str] = {}
    for shard in range(shape.shards):
        part = tensors[shard * per_shard : (shard + 1) * per_shard]
        file = (
            f"model-{shard + 1:05}-of-{shape.shards:05}.safetensors" if shape.shards > 1 else "model.safetensors"
        )
        save_file({name: _values(name, size, number) for name, size in part}, folder / file, {"format": "pt"})
        weight_map |= {name: file for name, _ in part}
    if shape.shards > 1:
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _values(name: str, size: tuple[int, ...], number: int) -> torch.Tensor:
    """Return a tensor of the base (number 0) or of a specialist."""
    values = torch.randn(size, generator=_generator(name, 0)).mul_(0.02)
    if number:
        generator = _generator(name, number)
        is_large = torch.rand(size, generator=generator) < 0.5
        values += torch.randn(size, generator=generator) * torch.where(is_large, 1e-3, 1e-4)
    return values.bfloat16()


def _generator(name: str, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32(f"{name} {number}".encode()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_family(SHAPES[sys.argv[1]], Path(sys.argv[2]))
