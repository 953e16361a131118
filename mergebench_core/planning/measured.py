"""What this home's own records say of a job's cost: medians over runs of the same kind on the same hardware."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mergebench_core.errors import StoreError
from mergebench_core.records import RunRecord, read_record
from mergebench_core.tracks.track import Track


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Medians of earlier runs; None where there is none. Times are seconds."""

    evaluation_s: float | None
    validation_s: float | None
    """Merging and scoring one configuration, of any method."""
    num_domains: int
    records: tuple[RunRecord, ...]

    def of_method(self, name: str) -> MeasuredMethod:
        """Return what earlier runs of one method took."""
        own = [record for record in self.records if record.method is not None and record.method.name == name]
        algorithm = [record.runtime.algorithm_runtime_s for record in own]
        peaks = [record.meters.worker_peak_rss_bytes for record in own]
        return MeasuredMethod(
            validation_s=_median(_validations(own, self.num_domains)) or self.validation_s,
            algorithm_s=_median(found for found in algorithm if found is not None),
            memory_bytes=max((peak for peak in peaks if peak is not None), default=None),
        )


@dataclass(frozen=True, kw_only=True)
class MeasuredMethod:
    """What a method took; None where it never ran."""

    validation_s: float | None
    algorithm_s: float | None
    memory_bytes: int | None


def run_records(home: Path) -> list[RunRecord]:
    """Return the records of this home's runs; damaged ones are left out."""
    found: list[RunRecord] = []
    for path in sorted((home / "runs").glob("*/record.json")):
        with contextlib.suppress(StoreError):
            found.append(read_record(path))
    return found


def measured(records: Sequence[RunRecord], track: Track, base: str) -> Measured:
    """Return what earlier runs of a track's kind on one base took, on the hardware of the latest of them."""
    alike = [
        record
        for record in records
        if record.status == "completed" and record.base_model == base and is_of(record, track)
    ]
    latest = max(alike, key=lambda record: record.created_at, default=None)
    same = [
        record
        for record in alike
        if latest is not None and record.environment.hardware_class == latest.environment.hardware_class
    ]
    return Measured(
        evaluation_s=_median(record.runtime.evaluation_runtime_s for record in same),
        validation_s=_median(_validations(same, len(track.domains))),
        num_domains=len(track.domains),
        records=tuple(same),
    )


def is_of(record: RunRecord, track: Track) -> bool:
    """Return whether a record is of the same track, suite, protocol, engine and judge, whatever its revisions."""
    found = record.track
    return (found.name, found.suite, found.protocol, found.engine, _judge(found.judge)) == (
        track.name,
        track.suite,
        track.protocol,
        track.engine,
        _judge(track.judge),
    )


def _judge(judge: str | None) -> str:
    return (judge or "").partition("@")[0]


def _validations(records: Iterable[RunRecord], num_domains: int) -> list[float]:
    """Return the times of configurations that were scored on all domains."""
    return [
        part.runtime_s
        for record in records
        for part in record.configurations
        if part.status == "completed" and len(part.domains) == num_domains
    ]


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return median(found) if found else None
