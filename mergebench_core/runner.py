"""One run: merge, tune, evaluate, record. The runner owns the clocks and the meters."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from mergebench_core.calibration import CalibrationReader
from mergebench_core.checkpoints.assembly import Assembly, NonFiniteMerge, Sink, UpdateCache
from mergebench_core.checkpoints.checkpoint import CHUNK_NUMEL, Checkpoint
from mergebench_core.checkpoints.policy import MergePlan, check_specialists, merge_plan
from mergebench_core.checkpoints.writer import CheckpointWriter
from mergebench_core.environment import environment
from mergebench_core.errors import BudgetError, RunError
from mergebench_core.hyperparameters import Hyperparameter, resolve_config
from mergebench_core.isolation.level import ADVICE, MEANINGS, SAFE_LEVEL
from mergebench_core.jobs import JobFolder, configuration_key
from mergebench_core.records import (
    ConfigurationPart,
    IsolationPart,
    MeterPart,
    MethodPart,
    RunRecord,
    RuntimePart,
)
from mergebench_core.reference import run_references
from mergebench_core.services import RunServices
from mergebench_core.store import append_record
from mergebench_core.tuning import (
    Candidate,
    Tuned,
    ValidationMeter,
    check_cost,
    config_text,
    reuse_key,
    tune,
    validation_score,
)
from mergebench_core.workbench import Workbench
from mergebench_core.worker.catalog import CatalogMethod, open_method
from mergebench_core.worker.description import MethodDescription
from mergebench_core.worker.host import MethodWorker

Status = Literal["completed", "failed", "over_budget"]
UPDATE_CACHE_BYTES = 2 << 30
"""Updates up to this size stay in memory between coefficients; larger ones are streamed again."""


def run_method(
    bench: Workbench, method: CatalogMethod, *, seed: int = 0, chunk_numel: int = CHUNK_NUMEL
) -> RunRecord:
    """Score a method on one base: references if missing, tuning, the winner's file, test tasks, record.

    A job with a completed record is not run again; one that was interrupted goes on where it was.

    Raises:
        InputError: a search space over the track's cap, or models that do not fit together.
        RunError: the method failed or went over budget; a record saying so has been written.
    """
    description = method.description
    check_cost(description.search_space, bench.track.max_validations, len(bench.track.domains), description.name)
    folder = job_folder(bench, method, seed)
    if folder.completed_record() is None:  # what is wrong with a model is said before that it is not the track's
        check_specialists(bench.base_checkpoint, bench.specialists, description.base_roles)
    run_references(bench)
    with folder.lock(bench.progress):
        if (record := folder.completed_record()) is not None:
            bench.progress(f"{description.name} on {bench.base.name}: done before, nothing to do")
            return record
        bench.verify()
        run = MethodRun(bench=bench, method=method, seed=seed, folder=folder, chunk_numel=chunk_numel)
        try:
            run.execute()
        except RunError as error:
            run.finish("over_budget" if isinstance(error, BudgetError) else "failed", str(error))
            where = f"{description.name} on {bench.base.name}"
            raise type(error)(f"{where}: {error} (record {folder.job_id})") from None
        return run.finish("completed", None)


def job_folder(bench: Workbench, method: CatalogMethod, seed: int) -> JobFolder:
    """Return the folder of the job that scores a method with a seed."""
    subject = {"method": method.description.name, "source": method.source_sha256, "seed": seed}
    return JobFolder(home=bench.home, job_id=bench.job_id("merge", **subject))


@dataclass(kw_only=True)
class MethodRun:
    """The state of one run."""

    bench: Workbench
    method: CatalogMethod
    seed: int
    folder: JobFolder
    chunk_numel: int
    tuned: Tuned = field(default_factory=lambda: Tuned(config={}, configurations=()))
    scored: list[ConfigurationPart] = field(default_factory=list)
    merge_note: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, Any] = field(default_factory=dict)
    evaluation_runtime_s: float = 0.0
    isolation: IsolationPart | None = None
    """The weakest that any part of the run had."""

    def __post_init__(self) -> None:
        self.plan: MergePlan = merge_plan(self.bench.base_checkpoint, self.description.base_roles)
        self.meter = ValidationMeter(self.bench.track.max_validations, len(self.bench.track.domains))
        self.reader = CalibrationReader(self.bench.track, self.folder.note(".", "samples"))
        self.cache = UpdateCache(UPDATE_CACHE_BYTES)
        self.services = RunServices(
            bench=self.bench,
            description=self.description,
            plan=self.plan,
            reader=self.reader,
            meter=self.meter,
        )

    @property
    def description(self) -> MethodDescription:
        return self.method.description

    def execute(self) -> None:
        """Tune, merge the winner into its file, evaluate that file.

        Raises:
            RunError: the method failed or went over budget.
        """
        with MethodWorker(
            num_threads=self.bench.num_threads,
            log_file=self.folder.log_file,
            folder=self.folder.path / "work",
            services=self.services,
            sources=self.method.sources,
            models=[self.bench.base.path, *self.bench.base.specialists.values()],
            limits=self.bench.limits,
        ) as worker:
            self.isolation = self._weakest_isolation(worker.isolation)
            self._open(worker)
            self._tune(worker)
            self.merge_note = self._noted_merge() or self._merge_winner(worker)
        digest = self.merge_note["weights_sha256"]
        merged = Checkpoint(self.folder.weights)
        self.tasks, self.evaluation_runtime_s = self.bench.evaluate(self.folder, merged, digest)

    def _weakest_isolation(self, now: IsolationPart) -> IsolationPart:
        """Return the weaker of the isolation now and before the run was interrupted."""
        note = self.folder.note(".", "isolation")
        if note is not None and note["level"] < now.level:
            return IsolationPart.model_validate(note)
        self.folder.write_note(".", "isolation", now.model_dump(mode="json"))
        if now.level < SAFE_LEVEL:
            self.bench.progress(f"warning: isolation level {now.level} ({MEANINGS[now.level]}): {ADVICE}")
        return now

    def _open(self, worker: MethodWorker) -> None:
        open_method(
            worker,
            self.method,
            base=self.bench.base.path,
            specialists=self.bench.base.specialists,
            seed=self.seed,
            num_threads=self.bench.num_threads,
            chunk_numel=self.chunk_numel,
        )

    def _tune(self, worker: MethodWorker) -> None:
        space, domains = self.description.search_space, self.bench.track.domains
        if space.is_tuned:
            for entry in self.plan.left_out:
                self.bench.resident.copy(self.bench.base_checkpoint, entry)

        def score(candidate: Candidate, number: int, total: int) -> ConfigurationPart:
            self.meter.charge(candidate.domains)
            part = self._noted_configuration(candidate) or self._score(worker, candidate)
            self.scored.append(part)
            where = f"{self.description.name} on {self.bench.base.name}"
            self.bench.progress(f"{where}: configuration {number}/{total} {_outcome(part)}")
            return part

        start = resolve_config(self.description.parameters, {}, domains, self.description.name)
        self.tuned = tune(space, domains, self.description.linear_in, score, start)
        self.cache.clear()

    def _noted_configuration(self, candidate: Candidate) -> ConfigurationPart | None:
        note = self.folder.note("configurations", configuration_key(candidate.stage, candidate.config))
        return ConfigurationPart.model_validate(note) if note else None

    def _score(self, worker: MethodWorker, candidate: Candidate) -> ConfigurationPart:
        started = time.perf_counter()
        scores: dict[str, float] = {}
        reason = None
        try:
            self._merge_candidate(worker, candidate.config)
            scores = self.bench.surrogate_scores(candidate.domains)
        except NonFiniteMerge as error:
            reason = str(error)
        part = ConfigurationPart(
            stage=candidate.stage,
            config=candidate.config,
            domains=candidate.domains,
            status="failed" if reason else "completed",
            reason=reason,
            validation_scores=scores,
            runtime_s=time.perf_counter() - started,
        )
        key = configuration_key(candidate.stage, candidate.config)
        self._note_samples()
        self.folder.write_note("configurations", key, part.model_dump(mode="json"))
        return part

    def _note_samples(self) -> None:
        """Keep what the meter of calibration samples counted, so that a killed run does not forget it."""
        if self.reader.num_read():
            self.folder.write_note(".", "samples", self.reader.state())

    def _merge_candidate(self, worker: MethodWorker, config: Mapping[str, Hyperparameter]) -> None:
        """Merge a configuration into the resident model; an update that is known is only scaled again."""
        key = reuse_key(config, self.description.linear_in)
        if self.cache.holds(key):
            assembly = self._assembly(config, self.bench.resident, None)
            self.cache.replay(assembly)
            assembly.finish()
            return
        self.bench.park()
        worker.prepare(config)
        self.cache.clear()
        cache = self.cache if self.description.linear_in else None
        worker.merge(config, self._assembly(config, self.bench.resident, cache))
        if cache:
            cache.seal(key)

    def _assembly(self, config: Mapping[str, Hyperparameter], sink: Sink, cache: UpdateCache | None) -> Assembly:
        return Assembly(
            base=self.bench.base_checkpoint,
            entries=self.plan.merged,
            sink=sink,
            coefficient=self.description.coefficient(config),
            cache=cache,
        )

    def _noted_merge(self) -> dict[str, Any] | None:
        note = self.folder.note(".", "merge")
        is_valid = note is not None and note["config"] == self.tuned.config and self.folder.weights.is_dir()
        return note if is_valid else None

    def _merge_winner(self, worker: MethodWorker) -> dict[str, Any]:
        """Prepare and merge the winner alone, without caches, timed, into its file.

        What a method that searches by itself spends on being scored meanwhile is validation runtime.
        """
        config = self.tuned.config
        self.bench.progress(f"{self.description.name} on {self.bench.base.name}: merging {config_text(config)}")
        writer = CheckpointWriter(self.bench.base_checkpoint, self.folder.weights)
        self.bench.park()
        try:
            before_s = self.services.validation_s
            started = time.perf_counter()
            worker.prepare(config, is_fresh=True)
            prepared, while_preparing_s = time.perf_counter(), self.services.validation_s - before_s
            worker.merge(config, self._assembly(config, writer, None))
            for entry in self.plan.left_out:
                writer.copy_from_base(entry)
            digest = writer.finish()
            merged, validation_s = time.perf_counter(), self.services.validation_s - before_s
        except BaseException:
            writer.abort()
            raise
        note = {
            "config": config,
            "weights_sha256": digest,
            "prepare_s": prepared - started - while_preparing_s,
            "merge_s": merged - prepared - (validation_s - while_preparing_s),
            "validation_s": validation_s,
            "validations": self.meter.used,
            "worker_peak_rss_bytes": worker.peak_rss_bytes(),
            "gpu_peak_bytes": worker.peak_gpu_bytes(),
        }
        self._note_samples()
        self.folder.write_note(".", "merge", note)
        return note

    def finish(self, status: Status, reason: str | None) -> RunRecord:
        """Write the record, index it, and return it."""
        bench, note = self.bench, self.merge_note
        record = RunRecord(
            job_id=self.folder.job_id,
            kind="merge",
            status=status,
            reason=reason,
            track=bench.track_part,
            base_model=bench.base.name,
            model=None,
            method=_method_part(self.method),
            seed=self.seed,
            config=note.get("config"),
            configurations=self.tuned.configurations or tuple(self.scored),
            input_sha256=bench.input_sha256,
            weights_sha256=note.get("weights_sha256"),
            left_out=tuple(entry.name for entry in self.plan.left_out),
            tasks=self.tasks,
            runtime=self._runtime_part(),
            meters=MeterPart(
                worker_peak_rss_bytes=note.get("worker_peak_rss_bytes"),
                gpu_peak_bytes=note.get("gpu_peak_bytes"),
                calibration_samples=self.reader.num_read(),
                validations=note.get("validations", self.meter.used),
            ),
            environment=environment(bench.num_threads, self.isolation),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self.folder.write_record(record)
        append_record(bench.home, record)
        return record

    def _runtime_part(self) -> RuntimePart:
        prepare_s, merge_s = self.merge_note.get("prepare_s"), self.merge_note.get("merge_s")
        return RuntimePart(
            prepare_s=prepare_s,
            merge_s=merge_s,
            algorithm_runtime_s=None if prepare_s is None or merge_s is None else prepare_s + merge_s,
            validation_runtime_s=sum(part.runtime_s for part in self.scored)
            + self.merge_note.get("validation_s", 0.0),
            evaluation_runtime_s=self.evaluation_runtime_s,
        )


def _method_part(method: CatalogMethod) -> MethodPart:
    description = method.description
    return MethodPart(
        name=description.name,
        title=description.title,
        paper_url=description.paper_url,
        version=description.version,
        plugin=description.plugin,
        source_sha256=method.source_sha256,
        needs=tuple(sorted(description.needs)),
        determinism=description.determinism,
        is_stochastic=description.is_stochastic,
    )


def _outcome(part: ConfigurationPart) -> str:
    score = validation_score(part)
    return f"{config_text(part.config)} -> {f'{100 * score:.1f}' if score is not None else 'failed'}"
