"""What `prepare` returned, stored by digest in the work folder and read back slice by slice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mergebench_core.checkpoints.checkpoint import SINGLE, Checkpoint
from mergebench_core.checkpoints.digest import tensor_bytes
from mergebench_core.errors import PluginError
from mergebench_core.methods import Prepared
from mergebench_core.worker.chunks import CheckpointChunk

if TYPE_CHECKING:
    import torch


def store_prepared(prepared: Prepared, folder: Path) -> Path:
    """Write a prepared state to `<folder>/<digest>/` and return that path.

    Raises:
        PluginError: `data` holds something else than JSON values, or `tensors` something else than tensors.
    """
    import torch
    from safetensors.torch import save_file

    try:
        text = json.dumps(prepared.data, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PluginError(f"Prepared.data must hold finite JSON values only ({error})") from None
    flat = {
        f"{label}\n{name}": tensor for label, group in prepared.tensors.items() for name, tensor in group.items()
    }
    if wrong := [name for name, tensor in flat.items() if not isinstance(tensor, torch.Tensor)]:
        raise PluginError(f"Prepared.tensors['{wrong[0]}'] is no tensor")
    flat = _separate({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(flat.items())})
    digest = hashlib.sha256(text.encode())
    for name, tensor in flat.items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor_bytes(tensor))
    target = folder / digest.hexdigest()[:32]
    target.mkdir(parents=True, exist_ok=True)
    (target / "data.json").write_text(text, encoding="utf-8")
    if flat:
        save_file(flat, target / SINGLE)
    return target


def _separate(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors, copies of those that share memory with an earlier one: files store no sharing."""
    seen: set[int] = set()
    separate: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    return separate


class StoredPrepared:
    """A stored prepared state; its tensors are read slice by slice."""

    def __init__(self, path: Path) -> None:
        self.data: Mapping[str, object] = json.loads((path / "data.json").read_text(encoding="utf-8"))
        self._tensors = Checkpoint(path) if (path / SINGLE).is_file() else None

    def view(self, chunk: CheckpointChunk) -> ChunkPrepared:
        """Return what `update` sees of it for one chunk."""
        return ChunkPrepared(self, chunk)

    def read(self, label: str, chunk: CheckpointChunk) -> torch.Tensor:
        """Return the tensor prepared under `label`: the chunk's slice if sizes match, else all of it.

        Raises:
            PluginError: nothing was prepared under this label for this weight.
        """
        name = f"{label}\n{chunk.name}"
        if self._tensors is None or name not in self._tensors.entries:
            raise PluginError(f"prepare returned no tensor '{label}' for '{chunk.name}'")
        if self._tensors.entry(name).numel != chunk.entry_numel:
            return self._tensors.tensor(name)
        return self._tensors.read(name, chunk.offset, chunk.numel).view(chunk.shape)


class ChunkPrepared:
    """A `PreparedView` for the weight in hand."""

    def __init__(self, stored: StoredPrepared, chunk: CheckpointChunk) -> None:
        self._stored = stored
        self._chunk = chunk

    @property
    def data(self) -> Mapping[str, object]:
        return self._stored.data

    def tensor(self, label: str) -> torch.Tensor:
        return self._stored.read(label, self._chunk)
