"""A checkpoint on disk: safetensors, one file or shards, read lazily and piece by piece."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mergebench_core.checkpoints.dtypes import torch_dtype
from mergebench_core.checkpoints.header import ITEM_BYTES, Header, TensorEntry, open_file, read_header, strict_json
from mergebench_core.errors import CheckpointError
from mergebench_core.kernels.sources import Place

if TYPE_CHECKING:
    import torch

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_INDEX_BYTES = 64 << 20
MAX_FILE_NAME = 255
CHUNK_NUMEL = 1 << 20
"""Elements per chunk: buffers of this size stay in the processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A run of elements within one tensor."""

    entry: TensorEntry
    offset: int
    numel: int


def pieces(entry: TensorEntry, chunk_numel: int = CHUNK_NUMEL) -> Iterator[Piece]:
    """Cut a tensor into pieces of at most `chunk_numel` elements."""
    for offset in range(0, entry.numel, chunk_numel):
        yield Piece(entry=entry, offset=offset, numel=min(chunk_numel, entry.numel - offset))


class Checkpoint:
    """A folder with `model.safetensors`, or with shards and their index. Files are opened once and kept open."""

    def __init__(self, path: Path) -> None:
        """Open the checkpoint in folder `path` and read its headers.

        Raises:
            CheckpointError: no safetensors there, a missing shard, or a malformed file.
        """
        self.path = path
        self.headers: Mapping[str, Header] = {name: read_header(path / name) for name in shard_names(path)}
        self._shard_of = {name: shard for shard, header in self.headers.items() for name in header.entries}
        if len(self._shard_of) != sum(len(header.entries) for header in self.headers.values()):
            raise CheckpointError(f"{path}: a tensor stands in two shards; save the model again")
        self._descriptors: dict[str, int] = {}
        self._opening = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tensors, shard by shard, in the order of the data."""
        return tuple(self._shard_of)

    @cached_property
    def entries(self) -> Mapping[str, TensorEntry]:
        """Every tensor's entry by name."""
        return {name: entry for header in self.headers.values() for name, entry in header.entries.items()}

    def read(self, name: str, offset: int, numel: int) -> torch.Tensor:
        """Read elements `offset` to `offset + numel` of a tensor as a flat tensor of its stored dtype.

        Raises:
            CheckpointError: no such tensor, or the file became shorter meanwhile.
        """
        import torch

        entry = self.entry(name)
        assert 0 <= offset <= offset + numel <= entry.numel
        item = ITEM_BYTES[entry.dtype]
        values = torch.empty(numel, dtype=torch_dtype(entry.dtype))
        view = memoryview(values.view(torch.uint8).numpy().data) if numel else memoryview(b"")
        position, done = entry.start + offset * item, 0
        while done < numel * item:
            try:
                count = os.preadv(self._descriptor(self._shard_of[name]), [view[done:]], position + done)
            except OSError as error:
                raise CheckpointError(f"{self.path}: cannot be read ({error.strerror})") from None
            if count == 0:
                raise CheckpointError(f"{self.path}: ends within tensor '{name}'; fetch or save the model again")
            done += count
        return values

    def place(self, name: str, offset: int) -> Place:
        """Return where the elements of a tensor from `offset` on lie, for kernels that read by themselves.

        Raises:
            CheckpointError: no such tensor.
        """
        entry, shard = self.entry(name), self._shard_of[name]
        return Place(
            path=self.path / shard,
            descriptor=self._descriptor(shard),
            position=entry.start + offset * ITEM_BYTES[entry.dtype],
            dtype=torch_dtype(entry.dtype),
        )

    def tensor(self, name: str) -> torch.Tensor:
        """Return a whole tensor in its stored dtype and shape."""
        entry = self.entry(name)
        return self.read(name, 0, entry.numel).view(entry.shape)

    def entry(self, name: str) -> TensorEntry:
        """Return the entry of a tensor.

        Raises:
            CheckpointError: no such tensor.
        """
        if name not in self.entries:
            raise CheckpointError(f"{self.path}: has no tensor '{name}'")
        return self.entries[name]

    def close(self) -> None:
        """Close the files; reading opens them again."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def __del__(self) -> None:
        if hasattr(self, "_descriptors"):
            self.close()

    def _descriptor(self, shard: str) -> int:
        with self._opening:
            if shard not in self._descriptors:
                self._descriptors[shard] = open_file(self.path / shard)
            return self._descriptors[shard]


def shard_names(path: Path) -> list[str]:
    """Return the file names of a checkpoint's shards, in order; a single file goes before an index.

    Raises:
        CheckpointError: the folder holds no safetensors checkpoint, or its index is broken.
    """
    try:
        return _shard_names(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None


def _shard_names(path: Path) -> list[str]:
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such folder; give the folder that holds {SINGLE}")
    if (path / SINGLE).is_file():
        return [SINGLE]
    if (path / INDEX).is_file():
        return _indexed_names(path / INDEX)
    found = ", ".join(sorted(file.name for file in path.iterdir() if file.suffix in (".bin", ".pt", ".pth"))[:3])
    hint = f" (found {found}; convert them, only safetensors are read)" if found else ""
    raise CheckpointError(f"{path}: neither {SINGLE} nor {INDEX} there{hint}")


def _indexed_names(index: Path) -> list[str]:
    try:
        with os.fdopen(open_file(index), "rb") as file:
            text = file.read(MAX_INDEX_BYTES + 1)
        document = strict_json(text) if len(text) <= MAX_INDEX_BYTES else {}
        names = sorted({_file_name(index, name) for name in document["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{index}: no index of shards; save the model again") from None
    if not names:
        raise CheckpointError(f"{index}: names no shard; save the model again")
    return names


def _file_name(index: Path, name: object) -> str:
    if not isinstance(name, str):
        raise TypeError
    if not name.isprintable() or "/" in name or name[:1] in ("", ".") or len(name) > MAX_FILE_NAME:
        raise CheckpointError(f"{index}: names a file outside the folder: {name[:200]!r}")
    return name
