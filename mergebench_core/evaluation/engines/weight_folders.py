"""Candidates on disk, for an engine that takes its weights from a folder: each under a path of its own."""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mergebench_core.checkpoints.checkpoint import INDEX, SINGLE, Checkpoint, Piece, pieces
from mergebench_core.checkpoints.digest import tensor_bytes
from mergebench_core.checkpoints.dtypes import torch_dtype
from mergebench_core.checkpoints.header import ITEM_BYTES, TensorEntry
from mergebench_core.checkpoints.writer import SIDE_FILES
from mergebench_core.errors import CheckpointError, InputError

if TYPE_CHECKING:
    import torch

GIB = 2**30


class Draft:
    """A candidate that is being written: the base's shards, filled in any order."""

    def __init__(self, base: Checkpoint, folder: Path) -> None:
        """Lay out the files of `base` in the new folder `folder`.

        Raises:
            InputError: there is no room for them, or the folder cannot be written.
        """
        self.folder = folder
        needed = sum(header.file_bytes for header in base.headers.values())
        free = shutil.disk_usage(folder.parent).free
        if free < needed:
            raise InputError(
                f"{folder.parent}: a candidate's weights take {needed / GIB:.1f} GiB and {free / GIB:.1f} GiB are "
                "free; make room there, or set MERGEBENCH_HOME to a larger disk"
            )
        self._known = dict.fromkeys(base.names, 0)
        """Leading elements of each tensor that have their final values."""
        self._files: dict[str, tuple[int, TensorEntry]] = {}
        self._descriptors: list[int] = []
        try:
            folder.mkdir()
            for shard, header in base.headers.items():
                descriptor = os.open(folder / shard, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                self._descriptors.append(descriptor)
                os.ftruncate(descriptor, header.file_bytes)
                _write_all(descriptor, memoryview(header.raw), 0)
                self._files |= {name: (descriptor, entry) for name, entry in header.entries.items()}
        except OSError as error:
            self.close()
            raise unwritable(folder, error) from None

    def write(self, name: str, offset: int, values: torch.Tensor, origin: Checkpoint) -> None:
        """Replace flat elements from `offset` on; those before it that nobody wrote become those of `origin`."""
        if offset > self._known[name]:
            self._fill(name, origin, offset)
        self._put(name, offset, values)
        self._known[name] = max(self._known[name], offset + values.numel())

    def finish(self, origin: Checkpoint) -> None:
        """Take everything that nobody wrote from `origin`, and close the files."""
        for name, (_, entry) in self._files.items():
            self._fill(name, origin, entry.numel)
        self.close()

    def close(self) -> None:
        """Close the files."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _fill(self, name: str, origin: Checkpoint, end: int) -> None:
        for piece in pieces(self._files[name][1]):
            start = max(piece.offset, self._known[name])
            stop = min(piece.offset + piece.numel, end)
            if start < stop:
                self._put(name, start, origin.read(name, start, stop - start))
        self._known[name] = max(self._known[name], end)

    def _put(self, name: str, offset: int, values: torch.Tensor) -> None:
        descriptor, entry = self._files[name]
        data = tensor_bytes(values.detach().cpu().to(torch_dtype(entry.dtype)).contiguous())
        try:
            _write_all(descriptor, data, entry.start + offset * ITEM_BYTES[entry.dtype])
        except OSError as error:
            raise unwritable(self.folder, error) from None


class WeightFolders:
    """The weights that an engine is to have. At most one folder is complete and one is being written."""

    def __init__(self, base: Checkpoint, root: Path) -> None:
        """Begin with the weights of `base`; folders come below `root`, which is made here and is ours."""
        root.mkdir()
        self._base = base
        self._root = root
        self._numbers = itertools.count()
        self._origin = base
        self._draft: Draft | None = None
        self._own: Path | None = None
        """The folder of `_origin`, if we wrote it."""

    @property
    def is_untouched(self) -> bool:
        """Whether the weights are still those of the base."""
        return self._origin is self._base and self._draft is None

    def write(self, name: str, offset: int, values: torch.Tensor) -> None:
        """Replace flat elements from `offset` on of one tensor; all others keep their values.

        Raises:
            InputError: there is no room for the candidate.
        """
        self._open_draft().write(name, offset, values, self._origin)

    def copy(self, checkpoint: Checkpoint, entry: TensorEntry) -> None:
        """Replace one tensor by that of a checkpoint.

        Raises:
            CheckpointError: the base has no such tensor.
        """
        self._check(checkpoint, entry)
        for piece in pieces(entry):
            self.write(entry.name, piece.offset, _read(checkpoint, piece))

    def load(self, checkpoint: Checkpoint) -> None:
        """Replace all weights by those of a checkpoint, which is not copied and stays where it is.

        Raises:
            CheckpointError: names or shapes are not those of the base.
        """
        for entry in checkpoint.entries.values():
            self._check(checkpoint, entry)
        missing = sorted(set(self._base.entries) - set(checkpoint.entries))
        if missing:
            raise CheckpointError(f"{checkpoint.path}: has no tensor '{missing[0]}', which the base has")
        self._drop_draft()
        self._origin = checkpoint

    def fresh_folder(self) -> Path:
        """Return a folder with these weights whose path was never given before.

        It is the candidate's own, or one of links to files that lie elsewhere.
        """
        if self._draft is None:
            folder = self._next("link")
            folder.mkdir()
            for shard in self._origin.headers:
                _link(self._origin.path / shard, folder)
            self._link_side_files(folder, self._origin)
            return folder
        draft = self._draft
        draft.finish(self._origin)
        self._draft = None
        self._link_side_files(draft.folder, self._base)
        self._origin, self._own = Checkpoint(draft.folder), draft.folder
        return draft.folder

    def taken(self) -> None:
        """Delete what is of no use once the engine has read the fresh folder: all but the weights themselves."""
        if self._origin.path != self._own:
            self._own = None
        self._remove_all_but(self._own, self._draft.folder if self._draft else None)

    def close(self) -> None:
        """Delete all folders."""
        self._drop_draft()
        shutil.rmtree(self._root, ignore_errors=True)

    def _check(self, checkpoint: Checkpoint, entry: TensorEntry) -> None:
        own = self._base.entries.get(entry.name)
        if own is None:
            raise CheckpointError(f"{checkpoint.path}: tensor '{entry.name}' is unknown to the base")
        if own.shape != entry.shape:
            raise CheckpointError(
                f"{checkpoint.path}: tensor '{entry.name}' has shape {list(entry.shape)}, the base's has "
                f"{list(own.shape)}"
            )

    def _open_draft(self) -> Draft:
        if self._draft is None:
            self._draft = Draft(self._base, self._next("candidate"))
        return self._draft

    def _drop_draft(self) -> None:
        if self._draft is not None:
            self._draft.close()
            shutil.rmtree(self._draft.folder, ignore_errors=True)
            self._draft = None

    def _next(self, kind: str) -> Path:
        return self._root / f"{kind}-{next(self._numbers)}"

    def _link_side_files(self, folder: Path, weights: Checkpoint) -> None:
        """Link what stands beside the weights: the index of their shards, all else of the base."""
        for name in SIDE_FILES:
            if name == INDEX and SINGLE in weights.headers:
                continue
            source = (weights if name == INDEX else self._base).path / name
            if source.is_file():
                _link(source, folder)

    def _remove_all_but(self, *kept: Path | None) -> None:
        for folder in self._root.iterdir():
            if folder.is_dir() and folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)


def _read(checkpoint: Checkpoint, piece: Piece) -> torch.Tensor:
    return checkpoint.read(piece.entry.name, piece.offset, piece.numel)


def _link(source: Path, folder: Path) -> None:
    (folder / source.name).symlink_to(source.resolve())


def _write_all(descriptor: int, data: memoryview, position: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], position + done)


def unwritable(folder: Path, error: OSError) -> InputError:
    """Return the error for a folder that does not take a candidate's weights."""
    return InputError(
        f"{folder}: a candidate's weights cannot be written ({error.strerror}); make room there, or set "
        "MERGEBENCH_HOME to another disk"
    )
