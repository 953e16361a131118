"""What a run's worker may ask for, within what the method declared and the track allows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mergebench_core.calibration import CalibrationReader
from mergebench_core.checkpoints.assembly import Assembly
from mergebench_core.checkpoints.policy import MergePlan
from mergebench_core.errors import EngineError, MergebenchError, PluginError
from mergebench_core.tuning import ValidationMeter
from mergebench_core.workbench import Workbench
from mergebench_core.worker.description import MethodDescription


@dataclass(kw_only=True)
class RunServices:
    """Answers a worker's requests and meters them."""

    bench: Workbench
    description: MethodDescription
    plan: MergePlan
    reader: CalibrationReader
    meter: ValidationMeter
    domains: tuple[str, ...] = ()
    """Where the candidate handed over last is to be validated."""
    validation_s: float = 0.0
    """Time spent on scoring candidates so far."""

    def samples(self, domain: str, start: int, count: int) -> list[dict[str, str]]:
        """Return calibration samples; see `CalibrationReader.samples`."""
        self._require("calibration")
        return self.reader.samples(domain, start, count)

    def candidate(self, domains: list[str] | None) -> Assembly:
        """Take a candidate's final tensors into the resident model; see `Context.validate`."""
        self._require("validation")
        known = self.bench.track.domains
        if domains is not None and (not domains or set(domains) - set(known)):
            raise PluginError(f"validate names domains {domains}; the track has {', '.join(known)}")
        self.domains = tuple(domain for domain in known if domains is None or domain in domains)
        self.meter.charge(self.domains)
        base = self.bench.base_checkpoint
        with self._validation_time(), _no_fault_of_the_method():  # the first use loads the resident model
            resident = self.bench.resident
            self.bench.park()
            for entry in self.plan.left_out:
                resident.copy(base, entry)
        return Assembly(base=base, entries=self.plan.merged, sink=resident, coefficient=None)

    def validate(self) -> dict[str, float]:
        """Score that candidate: mean per domain, three decimals. The method then has the accelerator again."""
        with self._validation_time(), _no_fault_of_the_method():
            try:
                scores = self.bench.surrogate_scores(self.domains)
            finally:
                self.bench.park()
        return {domain: round(score, 3) for domain, score in scores.items()}

    def log(self, message: str) -> None:
        """Show the message with the method's name."""
        self.bench.progress(f"{self.description.name}: {' '.join(message.split())}")

    @contextmanager
    def _validation_time(self) -> Iterator[None]:
        """Count the time of the block as validation, which is not the method's own."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.validation_s += time.perf_counter() - started

    def _require(self, need: str) -> None:
        if need not in self.description.needs:
            raise PluginError(f"method '{self.description.name}' does not declare needs={{'{need}'}}")


@contextmanager
def _no_fault_of_the_method() -> Iterator[None]:
    """Turn what fails inside the block, where only engine and judge are at work, into an EngineError."""
    try:
        yield
    except MergebenchError as error:
        raise EngineError(str(error)) from None
