"""Writes a trained model as the base is: dtypes, configuration and tokenizer, in safetensors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mergebench_core.checkpoints.checkpoint import INDEX, Checkpoint
from mergebench_core.checkpoints.dtypes import torch_dtype
from mergebench_core.errors import RunError
from mergebench_core.training.plan import CHECKPOINTS

FROM_BASE = (
    "config.json", "generation_config.json", "tokenizer*", "*.model", "vocab*", "merges.txt", "*.tiktoken",
    "special_tokens_map.json", "added_tokens.json", "chat_template*", "*.py", "LICENSE*", "NOTICE*", "USE_POLICY*",
)  # fmt: skip
"""Files that training does not change; saved again, they would name how they were loaded."""


def export(trainer: Any, base: Path, folder: Path) -> None:
    """Write the trainer's model to `folder`. Every process must call this; the main one writes.

    Training holds float32 weights; they are rounded to the dtypes of the base model in `base`, tensor by tensor,
    because merges need both alike. A file has its final name only when it is whole.

    Raises:
        RunError: weights that are not finite, were not gathered from all processes, or do not fit the base.
        CheckpointError: a tensor that the base has not.
    """
    raw = folder / CHECKPOINTS / "export"
    if trainer.is_fsdp_enabled:  # checkpoints may be sharded, the result may not
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    trainer.save_model(str(raw))
    if trainer.is_world_process_zero():
        _rewrite(raw, Checkpoint(base), folder)
        _copy_beside(base, folder)
        shutil.rmtree(raw)
    trainer.accelerator.wait_for_everyone()


def _rewrite(raw: Path, base: Checkpoint, folder: Path) -> None:
    shards = sorted(raw.glob("*.safetensors"))
    if not shards:
        raise RunError(
            f"{raw}: the weights were not gathered; with DeepSpeed ZeRO 3 set zero3_save_16bit_model in the "
            "accelerate configuration, then the same command goes on from the last checkpoint"
        )
    num_bytes = sum(_rewrite_shard(path, base, folder) for path in shards)
    if (raw / INDEX).is_file():
        index = json.loads((raw / INDEX).read_text(encoding="utf-8"))
        index["metadata"] = {"total_size": num_bytes}
        (folder / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _rewrite_shard(path: Path, base: Checkpoint, folder: Path) -> int:
    """Round the tensors of one file and return how many bytes they take."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    for name, values in tensors.items():
        entry = base.entry(name)
        if values.shape != entry.shape:
            raise RunError(f"tensor '{name}' has shape {tuple(values.shape)}, but the base's is {entry.shape}")
        tensors[name] = values.to(torch_dtype(entry.dtype))
        if not tensors[name].isfinite().all():
            raise RunError(f"training diverged: tensor '{name}' is not finite; try another seed in a new folder")
    partial = folder / f".{path.name}.partial"
    save_file(tensors, partial, metadata={"format": "pt"})
    partial.replace(folder / path.name)
    return sum(values.nbytes for values in tensors.values())


def _copy_beside(base: Path, folder: Path) -> None:
    for pattern in FROM_BASE:
        for path in base.glob(pattern):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)
