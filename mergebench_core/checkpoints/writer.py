"""Writing a merged model: the base's shard layout, piece by piece, visible only when complete."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from mergebench_core.checkpoints.checkpoint import INDEX, Checkpoint, pieces
from mergebench_core.checkpoints.digest import WeightsDigest, tensor_bytes
from mergebench_core.checkpoints.header import ITEM_BYTES, TensorEntry

if TYPE_CHECKING:
    import torch

SIDE_FILES = (
    INDEX, "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json",
    "chat_template.jinja",
)  # fmt: skip
MAX_UNHASHED = 8
"""Pieces that may wait for the thread that hashes them."""
FLUSH_BYTES = 64 << 20
"""After so many bytes the disk begins to take them: the last flush has little left to wait for."""


class CheckpointWriter:
    """Writes a checkpoint with the base's names, shapes, dtypes and shards into `folder`.

    Pieces of a tensor come in order, tensors in any order. `finish` renames the folder into place, so that a
    killed writer leaves no half checkpoint under the final name.
    """

    def __init__(
        self,
        base: Checkpoint,
        folder: Path,
        *,
        finished: Mapping[str, str] | None = None,
        on_finished: Callable[[str, str], None] = lambda name, sha256: None,
    ) -> None:
        """Start anew, or go on with what an interrupted writer left.

        Args:
            base: what is written has its names, shapes, dtypes and shards.
            folder: where the checkpoint goes; beside it, a hidden folder of a similar name.
            finished: to go on: the sha256 of tensors that were complete, in the order in which they were written.
                The first ones whose bytes are still so are kept: `num_kept` of them.
            on_finished: called with name and sha256 of a tensor once all of it is written.
        """
        self._base = base
        self._folder = folder
        self._on_finished = on_finished
        self._partial = folder.with_name(f".{folder.name}.partial")
        if finished is None:
            shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True, exist_ok=finished is not None)
        self._digest = WeightsDigest()
        self._flushing = ThreadPoolExecutor(1, "flush")
        self._flush: Future[None] | None = None
        self._num_unflushed = 0
        self._hashing = ThreadPoolExecutor(1, "digest")
        self._hashed: deque[Future[None]] = deque()
        self._files = {name: entry for shard in base.headers for name, entry in self._open(shard).items()}
        self._written = dict.fromkeys(base.names, 0)
        for entry in base.entries.values():
            self._digest.begin(entry)
        self.num_kept = 0
        for name, sha256 in (finished or {}).items():
            if not self._keep(name, sha256):
                break
            self.num_kept += 1

    def _keep(self, name: str, sha256: str) -> bool:
        """Count a tensor as written if its bytes lie there."""
        descriptor, entry = self._files[name]
        for piece in pieces(entry):
            item = ITEM_BYTES[entry.dtype]
            data = os.pread(descriptor, piece.numel * item, entry.start + piece.offset * item)
            self._digest.add_bytes(entry, data)
        is_kept = self._digest.tensor_sha256(name) == sha256
        self._digest.begin(entry) if not is_kept else self._written.update({name: entry.numel})
        return is_kept

    def _open(self, shard: str) -> dict[str, tuple[int, TensorEntry]]:
        header = self._base.headers[shard]
        descriptor = os.open(self._partial / shard, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.ftruncate(descriptor, header.file_bytes)
        _write_all(descriptor, memoryview(header.raw), 0)
        return {name: (descriptor, entry) for name, entry in header.entries.items()}

    def write(self, name: str, offset: int, values: torch.Tensor) -> None:
        """Write elements from `offset` on; `values` is flat, in the tensor's stored dtype, and changes no more."""
        descriptor, entry = self._files[name]
        assert offset == self._written[name]
        data = tensor_bytes(values)
        _write_all(descriptor, data, entry.start + offset * ITEM_BYTES[entry.dtype])
        self._flush_early(descriptor, len(data))
        self._written[name] += values.numel()
        is_last = self._written[name] == entry.numel
        self._hashed.append(self._hashing.submit(self._hash, entry, values, is_last))
        if len(self._hashed) > MAX_UNHASHED:
            self._hashed.popleft().result()

    def _flush_early(self, descriptor: int, num_bytes: int) -> None:
        self._num_unflushed += num_bytes
        if self._num_unflushed >= FLUSH_BYTES and (self._flush is None or self._flush.done()):
            self._check_flush()
            self._flush, self._num_unflushed = self._flushing.submit(os.fsync, descriptor), 0

    def _check_flush(self) -> None:
        """Raise what the disk answered: the system tells an error once, and the last flush may miss it."""
        if self._flush is not None:
            self._flush.result()

    def _hash(self, entry: TensorEntry, values: torch.Tensor, is_last: bool) -> None:
        self._digest.add(entry, values)
        if is_last:
            self._on_finished(entry.name, self._digest.tensor_sha256(entry.name))

    def copy_from_base(self, entry: TensorEntry) -> None:
        """Write the base's own values of a tensor."""
        for piece in pieces(entry):
            self.write(entry.name, piece.offset, self._base.read(entry.name, piece.offset, piece.numel))

    def finish(self) -> str:
        """Complete the checkpoint, move it into place, and return its weights digest."""
        for name, count in self._written.items():
            assert count == self._files[name][1].numel, f"{name}: {count} elements written"
        for file in SIDE_FILES:
            if (self._base.path / file).is_file():
                shutil.copyfile(self._base.path / file, self._partial / file)
        descriptors = self._close()
        try:
            self._check_flush()
            while self._hashed:
                self._hashed.popleft().result()
            for descriptor in descriptors:
                os.fsync(descriptor)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._partial.rename(self._folder)
        return self._digest.hexdigest()

    def pause(self) -> None:
        """Close the files and leave what was written for a writer that goes on."""
        for descriptor in self._close():
            os.close(descriptor)

    def abort(self) -> None:
        """Remove what was written so far."""
        self.pause()
        shutil.rmtree(self._partial, ignore_errors=True)

    def _close(self) -> list[int]:
        self._hashing.shutdown()
        self._flushing.shutdown()
        descriptors = sorted({descriptor for descriptor, _ in self._files.values()})
        self._files = {} if not descriptors else {name: (-1, entry) for name, (_, entry) in self._files.items()}
        return [descriptor for descriptor in descriptors if descriptor >= 0]


def _write_all(descriptor: int, data: memoryview, position: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], position + done)
