"""How far the default methods are from their released variants, in weights, on bf16 copies of mini-v1's models.

    python benchmarks/fidelity.py

Prints the table of docs/fidelity.md. Both sides of a row have the same hyper-parameters.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from mergebench_core.checkpoints.checkpoint import SINGLE, Checkpoint
from mergebench_core.hyperparameters import resolve_config
from mergebench_core.methods import MergingMethod, overrides
from mergebench_core.plugins import installed_sources, load_methods
from mergebench_core.tracks.registry import load_track
from mergebench_core.worker.chunks import Models, walk
from mergebench_core.worker.context import WorkerContext

HEAD = (
    "| method | settings | entries that differ | largest difference | cosine of updates | norm, released / ours |"
)
ROWS = [
    ("task_arithmetic", {"scaling_coefficient": 0.4}, {}),
    ("ties", {"density": 0.2, "scaling_coefficient": 0.4}, {"aggregation": "mean"}),
    ("ties", {"density": 0.2, "scaling_coefficient": 0.4}, {"aggregation": "sum"}),
    ("consensus_ta", {"scaling_coefficient": 0.4}, {}),
    ("dataless_localize_and_stitch", {"density": 0.1}, {}),
    ("dataless_localize_and_stitch", {"density": 0.3}, {}),
]
"""Method, hyper-parameters of both, and those of the released variant alone."""


def bf16_copy(path: Path, target: Path) -> Checkpoint:
    """Write a checkpoint's tensors in bf16, as released models are stored."""
    source = Checkpoint(path)
    target.mkdir(parents=True)
    save_file({name: source.tensor(name).bfloat16() for name in source.names}, target / SINGLE)
    return Checkpoint(target)


def merged(method: MergingMethod, models: Models, config: Mapping, folder: Path) -> torch.Tensor:
    """Return all values that both sides write, flat, as fp32."""
    context = WorkerContext(method, models, None, folder, 1 << 20)
    whole = resolve_config(method.parameters, config, list(models.specialists), method.info.name)
    prepared = method.prepare(context, {name: whole[name] for name in method.prepare_uses})
    values = []
    for chunk in walk(models, context.plan.merged, "elementwise"):
        if chunk.role == "head":
            continue
        if overrides(method, "merge_tensor"):
            value = method.merge_tensor(chunk, whole, prepared)
        else:
            coefficient = whole[method.linear_in] if method.linear_in else 1.0
            value = (chunk.base + coefficient * method.update(chunk, whole, prepared)).to(chunk.dtype)
        values.append(value.float())
    return torch.cat(values)


def compare(methods: Mapping, models: Models, row: tuple, folder: Path) -> str:
    """Return one line of the table; the released Consensus TA has a fixed lambda, which ours is given too."""
    name, config, extra = row
    lambdas = {f"lambda_{domain}": 0.2 for domain in models.specialists} if name == "consensus_ta" else {}
    ours = merged(methods[name].method, models, config | lambdas, folder)
    theirs = merged(methods[f"{name}_mergebench_compat"].method, models, config | extra, folder)
    entries = WorkerContext(methods[name].method, models, None, folder, 1 << 20).plan.merged
    base = torch.cat([chunk.base for chunk in walk(models, entries, "elementwise")])
    left, right = (ours - base).double(), (theirs - base).double()
    settings = ", ".join(f"{key} {value}" for key, value in (config | extra).items())
    numbers = (
        f"{float((ours != theirs).double().mean()):.1%}",
        f"{float((ours - theirs).abs().max()):.4f}",
        f"{float(left @ right / (left.norm() * right.norm())):.4f}",
        f"{float(right.norm() / left.norm()):.3f}",
    )
    return f"| {name} | {settings} | {' | '.join(numbers)} |"


def main() -> None:
    methods, track = load_methods(installed_sources()), load_track("mini-v1")
    for name in track.bases:
        print(f"\n{name}\n\n{HEAD}\n|---|---|---|---|---|---|")
        folders = track.base(name)
        with tempfile.TemporaryDirectory() as folder:
            models = Models(
                base=bf16_copy(folders.path, Path(folder) / "base"),
                specialists={
                    domain: bf16_copy(path, Path(folder) / domain) for domain, path in folders.specialists.items()
                },
                seed=0,
            )
            for row in ROWS:
                print(compare(methods, models, row, Path(folder)), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
