"""What `prepare` returned, stored by digest in the work folder and read back slice by slice."""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mergebench_core.checkpoints.checkpoint import SINGLE, Checkpoint
from mergebench_core.checkpoints.digest import tensor_bytes
from mergebench_core.checkpoints.dtypes import safetensors_name
from mergebench_core.errors import PluginError
from mergebench_core.methods import Prepared
from mergebench_core.worker.chunks import CheckpointChunk

if TYPE_CHECKING:
    import torch


def store_prepared(prepared: Prepared, folder: Path) -> Path:
    """Write a prepared state to `<folder>/<digest>/` and return that path. One tensor at a time is in memory.

    Raises:
        PluginError: `data` holds something else than JSON values, or `tensors` something else than tensors.
    """
    import torch

    try:
        text = json.dumps(prepared.data, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PluginError(f"Prepared.data must hold finite JSON values only ({error})") from None
    named = {
        f"{label}\n{name}": tensor for label, group in prepared.tensors.items() for name, tensor in group.items()
    }
    if wrong := [name for name, tensor in named.items() if not isinstance(tensor, torch.Tensor)]:
        raise PluginError(f"Prepared.tensors['{wrong[0]}'] is no tensor")
    partial = folder / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    digest = hashlib.sha256(text.encode())
    (partial / "data.json").write_text(text, encoding="utf-8")
    if named:
        with (partial / SINGLE).open("wb") as file:
            for part in _file_parts(named):
                file.write(part)
                digest.update(part)
    target = folder / digest.hexdigest()[:32]
    shutil.rmtree(target, ignore_errors=True)
    return partial.rename(target)


def _file_parts(named: Mapping[str, torch.Tensor]) -> Iterator[bytes | memoryview]:
    """Yield a safetensors file: header, then the tensors."""
    header, position = {}, 0
    for name, tensor in named.items():
        end = position + tensor.numel() * tensor.element_size()
        dtype = safetensors_name(tensor.dtype)
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for tensor in named.values():
        yield tensor_bytes(tensor.detach().cpu().contiguous())
        release(tensor)


def release(tensor: torch.Tensor) -> None:
    """Let the system keep what a tensor mapped from a file holds in the file alone, until it is read again."""
    storage = tensor.untyped_storage()
    if storage.filename is not None and hasattr(mmap, "MADV_DONTNEED"):
        libc = ctypes.CDLL(None)
        start = storage.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
        length = storage.data_ptr() + storage.nbytes() - start
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED)


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
