"""Updates of a method on made-up task vectors, through a real worker: the base is zero, so merged is update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from checkpoint_samples import write_models

from mergebench_core.checkpoints.checkpoint import Checkpoint

WEIGHT = "model.layers.0.mlp.up_proj.weight"
SHAPES = {
    "model.layers.0.mlp.up_proj.weight": (6, 8),
    "model.layers.0.mlp.up_proj.bias": (6,),
    "model.layers.1.mlp.experts.0.up_proj.weight": (3, 4, 5),
    "model.layers.2.mlp.down_proj.weight": (8, 6),
    "model.norm.weight": (8,),
}
Values = Mapping[str, np.ndarray]


def domain(number: int) -> str:
    """Return the name of the domain of the specialist with this number."""
    return f"domain{number}"


def random_values(seed: int, shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> dict[str, np.ndarray]:
    """Return fp32 values of about 1, of both signs and widely different magnitudes."""
    generator = np.random.default_rng(seed)
    return {
        name: (generator.normal(size=shape) * 2 ** generator.normal(size=shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def merged_values(
    bench, folder: Path, method: str, config: Mapping, base: Values, specialists: Sequence[Values], **settings
) -> dict[str, np.ndarray]:
    """Merge fp32 specialists and return what comes out."""
    models = write_models(
        folder,
        {name: torch.from_numpy(values) for name, values in base.items()},
        {
            domain(number): {name: torch.from_numpy(values) for name, values in specialist.items()}
            for number, specialist in enumerate(specialists)
        },
    )
    bench.merge(models, method, config, folder / "out", **settings)
    merged = Checkpoint(folder / "out")
    return {name: merged.tensor(name).numpy() for name in base}


def updates(bench, folder: Path, method: str, config: Mapping, vectors: Sequence[Values], **settings) -> Values:
    """Return the update of fp32 task vectors, by tensor; a coefficient in `config` multiplies it."""
    zeros = {name: np.zeros_like(values) for name, values in vectors[0].items()}
    return merged_values(bench, folder, method, config, zeros, vectors, **settings)


def row_update(bench, folder: Path, method: str, config: Mapping, rows: Sequence[Sequence[float]]) -> list[float]:
    """Return the update of task vectors that have one row in one tensor."""
    vectors = [{WEIGHT: np.array([row], np.float32)} for row in rows]
    return updates(bench, folder, method, config, vectors)[WEIGHT][0].tolist()
