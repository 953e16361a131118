"""A track: the frozen world in which methods are compared (models, data, tasks, caps)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mergebench_core.errors import InputError, unknown_name

Purpose = Literal["test", "surrogate", "generalization"]
PromptFormat = Literal["plain", "instruction", "chat"]
"""How a request of an instruction task reaches the model: as it is, in the format of the specialists' training, or
in the model's own chat template."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How answers are generated."""

    max_tokens: int
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    num_samples: int = 1
    """Answers per item; the item's score is their mean."""

    def __str__(self) -> str:
        how = f"temperature {self.temperature:g}, top-p {self.top_p:g}" if self.temperature else "greedy"
        samples = f", {self.num_samples} samples" if self.num_samples > 1 else ""
        return f"{how}{samples}, {self.max_tokens} tokens"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One data set with one metric, run by lm-eval under `name`, or under the names of its parts."""

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
    parts: tuple[str, ...] = ()
    """lm-eval tasks, one per language, whose unweighted mean the score is; empty for one that has its own."""
    other_metrics: tuple[str, ...] = ()
    """Further keys of lm-eval's results that are recorded beside the score and never ranked."""
    num_shots: int = 0
    decoding: Decoding | None = None
    """None where choices are compared by log-likelihood, and where only the task's YAML says it."""
    is_instruction: bool = False
    """Whether requests go through the base's prompt format; all other prompts are plain text."""
    is_judged: bool = False
    """Whether a judge reads the answers."""

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names under which lm-eval runs it."""
        return self.parts or (self.name,)


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What must not vary when a model is scored."""

    batch_size: int
    """Sequences at a time where choices are compared; also where answers are generated, unless that is given."""
    max_length: int
    """Tokens of prompt and answer together."""
    num_threads: int
    """Torch threads while scoring: another number could flip a greedy token."""
    generation_batch_size: int | None = None
    dtype: str = "auto"
    """In which models are scored: `auto` is their stored one."""
    device: Literal["cpu", "auto"] = "cpu"
    """`auto` takes a GPU where there is one."""
    truncates: bool = False
    """Whether prompts that are too long lose their beginning; else they are an error."""


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """A model on the Hugging Face Hub."""

    repo: str
    licence: str
    is_gated: bool
    """Whether its authors want terms accepted first."""
    num_parameters: int
    """As published, rounded."""
    bytes_per_parameter: int = 2
    """As stored: 2 in bfloat16, 4 in float32."""
    revision: str | None = None
    """Commit that the lock pins; None until there is a lock."""


@dataclass(frozen=True, kw_only=True)
class HubBase:
    """One base model of a track that lives on the Hub; fetching it gives a `TrackBase`."""

    name: str
    title: str
    family: str
    size: str
    is_instruct: bool
    prompt_format: PromptFormat
    hub_models: Mapping[str, HubModel]
    """By reference name: `base`, `specialist:<domain>`."""


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
    prompt_format: PromptFormat = "plain"
    hub_models: Mapping[str, HubModel] = field(default_factory=dict)
    """What the folders were fetched from; empty for an embedded track."""

    def models(self) -> dict[str, Path]:
        """Return every model by its reference name: `base`, `specialist:<domain>`, and the references."""
        named = {f"specialist:{domain}": path for domain, path in self.specialists.items()}
        return {"base": self.path, **named, **self.references}


@dataclass(frozen=True, kw_only=True)
class Track:
    """A frozen, versioned world. `digest` covers everything that can move a score and that its bases share.

    Which commits of its models a base stands for says `models_sha256`; results of other commits never meet.
    """

    name: str
    title: str
    domains: tuple[str, ...]
    bases: Mapping[str, TrackBase | HubBase]
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
    suite: Literal["full", "lite"] = "full"
    protocol: Literal["standard", "paper"] = "standard"
    engine: Literal["hf", "vllm"] = "hf"
    judge: str | None = None
    """Name and revision, `<name>@<revision>`; None where no task is judged."""
    items_folder: Path | None = None
    """Items that were prepared from fetched data; None where they lie in the task folder."""
    data_digests: Mapping[str, str] = field(default_factory=dict)
    """sha256 of every prepared file; empty until data were fetched, and for embedded tracks."""
    revisions: Mapping[str, str] = field(default_factory=dict)
    """Commit by repository of what was fetched."""
    overlaps: Mapping[str, int] = field(default_factory=dict)
    """What the audit of the fetched data found."""

    @property
    def digest(self) -> str:
        """sha256 over settings and file digests; part of every record."""
        return track_digest(self)

    def models_sha256(self, base: str) -> str | None:
        """Return the digest of the commits of a fetched base and its specialists; None where they are embedded."""
        models = self.local_base(base).hub_models
        if not models:
            return None
        commits = {name: f"{model.repo}@{self.revisions[model.repo]}" for name, model in models.items()}
        return hashlib.sha256(json.dumps(commits, sort_keys=True).encode()).hexdigest()

    def base(self, name: str) -> TrackBase | HubBase:
        """Return the base called `name`.

        Raises:
            InputError: the track has no such base.
        """
        if name not in self.bases:
            raise unknown_name("base", name, self.bases, f"`mergebench models --track {self.name}` lists them.")
        return self.bases[name]

    def local_base(self, name: str) -> TrackBase:
        """Return the base called `name`, whose folders are there.

        Raises:
            InputError: the track has no such base, or its models were not fetched.
        """
        base = self.base(name)
        if isinstance(base, HubBase):
            raise InputError(
                f"the models of {name} are not here; `mergebench models fetch --base {name}` fetches them"
            )
        return base

    def tasks_for(self, *purposes: Purpose, domains: tuple[str, ...] | None = None) -> list[Task]:
        """Return the tasks of these purposes, in the track's order, if `domains` is given only of those."""
        return [
            task for task in self.tasks if task.purpose in purposes and (domains is None or task.domain in domains)
        ]


def track_digest(track: Track) -> str:
    """Return the sha256 over canonical JSON of everything in `track` that can move a score, but models on the Hub.

    Titles and the place of the track's folder on this machine are left out, and so is what a task's YAML says
    (its digest is among the file digests), and commits of data sets (prepared data have digests).
    """
    evaluation = track.evaluation
    content: dict[str, Any] = {
        "name": track.name,
        "domains": list(track.domains),
        "bases": [_base_content(track, base) for _, base in sorted(track.bases.items())],
        "tasks": sorted((_task_content(task) for task in track.tasks), key=lambda task: str(task["name"])),
        "task_folder": _relative(track, track.task_folder),
        "calibration_folder": _relative(track, track.calibration_folder),
        "num_calibration_samples": track.num_calibration_samples,
        "max_validations": track.max_validations,
        "evaluation": {
            "batch_size": evaluation.batch_size,
            "max_length": evaluation.max_length,
            "num_threads": evaluation.num_threads,
        }
        | _unusual(
            evaluation,
            {"generation_batch_size": None, "dtype": "auto", "device": "cpu", "truncates": False},
        ),
        "file_digests": dict(track.file_digests),
    }
    content |= _unusual(track, {"suite": "full", "protocol": "standard", "engine": "hf", "judge": None})
    content |= _unusual(track, {"data_digests": {}})
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _unusual(holder: object, usual: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that differ from what they usually are: worlds without them keep their digest."""
    found = {name: getattr(holder, name) for name in usual}
    plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in found.items()}
    return {name: value for name, value in plain.items() if value != usual[name]}


def _base_content(track: Track, base: TrackBase | HubBase) -> dict[str, Any]:
    if base.hub_models:
        models = {name: model.repo for name, model in base.hub_models.items()}
    elif isinstance(base, TrackBase):
        models = {name: _relative(track, path) for name, path in base.models().items()}
    else:
        models = {}
    content = {"name": base.name, "family": base.family, "models": models}
    return content | _unusual(base, {"prompt_format": "plain"})


def _task_content(task: Task) -> dict[str, Any]:
    content = {
        "name": task.name,
        "purpose": task.purpose,
        "domain": task.domain,
        "metric": task.metric,
        "num_items": task.num_items,
        "chance": task.chance,
    }
    return content | _unusual(task, {"parts": (), "is_instruction": False, "is_judged": False})


def _relative(track: Track, path: Path) -> str:
    return path.relative_to(track.folder).as_posix() if path.is_relative_to(track.folder) else path.name
