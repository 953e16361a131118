"""Reading the inputs once, beside the merge: their digests, and whether they are finite."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

from mergebench_core.checkpoints.checkpoint import Checkpoint, pieces
from mergebench_core.checkpoints.digest import WeightsDigest
from mergebench_core.checkpoints.policy import MergePlan, check_finite
from mergebench_core.errors import CheckpointError
from mergebench_core.kernels.weights import is_finite
from mergebench_core.merging.known_digests import KnownDigests, weights_state
from mergebench_core.merging.models import Model


class InputReading:
    """A thread that digests all models tensor by tensor as the merge goes: files are read from disk once.

    Models that were digested before and have not changed are not read.
    """

    def __init__(self, models: Mapping[str, Model], plan: MergePlan) -> None:
        """Read `models` by label; the base's is `base`. NaN and infinity are sought where the output gets them."""
        self._folders = {label: model.folder.resolve() for label, model in models.items()}
        self._where = {model.folder.resolve(): model.where for model in reversed(list(models.values()))}
        self._base = self._folders["base"]
        self._merged = {entry.name for entry in plan.merged}
        self._known = KnownDigests()
        self._digests: dict[Path, str] = {}
        self._failure: Exception | None = None
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mergebench-inputs", daemon=True)

    def start(self) -> None:
        """Begin reading."""
        self._thread.start()

    def stop(self) -> None:
        """End reading, finished or not."""
        self._is_stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def check(self) -> None:
        """Raise what was found wrong so far.

        Raises:
            CheckpointError: a tensor holds NaN or infinity, or a file became shorter.
        """
        if self._failure is not None:
            raise self._failure

    def digests(self) -> dict[str, str]:
        """Wait until everything is read, and return the weights digests by label."""
        if self._thread.ident is None:
            self.start()
        self._thread.join()
        self.check()
        return {label: self._digests[folder] for label, folder in self._folders.items()}

    def _run(self) -> None:
        try:
            self._read_all()
        except _Stopped:
            return
        except Exception as error:
            self._failure = error

    def _read_all(self) -> None:
        folders = dict.fromkeys(self._folders.values())
        self._digests = {folder: digest for folder in folders if (digest := self._known.find(folder))}
        readings = [_ModelReading(folder) for folder in folders if folder not in self._digests]
        order = dict.fromkeys(name for reading in readings for name in reading.checkpoint.names)
        for name in order:
            for reading in readings:
                if name in reading.checkpoint.entries:
                    self._read(reading, name)
        for reading in readings:
            reading.checkpoint.close()
            self._digests[reading.folder] = reading.digest.hexdigest()
            if reading.is_finite:
                self._known.note(reading.folder, reading.state, reading.started_ns, self._digests[reading.folder])

    def _read(self, reading: _ModelReading, name: str) -> None:
        if self._is_stopped.is_set():
            raise _Stopped
        is_used = name in self._merged or reading.folder == self._base
        if not reading.read(name) and is_used:
            raise CheckpointError(
                f"{self._where[reading.folder]}: tensor '{name}' holds NaN or infinity; "
                "such a model cannot be used"
            )


class _Stopped(Exception):
    """Nobody waits for the digests any more."""


class _ModelReading:
    """One model being read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started_ns = time.time_ns()
        self.state = weights_state(folder)
        self.checkpoint = Checkpoint(folder)
        self.digest = WeightsDigest()
        self.is_finite = True

    def read(self, name: str) -> bool:
        """Digest a tensor; return whether all of it is finite."""
        entry = self.checkpoint.entry(name)
        self.digest.begin(entry)
        found = True
        for piece in pieces(entry):
            values = self.checkpoint.read(name, piece.offset, piece.numel)
            found = found and is_finite(values)
            self.digest.add(entry, values)
        self.is_finite = self.is_finite and found
        return found


def blame_inputs(models: Mapping[str, Model], plan: MergePlan) -> None:
    """Look through the inputs for what can have made a merge fail.

    Raises:
        CheckpointError: naming the first tensor that holds NaN or infinity.
    """
    for label, model in models.items():
        names = list(model.checkpoint.names) if label == "base" else [entry.name for entry in plan.merged]
        check_finite(model.checkpoint, names, model.where)
