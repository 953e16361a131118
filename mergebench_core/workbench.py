"""What the runs on one base share: its checkpoints, the resident model, the harness, the place for results."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.digest import weights_sha256
from mergebench_core.evaluation.engines.side_files import answers_by_files_of, with_tokenizer_of
from mergebench_core.evaluation.engines.work_folder import WorkFolder
from mergebench_core.evaluation.items import write_rows
from mergebench_core.evaluation.judges.judge import Judge, ParkableJudge
from mergebench_core.isolation.policy import MethodLimits
from mergebench_core.jobs import JobFolder, job_id
from mergebench_core.records import TaskPart, TrackPart
from mergebench_core.tracks.digests import file_digest, verify_files
from mergebench_core.tracks.track import Task, Track, TrackBase

if TYPE_CHECKING:
    from mergebench_core.evaluation.engines.engine import Engine
    from mergebench_core.evaluation.engines.in_place import InPlaceNote
    from mergebench_core.evaluation.harness import Harness

Progress = Callable[[str], None]
"""Shows one line of progress."""


class Workbench:
    """A base model of a track, ready to be merged and scored. Heavy parts load when first used.

    Use it as a context manager: the block's end frees the models and what they need on disk.
    """

    def __init__(
        self,
        *,
        track: Track,
        base: str,
        home: Path,
        progress: Progress,
        num_threads: int = 1,
        limits: MethodLimits | None = None,
        judge: Judge | None = None,
    ) -> None:
        """Raises InputError if the track has no such base, or its models are not on this machine."""
        self.track: Track = track
        self.base: TrackBase = track.local_base(base)
        self.home = home
        self.progress = progress
        self.num_threads = num_threads
        self.limits = limits or MethodLimits()
        self.judge = judge
        self._is_verified = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @cached_property
    def base_checkpoint(self) -> Checkpoint:
        """The base's weights on disk."""
        return Checkpoint(self.base.path)

    @cached_property
    def specialists(self) -> dict[str, Checkpoint]:
        """The specialists' weights on disk, by domain."""
        return {domain: Checkpoint(path) for domain, path in self.base.specialists.items()}

    @cached_property
    def resident(self) -> Engine:
        """The model in memory; loading it takes seconds."""
        self.progress(f"loading {self.base.name}")
        return self._compared_engine() if self._is_to_be_compared() else self._open_engine(self.base.path)

    @cached_property
    def harness(self) -> Harness:
        """lm-eval on the resident model."""
        return self._harness(self.resident)

    @cached_property
    def work_folder(self) -> WorkFolder:
        """A folder for what engines need while this process lives."""
        return WorkFolder(self.home / "work")

    def park(self) -> None:
        """Free the accelerator's memory for a method; resident model and judge take it again when used."""
        if "resident" in self.__dict__:
            self.resident.park()
        if isinstance(self.judge, ParkableJudge):
            self.judge.park()

    def close(self) -> None:
        """Free the models and the work folder; both come again when used."""
        if "resident" in self.__dict__:
            self.resident.close()
            del self.__dict__["resident"]
            self.__dict__.pop("harness", None)
        if "work_folder" in self.__dict__:
            self.work_folder.close()
            del self.__dict__["work_folder"]

    def _open_engine(self, path: Path) -> Engine:
        from mergebench_core.evaluation.engines.engine import open_engine

        return open_engine(self.track.engine, path, self.track.evaluation, self.work_folder.path)

    def _compared_engine(self) -> Engine:
        """Return the engine on the base after it was compared with one that is started on the same weights.

        Raises:
            EngineError: they answer differently.
        """
        from mergebench_core.evaluation.engines.in_place import InPlaceCheck

        self.progress("comparing weights taken in place with the same weights loaded anew")
        domain, specialist = next(iter(self.specialists.items()))
        check = InPlaceCheck(
            engine=self.track.engine,
            base=self.base_checkpoint,
            domain=domain,
            specialist=specialist,
            open_engine=self._open_engine,
        )
        engine = check.engine_on_base(self.work_folder.path / "compared")
        self._in_place_note.write()
        return engine

    @cached_property
    def _in_place_note(self) -> InPlaceNote:
        from mergebench_core.evaluation.engines.in_place import InPlaceNote, in_place_key

        file = self.home / "tracks" / self.track.name / "in_place.json"
        return InPlaceNote(file=file, key=in_place_key(self.track, self.base.name))

    def _is_to_be_compared(self) -> bool:
        return bool(self.base.hub_models) and not self._in_place_note.is_there

    def _harness(self, engine: Engine) -> Harness:
        from mergebench_core.evaluation.harness import Harness
        from mergebench_core.evaluation.session import Session

        session = Session(
            prompt_format=self.base.prompt_format, judge=self.judge, cache_folder=self.home / "references"
        )
        return Harness(self.track, engine, session)

    @cached_property
    def input_sha256(self) -> dict[str, str]:
        """Weights digests of base and specialists, by reference name."""
        models = {"base": self.base_checkpoint}
        models |= {f"specialist:{domain}": model for domain, model in self.specialists.items()}
        return {name: weights_sha256(model) for name, model in models.items()}

    @cached_property
    def track_part(self) -> TrackPart:
        """What a record says of the track."""
        track = self.track
        return TrackPart(
            name=track.name,
            digest=track.digest,
            suite=track.suite,
            protocol=track.protocol,
            judge=track.judge,
            engine=track.engine,
            models_sha256=track.models_sha256(self.base.name),
            revisions=dict(track.revisions),
            overlaps=dict(track.overlaps),
        )

    def job_id(self, kind: str, **subject: Any) -> str:
        """Return the id of a job on this base: of its kind, its subject, the track, and the models it is about."""
        place = {"kind": kind, "track": self.track.digest, "base": self.base.name}
        models = self.track.models_sha256(self.base.name)
        return job_id({**place, **subject, **({"models": models} if models else {})})

    def verify(self) -> None:
        """Check, once, that files of the track have their pinned digests, and that the engine can be trusted.

        Raises:
            EngineError: the engine answers differently where it takes weights in place.
            InputError: naming the files that were changed.
        """
        if not self._is_verified:
            verify_files(self.track)
            if self._is_to_be_compared():
                self.resident.park()  # compared as it is opened: now, while no method has the accelerator
            self._is_verified = True

    def surrogate_scores(self, domains: Sequence[str]) -> dict[str, float]:
        """Score the resident model on the surrogate tasks: mean per domain."""
        scores: dict[str, float] = {}
        for domain in domains:
            tasks = self.track.tasks_for("surrogate", domains=(domain,))
            scores[domain] = sum(self.harness.score(task).score for task in tasks) / len(tasks)
        return scores

    def evaluate(
        self, folder: JobFolder, checkpoint: Checkpoint, digest: str
    ) -> tuple[dict[str, TaskPart], float]:
        """Score a checkpoint on all test and generalization tasks, resuming after finished tasks.

        A checkpoint with the base's shapes, tokenizer and settings is loaded into the resident model; any other
        into an engine of its own, with its own files.

        Returns:
            The scores by task, and the evaluation runtime in seconds.
        """
        if self.is_resident_like(checkpoint):
            self.resident.load(checkpoint)
            return self._evaluate_on(self.harness, folder, digest)
        self.close()
        place = Path(tempfile.mkdtemp(dir=self.work_folder.path))
        engine = self._open_engine(with_tokenizer_of(self.base.path, checkpoint.path, place))
        try:
            return self._evaluate_on(self._harness(engine), folder, digest)
        finally:
            engine.close()

    def is_resident_like(self, checkpoint: Checkpoint) -> bool:
        """Return whether the resident model can stand for a checkpoint: same shapes, same files beside them."""
        base = self.base_checkpoint
        shapes = {entry.name: entry.shape for entry in base.entries.values()}
        if {entry.name: entry.shape for entry in checkpoint.entries.values()} != shapes:
            return False
        return answers_by_files_of(checkpoint.path, base.path)

    def _evaluate_on(self, harness: Harness, folder: JobFolder, digest: str) -> tuple[dict[str, TaskPart], float]:
        parts: dict[str, TaskPart] = {}
        runtime_s = 0.0
        tasks = self.track.tasks_for("test", "generalization")
        for number, task in enumerate(tasks, 1):
            part, seconds = self._noted_task(folder, task, digest) or self._score_task(
                harness, folder, task, digest
            )
            parts[task.name] = part
            runtime_s += seconds
            self.progress(f"task {number}/{len(tasks)} {task.name}: {100 * part.score:.1f}")
        return parts, runtime_s

    def _noted_task(self, folder: JobFolder, task: Task, digest: str) -> tuple[TaskPart, float] | None:
        note = folder.note("tasks", task.name)
        if note is None or note["weights_sha256"] != digest:
            return None
        part = TaskPart.model_validate(note["part"])
        items = folder.path / part.items_file
        return (part, note["runtime_s"]) if items.is_file() and file_digest(items) == part.items_sha256 else None

    def _score_task(self, harness: Harness, folder: JobFolder, task: Task, digest: str) -> tuple[TaskPart, float]:
        started = time.perf_counter()
        result = harness.score(task)
        runtime_s = time.perf_counter() - started
        file = f"items/{task.name}.parquet"
        sha256 = write_rows(folder.path / file, result.rows)
        assert task.purpose != "surrogate"
        part = TaskPart(
            purpose=task.purpose,
            domain=task.domain,
            metric=task.metric,
            score=result.score,
            num_items=len(result.rows),
            other_metrics=dict(result.other_metrics),
            items_file=file,
            items_sha256=sha256,
        )
        note = {"part": part.model_dump(mode="json"), "runtime_s": runtime_s, "weights_sha256": digest}
        folder.write_note("tasks", task.name, note)
        return part, runtime_s
