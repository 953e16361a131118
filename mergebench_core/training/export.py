"""Writes a trained model as the base is: dtypes, configuration and tokenizer, in safetensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergebench_core.checkpoints.checkpoint import INDEX, Checkpoint
from mergebench_core.checkpoints.dtypes import torch_dtype
from mergebench_core.checkpoints.header import TensorEntry
from mergebench_core.errors import RunError
from mergebench_core.training.plan import CHECKPOINTS

if TYPE_CHECKING:
    import torch

FROM_BASE = (
    "config.json", "generation_config.json", "tokenizer*", "*.model", "vocab*", "merges.txt", "*.tiktoken",
    "special_tokens_map.json", "added_tokens.json", "chat_template*", "*.py", "LICENSE*", "NOTICE*", "USE_POLICY*",
)  # fmt: skip
"""Files that training does not change; saved again, they would name how they were loaded."""


def export(trainer: Any, base: Path, folder: Path) -> None:
    """Write the trainer's model to `folder`. Every process must call this; the main one writes.

    Training holds float32 weights; they are rounded to the dtypes of the base model in `base`, tensor by tensor,
    because merges need both alike, and get exactly its names. A file has its final name only when it is whole.

    Raises:
        RunError: weights that are not finite, were not gathered from all processes, or do not fit the base.
        CheckpointError: a tensor that the base has not.
    """
    raw = folder / CHECKPOINTS / "export"
    if trainer.is_fsdp_enabled:  # checkpoints may be sharded, the result may not
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(raw))
    if trainer.is_world_process_zero():
        _rewrite(raw, Checkpoint(base), trainer.model, folder)
        _copy_beside(base, folder)
        shutil.rmtree(raw)
    trainer.accelerator.wait_for_everyone()


def _rewrite(raw: Path, base: Checkpoint, model: Any, folder: Path) -> None:
    if not any(raw.glob("*.safetensors")):
        raise RunError(
            f"{raw}: the weights were not gathered; with DeepSpeed ZeRO 3 set zero3_save_16bit_model in the "
            "accelerate configuration, then the same command goes on from the last checkpoint"
        )
    saved = Checkpoint(raw)
    sources = _sources(saved, base, model)
    shard_of = {name: shard for shard, header in saved.headers.items() for name in header.entries}
    last = list(saved.headers)[-1]
    shards = {name: last if source is None else shard_of[source] for name, source in sources.items()}
    num_bytes = 0
    for shard in saved.headers:
        parts = {name: source for name, source in sources.items() if shards[name] == shard}
        num_bytes += _write_shard(saved, base, parts, folder / shard)
    if (raw / INDEX).is_file():
        index = {"metadata": {"total_size": num_bytes}, "weight_map": shards}
        (folder / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _sources(saved: Checkpoint, base: Checkpoint, model: Any) -> dict[str, str | None]:
    """Return the saved tensor of each of the base's; None for one that is no part of the model and stays as it is.

    Of tied tensors only one is saved; a base may store both.

    Raises:
        RunError: a trained tensor was not saved.
        CheckpointError: a saved tensor has no place in the base.
    """
    trained = {name for name, _ in model.named_parameters()}
    sources: dict[str, str | None] = {}
    for name in base.names:
        source = name if name in saved.entries else model.all_tied_weights_keys.get(name, name)
        if source not in saved.entries and source in trained:
            raise RunError(
                f"{saved.path}: tensor '{source}' was not gathered from all processes; shard the model in another "
                "way, then the same command goes on from the last checkpoint"
            )
        sources[name] = source if source in saved.entries else None
    for name in sorted(saved.entries.keys() - sources.values()):
        base.entry(name)
    return sources


def _write_shard(saved: Checkpoint, base: Checkpoint, sources: Mapping[str, str | None], path: Path) -> int:
    """Write tensors of the base's names into one file and return how many bytes they take."""
    from safetensors.torch import save_file

    tensors = {
        name: base.tensor(name) if source is None else _rounded(saved.tensor(source), base.entry(name))
        for name, source in sources.items()
    }
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    partial.touch()
    mode = partial.stat().st_mode
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.chmod(mode)  # it is written for the owner alone
    partial.replace(path)
    return sum(values.nbytes for values in tensors.values())


def _rounded(values: torch.Tensor, entry: TensorEntry) -> torch.Tensor:
    """Return trained values in the base's dtype."""
    if values.shape != entry.shape:
        raise RunError(f"tensor '{entry.name}' has shape {tuple(values.shape)}, but the base's is {entry.shape}")
    rounded = values.to(torch_dtype(entry.dtype))
    if not rounded.isfinite().all():
        raise RunError(f"training diverged: tensor '{entry.name}' is not finite; try another seed in a new folder")
    return rounded


def _copy_beside(base: Path, folder: Path) -> None:
    for pattern in FROM_BASE:
        for path in base.glob(pattern):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)
