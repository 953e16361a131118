"""A worker's session in this process: a method on models, with samples given and what it sends kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from checkpoint_samples import SampleModels

from mergebench_core.checkpoints.checkpoint import CHUNK_NUMEL
from mergebench_core.methods import MergingMethod
from mergebench_core.worker.serve import Session

Rows = Mapping[str, list[dict[str, str]]]


class LocalStream:
    """Answers from `rows` by domain and keeps what is sent."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.asked: list[tuple[str, int, int]] = []
        self.sent: dict[str, torch.Tensor] = {}

    def ask(self, request):
        if request["ask"] == "samples":
            domain, start, count = request["domain"], request["start"], request["count"]
            self.asked.append((domain, start, count))
            return self.rows[domain][start : start + count]
        return None

    def reserve(self):
        return None

    def release(self) -> None:
        pass

    def send_piece(self, name: str, offset: int, values: torch.Tensor) -> None:
        self.sent[name] = torch.cat([self.sent.get(name, values[:0]), values])

    def send_tensors(self, tensors, base) -> None:
        self.sent.update({name: value.reshape(-1).float() for name, value in tensors})


class LocalSession:
    """Prepares and merges; `context` is the method's."""

    def __init__(self, method: MergingMethod, models: SampleModels, folder: Path, rows: Rows, seed=0) -> None:
        self.stream = LocalStream(rows)
        self._models = models
        request = {
            "num_threads": 1,
            "work_folder": str(folder),
            "base": str(models.base.path),
            "specialists": {domain: str(model.path) for domain, model in models.specialists.items()},
            "seed": seed,
            "chunk_numel": CHUNK_NUMEL,
        }
        self._method = method
        self._session = Session(method, request, self.stream)
        self.context = self._session._context

    def config(self, **given) -> dict:
        """Return the whole configuration."""
        return {name: parameter.default for name, parameter in self._method.parameters.items()} | given

    def updates(self, **given) -> dict[str, torch.Tensor]:
        """Return, by tensor, what is added to the base, in the tensor's shape."""
        config = self.config(**given)
        self.stream.sent.clear()
        self._session.prepare(config, is_fresh=False)
        self._session.merge(config, num_done=0)
        base = {name: self._models.base.tensor(name).float() for name in self.stream.sent}
        is_final = self._method.info.depth == "model"
        return {
            name: values.view(base[name].shape) - (base[name] if is_final else 0.0)
            for name, values in self.stream.sent.items()
        }


def task_vector(models: SampleModels, domain: str, name: str) -> torch.Tensor:
    """Return fp32 specialist minus base."""
    return models.specialists[domain].tensor(name).float() - models.base.tensor(name).float()
