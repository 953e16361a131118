"""A worker with its host's services, and one merge through it from checkpoints to a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from checkpoint_samples import DOMAINS, SampleModels

from mergebench_core.calibration import CalibrationReader
from mergebench_core.checkpoints.assembly import Assembly, Sink
from mergebench_core.checkpoints.checkpoint import CHUNK_NUMEL
from mergebench_core.checkpoints.policy import merge_plan
from mergebench_core.checkpoints.writer import CheckpointWriter
from mergebench_core.errors import BudgetError, PluginError
from mergebench_core.plugins import PluginSource
from mergebench_core.worker.description import MethodDescription
from mergebench_core.worker.host import Job, MethodWorker


class DictSink:
    """Keeps pieces as they come."""

    def __init__(self) -> None:
        self.values: dict[str, list] = {}

    def write(self, name: str, offset: int, values) -> None:
        self.values.setdefault(name, []).append(values)


@dataclass
class SampleServices:
    """Answers a worker: a track's or 100 made-up samples per domain, scores made from the candidate."""

    models: SampleModels | None = None
    logged: list[str] = field(default_factory=list)
    asked: list[tuple] = field(default_factory=list)
    candidates: list[DictSink] = field(default_factory=list)
    budget: int = 1000
    reader: CalibrationReader | None = None

    def samples(self, domain: str, start: int, count: int) -> list[dict[str, str]]:
        self.asked.append((domain, start, count))
        if start + count > self.budget:
            raise BudgetError("no more samples")
        if self.reader:
            return self.reader.samples(domain, start, count)
        return [{"prompt": f"{domain} {i}", "completion": ""} for i in range(start, min(start + count, 100))]

    def candidate(self, domains: list[str] | None) -> Assembly:
        if "safety" in (domains or ()):
            raise PluginError("there is no domain safety")
        self.asked.append(tuple(domains or DOMAINS))
        self.candidates.append(DictSink())
        return assembly_for(self.models, frozenset({"embedding", "head"}), self.candidates[-1], None)

    def validate(self) -> dict[str, float]:
        (norm,) = self.candidates[-1].values["model.norm.weight"]
        return {domain: round(float(norm.float().sum()), 3) for domain in self.asked[-1]}

    def log(self, message: str) -> None:
        self.logged.append(message)


class Bench:
    """A running worker with its loaded methods."""

    def __init__(self, worker: MethodWorker, sources: list[PluginSource], log_file: Path) -> None:
        self.worker = worker
        self.log_file = log_file
        self.methods: dict[str, MethodDescription] = {found.name: found for found in worker.load(sources)}

    @classmethod
    @contextmanager
    def started(cls, folder: Path, sources: list[PluginSource], services: SampleServices | None = None):
        """Start a worker that loads the plugins, and end it with the block; unconfined, to open any models."""
        log_file = folder / "worker.log"
        with MethodWorker(num_threads=1, log_file=log_file, services=services, ceiling=0) as worker:
            yield cls(worker, sources, log_file)

    def open(
        self, models: SampleModels, method: str, *, seed=0, num_threads=1, chunk_numel=CHUNK_NUMEL, domains=None
    ):
        """Open the worker on models, its domains in the order given."""
        specialists = {domain: models.specialists[domain].path for domain in domains or models.specialists}
        self.worker.open(
            Job(
                method=method,
                base=models.base.path,
                specialists=specialists,
                seed=seed,
                num_threads=num_threads,
                chunk_numel=chunk_numel,
            )
        )

    def assembly(self, models: SampleModels, method: str, config: Mapping, sink: Sink) -> Assembly:
        """Return what the runner would make for this configuration."""
        found = self.methods[method]
        coefficient = float(config[found.linear_in]) if found.linear_in else 1.0
        return assembly_for(models, found.base_roles, sink, None if found.gives_final_values else coefficient)

    def merge(self, models: SampleModels, method: str, config: Mapping, target: Path, **settings) -> str:
        """Open, prepare and merge into a checkpoint; return its digest."""
        self.open(models, method, **settings)
        self.worker.prepare(config)
        return self.write(models, method, config, target)

    def write(self, models: SampleModels, method: str, config: Mapping, target: Path) -> str:
        """Merge what was prepared into a checkpoint; return its digest."""
        writer = CheckpointWriter(models.base, target)
        try:
            self.worker.merge(config, self.assembly(models, method, config, writer))
            for entry in merge_plan(models.base, self.methods[method].base_roles).left_out:
                writer.copy_from_base(entry)
            return writer.finish()
        finally:
            writer.abort()


def assembly_for(models: SampleModels | None, base_roles, sink: Sink, coefficient: float | None) -> Assembly:
    """Return an assembly of everything that the policy merges."""
    assert models is not None
    entries = merge_plan(models.base, base_roles).merged
    return Assembly(base=models.base, entries=entries, sink=sink, coefficient=coefficient)
