"""Where a merged model goes: the folder itself, and a hidden one beside it where it grows until it is complete.

<parent>/.<name>.merging/lock  order.json  finished.jsonl  worker.log  .model.partial/  model/
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.policy import MergePlan
from mergebench_core.errors import InputError
from mergebench_core.home import write_atomic
from mergebench_core.merging.recipe import RECIPE_NAME

MARGIN_BYTES = 64 << 20
"""Room for tokenizer, card and journal."""
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class MergeTarget:
    """The output folder of one merge."""

    def __init__(self, out: Path) -> None:
        self.out = Path(os.path.abspath(out.expanduser()))  # noqa: PTH100 (a link as --out stays a link)
        self.stage = self.out.with_name(f".{self.out.name}.merging")
        self.model = self.stage / "model"
        self.log_file = self.stage / "worker.log"
        self.work_folder = self.stage / "work"
        self._partial = self.stage / ".model.partial"
        self._order = self.stage / "order.json"
        self._finished = self.stage / "finished.jsonl"

    def is_taken(self) -> bool:
        """Return whether there is something in the output folder.

        Raises:
            InputError: a file has its name.
        """
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"--out {self.out}: is a file; give a folder")
        return self.out.is_dir() and any(self.out.iterdir())

    def check_inputs(self, folders: Iterable[Path]) -> None:
        """Check that writing the output touches no input, nor the folder that the user is in.

        Raises:
            InputError: it would.
        """
        out = self.out.resolve()
        for folder in [*folders, Path.cwd(), Path.home()]:
            if folder.resolve().is_relative_to(out):
                raise InputError(f"--out {self.out}: holds {folder.resolve()}; give a new folder")

    def check_space(self, base: Checkpoint) -> None:
        """Check that the disk has room for the merged model.

        Raises:
            InputError: it has not.
        """
        parent = next(folder for folder in self.stage.parents if folder.is_dir())
        there = (
            sum(file.stat().st_blocks * 512 for file in self._partial.glob("*")) if self._partial.is_dir() else 0
        )
        needed = sum(header.file_bytes for header in base.headers.values()) + MARGIN_BYTES - there
        free = shutil.disk_usage(parent).free
        if free < needed:
            raise InputError(
                f"--out {self.out}: the disk has {free / 2**30:.1f} GiB free, the merged model takes "
                f"{needed / 2**30:.1f} GiB; free some space or give a folder on another disk"
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the hidden folder; a killed holder lets go.

        Raises:
            InputError: another process merges into this folder, or it cannot be written.
        """
        try:
            self.stage.mkdir(parents=True, exist_ok=True)
            file = (self.stage / "lock").open("w")
        except OSError as error:
            raise InputError(
                f"--out {self.out}: cannot be written ({error.strerror}); give another folder"
            ) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"--out {self.out}: another process is merging into it; wait for it") from None
            yield

    def begin(self, key: str) -> bool:
        """Make the hidden folder ready for the merge `key`; return whether it goes on with an interrupted one."""
        if not self._order.is_file() or json.loads(self._order.read_text(encoding="utf-8")) != key:
            self.clear()
            write_atomic(self._order, json.dumps(key))
            return False
        if self.model.is_dir() and not self.is_complete() and not self._partial.exists():
            self.model.rename(self._partial)
        return self.is_complete() or self.has_finished()

    def has_finished(self) -> bool:
        """Return whether any tensor is written."""
        return bool(self._lines())

    def is_complete(self) -> bool:
        """Return whether the model is written, with its recipe, and only has to be moved."""
        return (self.model / RECIPE_NAME).is_file()

    def clear(self, *, keeps_log: bool = False) -> None:
        """Forget what was merged so far."""
        for path in self.stage.iterdir():
            if path.name == "lock" or (keeps_log and path == self.log_file):
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def discard(self) -> None:
        """Remove the hidden folder."""
        shutil.rmtree(self.stage, ignore_errors=True)

    def note_finished(self, name: str, sha256: str) -> None:
        """Note that a tensor is written."""
        with self._finished.open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, sha256]) + "\n")

    def finished(self, plan: MergePlan) -> dict[str, str]:
        """Return the sha256 of the first tensors that an interrupted merge finished, in the plan's order."""
        noted = self._lines()
        found: dict[str, str] = {}
        for entry in plan.merged:
            if entry.numel and entry.name not in noted:
                break
            found[entry.name] = noted.get(entry.name, EMPTY_SHA256)
        return found

    def keep_finished(self, kept: Mapping[str, str]) -> None:
        """Replace the notes by those that proved true."""
        write_atomic(self._finished, "".join(json.dumps([*item]) + "\n" for item in kept.items()))

    def publish(self) -> None:
        """Move the complete model into place; what was there before goes away."""
        old = self.stage / "replaced"
        if self.out.is_dir():
            shutil.rmtree(old, ignore_errors=True)
            self.out.rename(old)
        self.model.rename(self.out)
        descriptor = os.open(self.out.parent, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        self.discard()

    def _lines(self) -> dict[str, str]:
        """Return what was noted; a line that a crash cut short does not count."""
        noted: dict[str, str] = {}
        if self._finished.is_file():
            for line in self._finished.read_text(encoding="utf-8").splitlines():
                try:
                    name, sha256 = json.loads(line)
                except ValueError:
                    continue
                noted[name] = sha256
        return noted
