"""Reading the inputs once, beside the merge: their digests, and whether they are finite."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from mergebench_core.checkpoints.checkpoint import Checkpoint, pieces
from mergebench_core.checkpoints.digest import WeightsDigest
from mergebench_core.checkpoints.policy import MergePlan, check_finite
from mergebench_core.errors import CheckpointError
from mergebench_core.kernels.weights import is_finite
from mergebench_core.merging.models import Model


class InputReading:
    """A thread that digests all models tensor by tensor as the merge goes: files are read from disk once."""

    def __init__(self, models: Mapping[str, Model], plan: MergePlan) -> None:
        """Read `models` by label; the base's is `base`. NaN and infinity are sought where the output gets them."""
        self._folders = {label: model.folder.resolve() for label, model in models.items()}
        self._where = {model.folder.resolve(): model.where for model in reversed(list(models.values()))}
        self._base = self._folders["base"]
        self._merged = {entry.name for entry in plan.merged}
        self._digests: dict[Path, WeightsDigest] = {}
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
        return {label: self._digests[folder].hexdigest() for label, folder in self._folders.items()}

    def _run(self) -> None:
        try:
            self._read_all()
        except Exception as error:
            self._failure = error

    def _read_all(self) -> None:
        checkpoints = {folder: Checkpoint(folder) for folder in dict.fromkeys(self._folders.values())}
        self._digests = {folder: WeightsDigest() for folder in checkpoints}
        order = dict.fromkeys(name for folder in [self._base, *checkpoints] for name in checkpoints[folder].names)
        for name in order:
            for folder, checkpoint in checkpoints.items():
                if name in checkpoint.entries and not self._is_stopped.is_set():
                    self._read(folder, checkpoint, name)
        for checkpoint in checkpoints.values():
            checkpoint.close()

    def _read(self, folder: Path, checkpoint: Checkpoint, name: str) -> None:
        entry = checkpoint.entry(name)
        is_used = name in self._merged or folder == self._base
        self._digests[folder].begin(entry)
        for piece in pieces(entry):
            values = checkpoint.read(name, piece.offset, piece.numel)
            if is_used and not is_finite(values):
                raise CheckpointError(
                    f"{self._where[folder]}: tensor '{name}' holds NaN or infinity; such a model cannot be used"
                )
            self._digests[folder].add(entry, values)


def blame_inputs(models: Mapping[str, Model], plan: MergePlan) -> None:
    """Look through the inputs for what can have made a merge fail.

    Raises:
        CheckpointError: naming the first tensor that holds NaN or infinity.
    """
    for label, model in models.items():
        names = list(model.checkpoint.names) if label == "base" else [entry.name for entry in plan.merged]
        check_finite(model.checkpoint, names, model.where)
