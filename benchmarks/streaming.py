"""Times streaming merges against the bound: reading all inputs and writing one output with the same chunks.

Run: make bench (builds a synthetic bf16 family in a temporary folder; SIZE=<million parameters>, ROUNDS=<n>).
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from mergebench_core.checkpoints.assembly import Assembly
from mergebench_core.checkpoints.checkpoint import Checkpoint, pieces
from mergebench_core.checkpoints.policy import merge_plan
from mergebench_core.checkpoints.writer import CheckpointWriter
from mergebench_core.worker.catalog import CatalogMethod, load_catalog
from mergebench_core.worker.host import Job, MethodWorker

DOMAINS = ("coding", "instruction", "math", "multilingual", "safety")
CONFIGS: dict[str, dict[str, bool | int | float | str]] = {
    "model_soup": {},
    "task_arithmetic": {"scaling_coefficient": 0.4},
    "ties": {"density": 0.2, "scaling_coefficient": 1.0},
}
HIDDEN = 1024


def write_family(folder: Path, num_million: int) -> None:
    """Write a base, N(0, 0.02), and five specialists, base + N(0, 1e-3): linear weights of HIDDEN x 4 HIDDEN."""
    layers = max(1, num_million * 1_000_000 // (4 * HIDDEN * HIDDEN))
    for number, name in enumerate(("base", *DOMAINS)):
        tensors = {}
        for layer in range(layers):
            base = torch.randn(4 * HIDDEN, HIDDEN, generator=torch.Generator().manual_seed(layer)) * 0.02
            noise = torch.randn(base.shape, generator=torch.Generator().manual_seed(1000 * number + layer))
            tensors[f"model.layers.{layer}.mlp.up_proj.weight"] = (base + 1e-3 * noise * (number > 0)).bfloat16()
        (folder / name).mkdir()
        save_file(tensors, folder / name / "model.safetensors")


def copy_bound(folder: Path) -> None:
    """Read all six models and write the base, chunk by chunk, without any arithmetic."""
    models = [Checkpoint(folder / name) for name in ("base", *DOMAINS)]
    writer = CheckpointWriter(models[0], folder / "out")
    for entry in models[0].entries.values():
        for piece in pieces(entry):
            values = [model.read(entry.name, piece.offset, piece.numel) for model in models]
            writer.write(entry.name, piece.offset, values[0])
    writer.finish()


def merge(folder: Path, method: CatalogMethod, worker: MethodWorker) -> None:
    """Prepare and merge one configuration into a file."""
    description, config = method.description, CONFIGS[method.description.name]
    base = Checkpoint(folder / "base")
    writer = CheckpointWriter(base, folder / "out")
    coefficient = float(config[description.linear_in]) if description.linear_in else 1.0
    entries = merge_plan(base, description.base_roles).merged
    worker.prepare(config, is_fresh=True)
    worker.merge(config, Assembly(base=base, entries=entries, sink=writer, coefficient=coefficient))
    writer.finish()


def timed(action: Callable[[], None]) -> tuple[float, float]:
    """Return wall seconds, and CPU seconds of this process (the worker's come on top)."""
    started, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - started, time.process_time() - cpu


def main() -> None:
    """Print one table; rounds are interleaved because machines drift."""
    num_million, rounds = int(os.environ.get("SIZE", "100")), int(os.environ.get("ROUNDS", "3"))
    torch.set_num_threads(1)
    catalog = load_catalog()
    with tempfile.TemporaryDirectory(prefix="mergebench-bench-") as name:
        folder = Path(name)
        maker = multiprocessing.get_context("spawn").Process(target=write_family, args=(folder, num_million))
        maker.start()  # apart, so that its memory does not count
        maker.join()
        seconds: dict[str, list[float]] = {"read and write": [], **{method: [] for method in CONFIGS}}
        peaks: dict[str, int | None] = {}
        for _ in range(rounds + 1):
            seconds["read and write"].append(timed(lambda: copy_bound(folder))[0])
            for method in CONFIGS:
                with MethodWorker(num_threads=1, log_file=folder / "worker.log") as worker:
                    worker.load([catalog[method].source])
                    specialists = {domain: folder / domain for domain in DOMAINS}
                    worker.open(
                        Job(method=method, base=folder / "base", specialists=specialists, seed=0, num_threads=1)
                    )
                    seconds[method].append(timed(lambda m=method, w=worker: merge(folder, catalog[m], w))[0])
                    peaks[method] = worker.peak_rss_bytes()
    bound = sorted(seconds["read and write"][1:])[rounds // 2]
    print(f"{num_million} million parameters, bf16, five specialists, one thread, median of {rounds} rounds")
    print("| job | wall s | relative to reading and writing | worker peak MiB |\n|---|---|---|---|")
    for job, values in seconds.items():
        median = sorted(values[1:])[rounds // 2]
        peak = peaks.get(job)
        print(f"| {job} | {median:.2f} | {median / bound:.2f} | {'-' if peak is None else peak >> 20} |")
    print(f"host peak MiB: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}")


if __name__ == "__main__":
    main()
