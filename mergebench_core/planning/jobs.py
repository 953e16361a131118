"""The jobs of a plan: the references of each base, and every method on it."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mergebench_core.planning import estimates
from mergebench_core.planning.measured import Measured, is_of, measured, run_records
from mergebench_core.records import RunRecord
from mergebench_core.tracks.mergebench_v1 import costs
from mergebench_core.tracks.mergebench_v1.lock import Lock, read_lock
from mergebench_core.tracks.track import HubBase, Track, TrackBase

if TYPE_CHECKING:
    from mergebench_core.worker.catalog import CatalogMethod

ASK_ABOVE_HOURS = 1.0
"""Jobs that would take longer ask before they start."""
ASK_ABOVE_BYTES = 20 * 2**30
"""Jobs that would fetch more ask as well."""


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """What one job would cost."""

    kind: Literal["references", "merge", "evaluation"]
    """`references` of a base, a `merge`, or an `evaluation` of somebody's checkpoint."""
    base: str
    method: str | None = None
    num_evaluations: int
    """Models scored on test and generalization tasks."""
    num_validations: float = 0.0
    """Full validations of the search."""
    download_bytes: int = 0
    disk_bytes: int = 0
    """Merged weights, what the method keeps while it merges, and prepared data."""
    peak_gpu_bytes: int
    peak_memory_bytes: int | None
    """Of the method's process; None if the method does not say."""
    hours: float | None
    """Of scoring, and of the algorithm where it was measured here; None if nobody knows this machine's speed."""
    is_measured: bool
    """Whether the hours come from this home's own runs."""
    is_done: bool = False
    """Whether a record of it is there, so that it costs nothing."""


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Plans jobs on one track from what a home has measured and what its caches hold."""

    track: Track
    records: Sequence[RunRecord]
    home: Path
    lock: Lock
    seed: int = 0

    def jobs(self, bases: Sequence[str], methods: Sequence[CatalogMethod]) -> list[JobPlan]:
        """Return the jobs of methods on bases, each base's references first; data and judge count once."""
        found: list[JobPlan] = []
        for name in bases:
            base = self.track.base(name)
            seen = measured(self.records, self.track, name)
            found.append(self._references(base, seen, is_first=not found))
            found += [self._merge(base, method, seen) for method in methods]
        return found

    def evaluation(self, name: str) -> JobPlan:
        """Return the job of scoring somebody's checkpoint, beside the references."""
        base = self.track.base(name)
        seen = measured(self.records, self.track, name)
        return JobPlan(
            kind="evaluation",
            base=name,
            num_evaluations=1,
            peak_gpu_bytes=estimates.gpu_bytes(self.track, base),
            peak_memory_bytes=estimates.memory_bytes(base, None),
            hours=_hours(self._evaluation_s(base, seen)),
            is_measured=seen.evaluation_s is not None,
        )

    def _references(self, base: TrackBase | HubBase, seen: Measured, *, is_first: bool) -> JobPlan:
        num_models = len(base.hub_models) if isinstance(base, HubBase) else len(base.models())
        left = max(0, num_models - self._num_scored(base))
        data = self._data_bytes() if is_first else 0
        judge = estimates.judge_bytes(self.track, self.lock, self.home) if is_first else 0
        evaluation_s = self._evaluation_s(base, seen)
        return JobPlan(
            kind="references",
            base=base.name,
            num_evaluations=left,
            download_bytes=estimates.download_bytes(base, self.lock, self.home) + data + judge,
            disk_bytes=data,
            peak_gpu_bytes=estimates.gpu_bytes(self.track, base),
            peak_memory_bytes=estimates.memory_bytes(base, None),
            hours=0.0 if left == 0 else _hours(None if evaluation_s is None else left * evaluation_s),
            is_measured=seen.evaluation_s is not None,
            is_done=left == 0,
        )

    def _merge(self, base: TrackBase | HubBase, method: CatalogMethod, seen: Measured) -> JobPlan:
        description = method.description
        space, own = description.search_space, seen.of_method(description.name)
        is_done = self._is_done(base, method)
        num_validations = space.cost(len(self.track.domains)) if space.is_tuned and not is_done else 0.0
        validation_s = self._validation_s(base, own.validation_s) if num_validations else 0.0
        evaluation_s = self._evaluation_s(base, seen)
        is_known = evaluation_s is not None and validation_s is not None
        seconds = (evaluation_s or 0.0) + num_validations * (validation_s or 0.0) + (own.algorithm_s or 0.0)
        return JobPlan(
            kind="merge",
            base=base.name,
            method=description.name,
            num_evaluations=0 if is_done else 1,
            num_validations=num_validations,
            disk_bytes=0 if is_done else estimates.disk_bytes(self.track, base, description),
            peak_gpu_bytes=estimates.gpu_bytes(self.track, base),
            peak_memory_bytes=own.memory_bytes or estimates.memory_bytes(base, description),
            hours=0.0 if is_done else _hours(seconds if is_known else None),
            is_measured=seen.evaluation_s is not None and (own.validation_s is not None or not num_validations),
            is_done=is_done,
        )

    def _evaluation_s(self, base: TrackBase | HubBase, seen: Measured) -> float | None:
        """Return the time of scoring a model; None on an embedded base that never ran here."""
        estimated = estimates.evaluation_s(self.track, base) if isinstance(base, HubBase) else None
        return seen.evaluation_s or estimated

    def _validation_s(self, base: TrackBase | HubBase, measured_s: float | None) -> float | None:
        surrogate = self.track.tasks_for("surrogate")
        estimated = estimates.estimate_s(self.track, base, surrogate) if isinstance(base, HubBase) else None
        return measured_s or estimated

    def _num_scored(self, base: TrackBase | HubBase) -> int:
        """Return how many reference models have a score in one world and at the same commits: where most have."""
        scored: dict[tuple[str, str | None], set[str | None]] = defaultdict(set)
        for record in self.records:
            if record.kind == "reference" and record.base_model == base.name and self._counts(record):
                scored[record.track.digest, record.track.models_sha256].add(record.model)
        return max(map(len, scored.values()), default=0)

    def _is_done(self, base: TrackBase | HubBase, method: CatalogMethod) -> bool:
        return any(
            record.kind == "merge"
            and record.base_model == base.name
            and record.seed == self.seed
            and record.method is not None
            and record.method.source_sha256 == method.source_sha256
            and record.method.name == method.description.name
            and self._counts(record)
            for record in self.records
        )

    def _counts(self, record: RunRecord) -> bool:
        """Return whether a record is of this world; of a Hub track, whose data may not be here, by its names."""
        is_embedded = not any(isinstance(base, HubBase) for base in self.track.bases.values())
        is_same = record.track.digest == self.track.digest if is_embedded else is_of(record, self.track)
        return record.status == "completed" and is_same

    def _data_bytes(self) -> int:
        """Return the size of the track's data sets, about; 0 where they are embedded or were prepared before."""
        is_on_hub = any(isinstance(base, HubBase) for base in self.track.bases.values())
        is_there = any((self.home / "tracks" / self.track.name).glob("*/calibration"))
        return costs.DATA_BYTES if is_on_hub and not is_there else 0


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 3600


def plan_for(track: Track, home: Path, *, seed: int = 0) -> Planner:
    """Return a planner that knows what `home` has measured."""
    return Planner(track=track, records=run_records(home), home=home, lock=read_lock(), seed=seed)


def free_bytes(home: Path) -> int:
    """Return the room on the disk that holds `home`."""
    folder = home
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def total(jobs: Sequence[JobPlan]) -> Mapping[str, float]:
    """Return the sums over jobs: hours as far as they are known, downloads, disk, evaluations, validations."""
    return {
        "hours": sum(job.hours or 0.0 for job in jobs),
        "download_bytes": sum(job.download_bytes for job in jobs),
        "disk_bytes": sum(job.disk_bytes for job in jobs),
        "num_evaluations": sum(job.num_evaluations for job in jobs),
        "num_validations": sum(job.num_validations for job in jobs),
    }
