"""One timed merge in a process of its own; prints seconds without interpreter start-up as JSON.

python benchmarks/merge_job.py (bound | bound_flushed_early | METHOD) FAMILY NUM_THREADS
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import torch
from family import DOMAINS

from mergebench_core.checkpoints.assembly import Assembly
from mergebench_core.checkpoints.checkpoint import Checkpoint, Piece, pieces
from mergebench_core.checkpoints.digest import tensor_bytes
from mergebench_core.checkpoints.header import ITEM_BYTES
from mergebench_core.checkpoints.policy import merge_plan
from mergebench_core.checkpoints.threads import map_in_order
from mergebench_core.checkpoints.writer import CheckpointWriter
from mergebench_core.hyperparameters import resolve_config
from mergebench_core.worker.catalog import load_catalog, open_method
from mergebench_core.worker.host import MethodWorker

CONFIGS: dict[str, dict[str, float]] = {
    "ties": {"density": 0.2, "scaling_coefficient": 1.0},
    "dare": {"density": 0.1},
    "dataless_localize_and_stitch": {"density": 0.1},
    "breadcrumbs": {"density": 0.9},
}
"""Settings other than the defaults."""
PIECES_PER_FLUSH = 32
"""64 MiB in bf16."""


def copy_bound(folder: Path, out: Path, num_threads: int, *, is_flushed_early: bool) -> None:
    """Read all six models and write the base, chunk by chunk: no arithmetic, no digest.

    `is_flushed_early`: the disk takes what was written meanwhile, as in our writer, and not only at the end.
    """
    models = [Checkpoint(folder / name) for name in ("base", *DOMAINS)]
    out.mkdir()
    files = {
        name: (os.open(out / shard, os.O_WRONLY | os.O_CREAT, 0o644), entry)
        for shard, header in models[0].headers.items()
        for name, entry in header.entries.items()
    }

    def copied(piece: Piece) -> None:
        name, offset, numel = piece.entry.name, piece.offset, piece.numel
        values = [model.read(name, offset, numel) for model in models]
        descriptor, entry = files[name]
        os.pwrite(descriptor, tensor_bytes(values[0]), entry.start + offset * ITEM_BYTES[entry.dtype])

    every = (piece for entry in models[0].entries.values() for piece in pieces(entry))
    with ThreadPoolExecutor(1) as flushing:
        for number, _ in enumerate(map_in_order(copied, every, num_threads)):
            if is_flushed_early and number % PIECES_PER_FLUSH == 0:
                for descriptor in {descriptor for descriptor, _ in files.values()}:
                    flushing.submit(os.fsync, descriptor)
    for descriptor in {descriptor for descriptor, _ in files.values()}:
        os.fsync(descriptor)


def merge(name: str, folder: Path, out: Path, num_threads: int) -> tuple[float, float]:
    """Prepare and merge one configuration into a file; return wall and CPU seconds of host and worker."""
    method = load_catalog()[name]
    config = resolve_config(method.description.parameters, CONFIGS.get(name, {}), DOMAINS, name)
    base = Checkpoint(folder / "base")
    plan = merge_plan(base, method.description.base_roles)
    specialists = {domain: folder / domain for domain in DOMAINS}
    models = [folder / "base", *specialists.values()]
    with MethodWorker(
        num_threads=num_threads, log_file=out.with_suffix(".log"), sources=method.sources, models=models
    ) as worker:
        open_method(worker, method, base=folder / "base", specialists=specialists, seed=0, num_threads=num_threads)

        def run() -> None:
            writer = CheckpointWriter(base, out)
            worker.prepare(config, is_fresh=True)
            coefficient = method.description.coefficient(config)
            worker.merge(config, Assembly(base=base, entries=plan.merged, sink=writer, coefficient=coefficient))
            for entry in plan.left_out:
                writer.copy_from_base(entry)
            writer.finish()

        before = _children_cpu_s()
        wall, cpu = timed(run)
        return wall, cpu + _children_cpu_s() - before


def timed(action: Callable[[], None]) -> tuple[float, float]:
    """Return wall seconds, and CPU seconds of this process."""
    started, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - started, time.process_time() - cpu


def _children_cpu_s() -> float:
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(found.user + found.system for found in times)


def main() -> None:
    name, folder, num_threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=folder, prefix="out-") as scratch:
        out = Path(scratch) / "merged"
        if name.startswith("bound"):
            is_early = name == "bound_flushed_early"
            wall, cpu = timed(lambda: copy_bound(folder, out, num_threads, is_flushed_early=is_early))
        else:
            wall, cpu = merge(name, folder, out, num_threads)
    print(json.dumps({"wall_s": wall, "cpu_s": cpu}))


if __name__ == "__main__":
    main()
