"""What runs would cost, before anything starts: downloads, disk, memory, evaluations, hours.

Estimates come from the track's cost table until this home has measured the same: then from its records.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mergebench_core import hub
from mergebench_core.errors import StoreError
from mergebench_core.records import RunRecord, read_record
from mergebench_core.tracks.mergebench_v1 import costs
from mergebench_core.tracks.track import HubBase, Task, Track, TrackBase

if TYPE_CHECKING:
    from mergebench_core.worker.catalog import CatalogMethod

ASK_ABOVE_HOURS = 1.0
"""A run that would take longer asks before it starts."""
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """What one job would cost."""

    kind: str
    """`references` of a base, or `merge`."""
    base: str
    method: str | None
    num_evaluations: int
    """Models scored on test and generalization tasks."""
    num_validations: float
    """Full validations of the search."""
    download_bytes: int
    disk_bytes: int
    """Merged weights that are kept."""
    peak_gpu_bytes: int
    peak_memory_bytes: int
    hours: float
    is_measured: bool
    """Whether the hours come from this home's own runs."""
    is_done: bool
    """Whether a record of it is there, so that it costs nothing."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Means of this home's records of one track, base, suite and engine, in seconds; None where there is none."""

    evaluation_s: float | None
    validation_s: float | None


def run_records(home: Path) -> list[RunRecord]:
    """Return the records of this home's runs; damaged ones are left out."""
    found: list[RunRecord] = []
    for path in sorted((home / "runs").glob("*/record.json")):
        with contextlib.suppress(StoreError):
            found.append(read_record(path))
    return found


def measured_times(records: Sequence[RunRecord], track: Track, base: str) -> Measured:
    """Return what scoring a model took in earlier runs of the same kind."""
    alike = [
        record
        for record in records
        if record.status == "completed"
        and (record.track.name, record.track.suite, record.track.engine) == (track.name, track.suite, track.engine)
        and record.base_model == base
    ]
    whole = [
        part.runtime_s
        for record in alike
        for part in record.configurations
        if part.status == "completed" and len(part.domains) == len(track.domains)
    ]
    return Measured(
        evaluation_s=_mean([record.runtime.evaluation_runtime_s for record in alike]), validation_s=_mean(whole)
    )


def plan_jobs(
    track: Track,
    bases: Sequence[str],
    methods: Sequence[CatalogMethod],
    records: Sequence[RunRecord],
) -> list[JobPlan]:
    """Return the jobs of methods on bases, the references that they are measured against first."""
    jobs: list[JobPlan] = []
    for name in bases:
        base = track.base(name)
        measured = measured_times(records, track, name)
        jobs.append(_references(track, base, measured, records))
        jobs += [_merge(track, base, method, measured, records) for method in methods]
    return jobs


def _references(
    track: Track, base: TrackBase | HubBase, measured: Measured, records: Sequence[RunRecord]
) -> JobPlan:
    num_models = len(base.hub_models) if isinstance(base, HubBase) else len(base.models())
    scored = {
        record.model
        for record in records
        if record.kind == "reference" and record.base_model == base.name and _is_of(record, track)
    }
    left = max(0, num_models - len(scored))
    evaluation_s = _evaluation_s(track, base, measured)
    return JobPlan(
        kind="references",
        base=base.name,
        method=None,
        num_evaluations=left,
        num_validations=0,
        download_bytes=download_bytes(base) + judge_bytes(track),
        disk_bytes=0,
        peak_gpu_bytes=_gpu_bytes(track, base),
        peak_memory_bytes=model_bytes(base) + 2 * GIB,
        hours=left * evaluation_s / 3600,
        is_measured=measured.evaluation_s is not None,
        is_done=left == 0,
    )


def _merge(
    track: Track,
    base: TrackBase | HubBase,
    method: CatalogMethod,
    measured: Measured,
    records: Sequence[RunRecord],
) -> JobPlan:
    description = method.description
    num_validations = description.search_space.cost(len(track.domains)) if description.search_space.is_tuned else 0
    validation_s = measured.validation_s or estimate_s(track, base, track.tasks_for("surrogate"))
    seconds = num_validations * validation_s + _evaluation_s(track, base, measured)
    is_done = any(
        record.kind == "merge"
        and record.status == "completed"
        and record.base_model == base.name
        and record.method is not None
        and record.method.source_sha256 == method.source_sha256
        and record.method.name == description.name
        and _is_of(record, track)
        for record in records
    )
    return JobPlan(
        kind="merge",
        base=base.name,
        method=description.name,
        num_evaluations=0 if is_done else 1,
        num_validations=0 if is_done else num_validations,
        download_bytes=0,
        disk_bytes=0 if is_done else model_bytes(base),
        peak_gpu_bytes=_gpu_bytes(track, base),
        peak_memory_bytes=model_bytes(base) + 2 * GIB,
        hours=0.0 if is_done else seconds / 3600,
        is_measured=measured.evaluation_s is not None
        and (measured.validation_s is not None or not num_validations),
        is_done=is_done,
    )


def estimate_s(track: Track, base: TrackBase | HubBase, tasks: Sequence[Task]) -> float:
    """Return how long scoring tasks takes by the cost table, in seconds on one GPU."""
    speed = _speed(track, base)
    seconds = 0.0
    for task in tasks:
        tokens = costs.TOKENS.get(task.name, costs.UNKNOWN)
        reading = tokens.prompt / speed.prompt_tokens_per_s
        writing = tokens.answer / speed.answer_tokens_per_s
        seconds += task.num_items * (reading + writing)
    return seconds


def download_bytes(base: TrackBase | HubBase) -> int:
    """Return the bytes of models that the local cache lacks, estimated by their parameters; asks no network."""
    if not isinstance(base, HubBase):
        return 0
    missing = [model for model in base.hub_models.values() if hub.cached(model.repo, model.revision) is None]
    return sum(model.num_parameters * costs.BYTES_PER_PARAMETER for model in missing)


def judge_bytes(track: Track) -> int:
    """Return the bytes of the judge's model if the local cache lacks it, about."""
    if track.judge is None:
        return 0
    from mergebench_core.evaluation.judges.registry import find_judge

    name, _, revision = track.judge.partition("@")
    repo = find_judge(name).repo
    return costs.JUDGE_BYTES if repo is not None and hub.cached(repo, revision or None) is None else 0


def num_parameters(base: TrackBase | HubBase) -> int:
    """Return the size of a base; that of a tiny model where it ships with the package."""
    return base.hub_models["base"].num_parameters if base.hub_models else 10**6


def model_bytes(base: TrackBase | HubBase) -> int:
    """Return the size of one model's weights."""
    return num_parameters(base) * costs.BYTES_PER_PARAMETER


def free_bytes(home: Path) -> int:
    """Return the room on the disk that holds `home`."""
    folder = home
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def total(jobs: Sequence[JobPlan]) -> Mapping[str, float]:
    """Return the sums over jobs: hours, downloads, disk."""
    return {
        "hours": sum(job.hours for job in jobs),
        "download_bytes": sum(job.download_bytes for job in jobs),
        "disk_bytes": sum(job.disk_bytes for job in jobs),
        "num_evaluations": sum(job.num_evaluations for job in jobs),
        "num_validations": sum(job.num_validations for job in jobs),
    }


def _evaluation_s(track: Track, base: TrackBase | HubBase, measured: Measured) -> float:
    estimated = estimate_s(track, base, track.tasks_for("test", "generalization"))
    return measured.evaluation_s or estimated + _speed(track, base).load_s


def _speed(track: Track, base: TrackBase | HubBase) -> costs.Speed:
    speeds = costs.SPEEDS[track.engine]
    return speeds[base.size] if isinstance(base, HubBase) else speeds["2B"]


def _gpu_bytes(track: Track, base: TrackBase | HubBase) -> int:
    """Return weights, cache and activations of the engine, and a judge's weights, about."""
    if not base.hub_models:
        return 0
    judge = costs.JUDGE_BYTES if track.judge and not track.judge.startswith("refusal_phrases") else 0
    return int(1.5 * model_bytes(base)) + 4 * GIB + judge


def _is_of(record: RunRecord, track: Track) -> bool:
    found = record.track
    return (found.name, found.suite, found.protocol, found.engine) == (
        track.name,
        track.suite,
        track.protocol,
        track.engine,
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
