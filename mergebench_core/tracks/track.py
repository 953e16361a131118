"""A track: the frozen world in which methods are compared (models, data, tasks, caps)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mergebench_core.errors import unknown_name

Purpose = Literal["test", "surrogate", "generalization"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One data set with one metric, run by lm-eval under `name`."""

    name: str
    title: str
    purpose: Purpose
    domain: str | None
    """The domain of a test or surrogate task; None for a generalization task."""
    metric: str
    """Key of lm-eval's results, `<metric>,<filter>`; oriented so that higher is better, in [0, 1]."""
    num_items: int
    chance: float = 0.0
    """Score of guessing (or of the better constant answer), in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What must not vary when a model is scored."""

    batch_size: int
    max_length: int
    num_threads: int
    """Torch threads while scoring: another number could flip a greedy token."""


@dataclass(frozen=True, kw_only=True)
class TrackBase:
    """One base model of a track with its specialists and reference models (folders of safetensors)."""

    name: str
    title: str
    family: str
    path: Path
    specialists: Mapping[str, Path]
    """Folder by domain."""
    references: Mapping[str, Path]
    """Folder by name of further reference models, such as `multitask`."""

    def models(self) -> dict[str, Path]:
        """Return every model by its reference name: `base`, `specialist:<domain>`, and the references."""
        named = {f"specialist:{domain}": path for domain, path in self.specialists.items()}
        return {"base": self.path, **named, **self.references}


@dataclass(frozen=True, kw_only=True)
class Track:
    """A frozen, versioned world. `digest` covers every file that can move a score."""

    name: str
    title: str
    domains: tuple[str, ...]
    bases: Mapping[str, TrackBase]
    tasks: tuple[Task, ...]
    task_folder: Path
    """lm-eval YAML files with their Python; never visible to a worker."""
    calibration_folder: Path
    """One `<domain>.jsonl` of `{"prompt", "completion"}` rows per domain; read by the host only."""
    num_calibration_samples: int
    """Calibration samples a method may read per domain and run."""
    max_validations: int
    """Full validations (all domains) a run may use; one domain costs its share."""
    evaluation: EvaluationSettings
    file_digests: Mapping[str, str]
    """sha256 by path relative to the track's folder."""
    folder: Path

    @property
    def digest(self) -> str:
        """sha256 over settings and file digests; part of every record."""
        return track_digest(self)

    def base(self, name: str) -> TrackBase:
        """Return the base called `name`.

        Raises:
            InputError: the track has no such base.
        """
        if name not in self.bases:
            raise unknown_name("base", name, self.bases, f"`mergebench models --track {self.name}` lists them.")
        return self.bases[name]

    def tasks_for(self, *purposes: Purpose, domains: tuple[str, ...] | None = None) -> list[Task]:
        """Return the tasks of these purposes, in the track's order, if `domains` is given only of those."""
        return [
            task for task in self.tasks if task.purpose in purposes and (domains is None or task.domain in domains)
        ]


def track_digest(track: Track) -> str:
    """Return the sha256 over canonical JSON of everything in `track` that can move a score.

    Titles and the place of the track's folder on this machine are left out.
    """
    content = {
        "name": track.name,
        "domains": list(track.domains),
        "bases": [_base_content(track, base) for _, base in sorted(track.bases.items())],
        "tasks": sorted((_task_content(task) for task in track.tasks), key=lambda task: str(task["name"])),
        "task_folder": _relative(track, track.task_folder),
        "calibration_folder": _relative(track, track.calibration_folder),
        "num_calibration_samples": track.num_calibration_samples,
        "max_validations": track.max_validations,
        "evaluation": {
            "batch_size": track.evaluation.batch_size,
            "max_length": track.evaluation.max_length,
            "num_threads": track.evaluation.num_threads,
        },
        "file_digests": dict(track.file_digests),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _base_content(track: Track, base: TrackBase) -> dict[str, Any]:
    models = {name: _relative(track, path) for name, path in base.models().items()}
    return {"name": base.name, "family": base.family, "models": models}


def _task_content(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "purpose": task.purpose,
        "domain": task.domain,
        "metric": task.metric,
        "num_items": task.num_items,
        "chance": task.chance,
    }


def _relative(track: Track, path: Path) -> str:
    return path.relative_to(track.folder).as_posix() if path.is_relative_to(track.folder) else path.name
