"""The context a method is handed in the worker: its only door to models, samples and scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mergebench_core.checkpoints.policy import merge_plan
from mergebench_core.errors import PluginError
from mergebench_core.methods import Depth, LazyModel, MergingMethod, PerDomain, TensorChunk
from mergebench_core.worker.chunks import Models, walk
from mergebench_core.worker.random import key_of
from mergebench_core.worker.stream import Stream

if TYPE_CHECKING:
    import torch

SAMPLES_PER_MESSAGE = 50


class WorkerContext:
    """The `Context` of one run."""

    def __init__(
        self, method: MergingMethod, models: Models, stream: Stream, work_folder: Path, chunk_numel: int
    ) -> None:
        self._method = method
        self._models = models
        self._stream = stream
        self._chunk_numel = chunk_numel
        self.work_folder = work_folder
        self.plan = merge_plan(models.base, method.info.base_roles)

    @property
    def base(self) -> LazyModel:
        return self._models.base

    @property
    def specialists(self) -> PerDomain[LazyModel]:
        return PerDomain(self._models.specialists)

    @property
    def seed(self) -> int:
        return self._models.seed

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def generator(self, *key: str) -> torch.Generator:
        import torch

        return torch.Generator().manual_seed(key_of(self.seed, *key) % 2**63)

    @property
    def merged_names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.plan.merged)

    def chunks(self, names: Iterable[str] | None = None, depth: Depth = "elementwise") -> Iterator[TensorChunk]:
        wanted = None if names is None else set(names)
        entries = tuple(entry for entry in self.plan.merged if wanted is None or entry.name in wanted)
        yield from walk(self._models, entries, depth, self._chunk_numel)

    def calibration(self, domain: str, num_samples: int) -> Iterator[Mapping[str, str]]:
        self._require("calibration", "reads calibration samples")
        return self._samples(domain, num_samples)

    def _samples(self, domain: str, num_samples: int) -> Iterator[Mapping[str, str]]:
        start = 0
        while start < num_samples:
            count = min(SAMPLES_PER_MESSAGE, num_samples - start)
            rows = self._stream.ask({"ask": "samples", "domain": domain, "start": start, "count": count})
            yield from rows
            if not rows:
                return
            start += len(rows)  # the host sends fewer where long ones fill a message

    def validate(
        self, tensors: Iterable[tuple[str, torch.Tensor]], domains: Iterable[str] | None
    ) -> Mapping[str, float]:
        self._require("validation", "asks for validation scores")
        wanted = None if domains is None else sorted(domains)
        self._stream.ask({"ask": "candidate", "domains": wanted})
        self._stream.send_tensors(tensors, self._models.base)
        scores: Mapping[str, float] = self._stream.ask({"ask": "validate"})
        return scores

    def log(self, message: str) -> None:
        self._stream.ask({"ask": "log", "message": str(message)[:2000]})

    def _require(self, need: str, what: str) -> None:
        if need not in self._method.info.needs:
            raise PluginError(
                f"method '{self._method.info.name}' {what} without declaring it; "
                f'add needs={{"{need}"}} to its MethodInfo'
            )
