"""What the runs on one base share: its checkpoints, the resident model, the harness, the place for results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.digest import weights_sha256
from mergebench_core.evaluation.items import write_rows
from mergebench_core.isolation.policy import MethodLimits
from mergebench_core.jobs import JobFolder
from mergebench_core.records import TaskPart
from mergebench_core.tracks.digests import file_digest, verify_files
from mergebench_core.tracks.track import Task, Track, TrackBase

if TYPE_CHECKING:
    from mergebench_core.evaluation.harness import Harness
    from mergebench_core.evaluation.resident import ResidentModel

Progress = Callable[[str], None]
"""Shows one line of progress."""


class Workbench:
    """A base model of a track, ready to be merged and scored. Heavy parts load when first used."""

    def __init__(
        self,
        *,
        track: Track,
        base: str,
        home: Path,
        progress: Progress,
        num_threads: int = 1,
        limits: MethodLimits | None = None,
    ) -> None:
        """Raises InputError if the track has no such base."""
        self.track: Track = track
        self.base: TrackBase = track.base(base)
        self.home = home
        self.progress = progress
        self.num_threads = num_threads
        self.limits = limits or MethodLimits()
        self._is_verified = False

    @cached_property
    def base_checkpoint(self) -> Checkpoint:
        """The base's weights on disk."""
        return Checkpoint(self.base.path)

    @cached_property
    def specialists(self) -> dict[str, Checkpoint]:
        """The specialists' weights on disk, by domain."""
        return {domain: Checkpoint(path) for domain, path in self.base.specialists.items()}

    @cached_property
    def resident(self) -> ResidentModel:
        """The model in memory; loading it takes seconds."""
        from mergebench_core.evaluation.resident import ResidentModel

        self.progress(f"loading {self.base.name}")
        return ResidentModel(self.base.path)

    @cached_property
    def harness(self) -> Harness:
        """lm-eval on the resident model."""
        from mergebench_core.evaluation.harness import Harness

        return Harness(self.track, self.resident)

    @cached_property
    def input_sha256(self) -> dict[str, str]:
        """Weights digests of base and specialists, by reference name."""
        models = {"base": self.base_checkpoint}
        models |= {f"specialist:{domain}": model for domain, model in self.specialists.items()}
        return {name: weights_sha256(model) for name, model in models.items()}

    def verify(self) -> None:
        """Check, once, that every file of the track has its pinned digest.

        Raises:
            InputError: naming the files that were changed.
        """
        if not self._is_verified:
            verify_files(self.track)
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

        Returns:
            The scores by task, and the evaluation runtime in seconds.
        """
        self.resident.load(checkpoint)
        parts: dict[str, TaskPart] = {}
        runtime_s = 0.0
        tasks = self.track.tasks_for("test", "generalization")
        for number, task in enumerate(tasks, 1):
            part, seconds = self._noted_task(folder, task, digest) or self._score_task(folder, task, digest)
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

    def _score_task(self, folder: JobFolder, task: Task, digest: str) -> tuple[TaskPart, float]:
        started = time.perf_counter()
        result = self.harness.score(task)
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
            items_file=file,
            items_sha256=sha256,
        )
        note = {"part": part.model_dump(mode="json"), "runtime_s": runtime_s, "weights_sha256": digest}
        folder.write_note("tasks", task.name, note)
        return part, runtime_s
