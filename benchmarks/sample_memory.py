"""Peak memory of the methods that read calibration samples, on a synthetic Llama with a real tokenizer.

    python benchmarks/sample_memory.py [SIZE] [NUM_SAMPLES] [METHOD ...]

SIZE is a name of family.py, by default `small`. The samples are those of mini-v1; their number moves the time, and
the memory of regmean_plus_plus, which keeps every token's hidden state, but of no other method.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
import time
from pathlib import Path

from family import DOMAINS, SHAPES, write_family

from mergebench_core.calibration import CalibrationReader
from mergebench_core.checkpoints.assembly import Assembly
from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.policy import merge_plan
from mergebench_core.checkpoints.writer import CheckpointWriter
from mergebench_core.hyperparameters import resolve_config
from mergebench_core.tracks.registry import load_track
from mergebench_core.worker.catalog import load_catalog, open_method
from mergebench_core.worker.host import MethodWorker, NoServices

METHODS = ("task_arithmetic", "fisher", "regmean", "regmean_plus_plus", "localize_and_stitch")
"""The first reads no samples: what a worker takes anyway."""


class TrackSamples(NoServices):
    """Gives the samples of mini-v1 and nothing else."""

    def __init__(self) -> None:
        self._reader = CalibrationReader(load_track("mini-v1"))

    def samples(self, domain: str, start: int, count: int) -> list[dict[str, str]]:
        return self._reader.samples(domain, start, count)


def merge(name: str, family: Path, num_samples: int) -> tuple[float, int]:
    """Prepare and merge; return seconds and the worker's peak RSS in bytes."""
    method = load_catalog()[name]
    given = {"num_calibration_samples": num_samples} if "calibration" in method.description.needs else {}
    config = resolve_config(method.description.parameters, given, DOMAINS, name)
    base = Checkpoint(family / "base")
    specialists = {domain: family / domain for domain in DOMAINS}
    with (
        tempfile.TemporaryDirectory(dir=family) as scratch,
        MethodWorker(
            num_threads=1,
            log_file=Path(scratch) / "log",
            folder=Path(scratch) / "work",
            services=TrackSamples(),
        ) as worker,
    ):
        open_method(worker, method, base=family / "base", specialists=specialists, seed=0, num_threads=1)
        started = time.perf_counter()
        worker.prepare(config)
        writer = CheckpointWriter(base, Path(scratch) / "merged")
        entries = merge_plan(base, method.description.base_roles).merged
        coefficient = method.description.coefficient(config)
        worker.merge(config, Assembly(base=base, entries=entries, sink=writer, coefficient=coefficient))
        writer.abort()
        return time.perf_counter() - started, worker.peak_rss_bytes() or 0


def main() -> None:
    size = sys.argv[1] if len(sys.argv) > 1 else "small"
    num_samples = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    tokenizer = next(iter(load_track("mini-v1").bases.values())).path
    numel = sum(math.prod(shape) for _, shape in SHAPES[size].tensors())
    with tempfile.TemporaryDirectory(prefix="mergebench-bench-") as folder:
        family = Path(folder) / size
        write_family(SHAPES[size], family)
        for model in ("base", *DOMAINS):
            for file in tokenizer.glob("tokenizer*"):
                shutil.copyfile(file, family / model / file.name)
        print(f"{numel / 1e9:.2f} billion parameters, {num_samples} samples per domain\n")
        print("| method | s | worker's peak GiB | above task_arithmetic, bytes per parameter |\n|---|---|---|---|")
        floor = 0
        for name in (METHODS[0], *(sys.argv[3:] or METHODS[1:])):
            seconds, peak = merge(name, family, num_samples)
            floor = floor or peak
            print(f"| {name} | {seconds:.0f} | {peak / 2**30:.2f} | {(peak - floor) / numel:.1f} |", flush=True)


if __name__ == "__main__":
    main()
