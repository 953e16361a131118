"""Scoring models as they are: the references of a track (denominators), and anybody's checkpoint."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.digest import weights_sha256
from mergebench_core.checkpoints.policy import check_compatible, check_finite, check_fit
from mergebench_core.environment import environment
from mergebench_core.evaluation.programs import programs_isolation
from mergebench_core.jobs import JobFolder
from mergebench_core.methods import Role
from mergebench_core.records import MeterPart, RunRecord, RuntimePart
from mergebench_core.store import append_record
from mergebench_core.workbench import Workbench

VOCABULARY: frozenset[Role] = frozenset({"embedding", "head"})


def run_references(bench: Workbench) -> list[RunRecord]:
    """Score the base, its specialists and its reference models; finished ones are not scored again.

    Raises:
        InputError: a model's files are not those of the track.
    """
    models = bench.base.models()
    records = []
    for number, (name, path) in enumerate(models.items(), 1):
        folder = JobFolder(home=bench.home, job_id=bench.job_id("reference", model=name))
        record = folder.completed_record()
        if record is None:
            bench.progress(f"reference {number}/{len(models)}: {name} of {bench.base.name}")
            record = _score(bench, folder, Checkpoint(path), "reference", name)
        records.append(record)
    return records


def evaluate_checkpoint(bench: Workbench, path: Path) -> RunRecord:
    """Score a checkpoint that is compatible with the base; its record is never ranked.

    Raises:
        CheckpointError: it cannot be read or does not fit the base.
    """
    checkpoint = Checkpoint(path)
    check_compatible(bench.base_checkpoint, checkpoint, str(path))
    digest = weights_sha256(checkpoint)
    label = re.sub(r"[^A-Za-z0-9._+-]", "_", path.resolve().name).lstrip("._-+")[:100] or "checkpoint"
    folder = JobFolder(home=bench.home, job_id=bench.job_id("evaluation", weights=digest, label=label))
    return folder.completed_record() or _score(bench, folder, checkpoint, "evaluation", label)


def _score(
    bench: Workbench,
    folder: JobFolder,
    checkpoint: Checkpoint,
    kind: Literal["reference", "evaluation"],
    label: str,
) -> RunRecord:
    with folder.lock(bench.progress):
        if (done := folder.completed_record()) is not None:
            return done
        digest = weights_sha256(checkpoint)
        if kind == "reference":
            _check_reference(bench, checkpoint, f"{label} of {bench.base.name}")
            bench.verify()
        tasks, runtime_s = bench.evaluate(folder, checkpoint, digest)
        record = RunRecord(
            job_id=folder.job_id,
            kind=kind,
            status="completed",
            reason=None,
            track=bench.track_part,
            base_model=bench.base.name,
            model=label,
            method=None,
            seed=0,
            config=None,
            configurations=(),
            input_sha256={},
            weights_sha256=digest,
            left_out=(),
            tasks=tasks,
            runtime=RuntimePart(
                prepare_s=None,
                merge_s=None,
                algorithm_runtime_s=None,
                validation_runtime_s=None,
                evaluation_runtime_s=runtime_s,
            ),
            meters=MeterPart(
                worker_peak_rss_bytes=None, gpu_peak_bytes=None, calibration_samples={}, validations=0.0
            ),
            environment=environment(bench.track.evaluation.num_threads, programs_isolation()),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        folder.write_record(record)
        append_record(bench.home, record)
        return record


def _check_reference(bench: Workbench, checkpoint: Checkpoint, where: str) -> None:
    """Check that a reference belongs to the base; one of the Hub may have a vocabulary and dtype of its own.

    Raises:
        CheckpointError: naming what differs.
    """
    if not bench.base.hub_models:
        check_compatible(bench.base_checkpoint, checkpoint, where)
        return
    check_fit(bench.base_checkpoint, checkpoint, VOCABULARY, where)
    check_finite(checkpoint, list(checkpoint.names), where)
