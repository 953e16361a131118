"""Before an engine is trusted with weights in place: does it answer as one that was started on them?"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mergebench_core.checkpoints.assembly import Assembly, Sink
from mergebench_core.checkpoints.checkpoint import Checkpoint, pieces
from mergebench_core.checkpoints.policy import MergePlan, check_specialists, merge_plan
from mergebench_core.checkpoints.writer import CheckpointWriter
from mergebench_core.environment import cpu_model, package_versions
from mergebench_core.errors import EngineError
from mergebench_core.evaluation.engines.comparison import TOLERANCES, Fingerprint, differences, fingerprint
from mergebench_core.evaluation.engines.engine import Engine
from mergebench_core.evaluation.engines.weight_folders import unwritable
from mergebench_core.home import changed_note, read_note
from mergebench_core.methods import MethodInfo
from mergebench_core.tracks.track import Track
from mergebench_core.tracks.world import EngineName

PACKAGES = ("torch", "transformers", "vllm")
ADVICE = {
    "hf": "install torch and transformers as constraints.txt has them",
    "vllm": "use --engine hf, or install vllm as docs/engines.md says",
}


@dataclass(frozen=True, kw_only=True)
class InPlaceNote:
    """Whether the check was passed before, as a note of the home."""

    file: Path
    key: str
    """All that the outcome hangs on; see `in_place_key`."""

    @property
    def is_there(self) -> bool:
        """Whether the check was passed."""
        return self.key in read_note(self.file)

    def write(self) -> None:
        """Note that it was."""
        with changed_note(self.file) as noted:
            noted[self.key] = "same"


def in_place_key(track: Track, base: str) -> str:
    """Return what the outcome of the check hangs on: base, engine, versions, device, track, commits of models."""
    versions = [f"{name} {version}" for name, version in package_versions(PACKAGES).items()]
    models = track.models_sha256(base) or ""
    return ", ".join([base, track.engine, *versions, _device(track), track.digest, models])


def _device(track: Track) -> str:
    import torch

    is_on_gpu = track.evaluation.device == "auto" and torch.cuda.is_available()
    return torch.cuda.get_device_name(0) if is_on_gpu else cpu_model()


@dataclass(frozen=True, kw_only=True)
class InPlaceCheck:
    """Compares weights that an engine takes in place, as a candidate's come, with the same as a file."""

    engine: EngineName
    base: Checkpoint
    domain: str
    specialist: Checkpoint
    """Of `domain`; the candidate is the base with its merged tensors."""
    open_engine: Callable[[Path], Engine]
    """Opens the engine on a model's folder."""

    def engine_on_base(self, folder: Path) -> Engine:
        """Return the engine on the base, its answers compared; the candidate's file is in `folder` meanwhile.

        Raises:
            CheckpointError: the specialist does not fit the base.
            EngineError: answers differ, so that scores would not be those of the weights.
            InputError: there is no room for the candidate.
        """
        check_specialists(self.base, {self.domain: self.specialist}, MethodInfo.base_roles)
        anew = self._answers_anew(folder)  # first: a GPU has room for one
        engine = self.open_engine(self.base.path)
        try:
            self._compare(engine, anew)
        except BaseException:
            engine.close()
            raise
        return engine

    @property
    def _plan(self) -> MergePlan:
        return merge_plan(self.base, MethodInfo.base_roles)

    def _answers_anew(self, folder: Path) -> Fingerprint:
        """Return the answers of an engine that is started on the candidate's file."""
        try:
            self._write_file(folder)
            engine = self.open_engine(folder)
            try:
                return fingerprint(engine.language_model())
            finally:
                engine.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _write_file(self, folder: Path) -> None:
        try:
            self._write(CheckpointWriter(self.base, folder))
        except OSError as error:
            raise unwritable(folder, error) from None

    def _write(self, writer: CheckpointWriter) -> None:
        try:
            self._merge_into(writer)
            for entry in self._plan.left_out:
                writer.copy_from_base(entry)
            writer.finish()
        except BaseException:
            writer.abort()
            raise

    def _merge_into(self, sink: Sink) -> None:
        entries = self._plan.merged
        assembly = Assembly(base=self.base, entries=entries, sink=sink, coefficient=1.0)
        for piece in (piece for entry in entries for piece in pieces(entry)):
            place = (piece.entry.name, piece.offset, piece.numel)
            update = self.specialist.read(*place).float() - self.base.read(*place).float()
            assembly.add(piece.entry.name, piece.offset, update)
        assembly.finish()

    def _compare(self, engine: Engine, anew: Fingerprint) -> None:
        """Let the engine take the candidate after it was parked, as in a search, and the base again, awake."""
        at_start = fingerprint(engine.language_model())
        engine.park()
        for entry in self._plan.left_out:
            engine.copy(self.base, entry)
        self._merge_into(engine)
        self._check(fingerprint(engine.language_model()), anew)
        engine.load(self.base)
        self._check(fingerprint(engine.language_model()), at_start)

    def _check(self, in_place: Fingerprint, fresh: Fingerprint) -> None:
        if found := differences(in_place, fresh, TOLERANCES[self.engine]):
            raise EngineError(
                f"engine {self.engine} does not take weights in place: {found[0]}; {ADVICE[self.engine]}"
            )
