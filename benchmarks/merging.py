"""Times merges beside the bound, reading all inputs and writing one output, and beside mergekit, in one run.

    make bench                # 0.22 billion parameters
    BENCH=large make bench    # 1.24 billion, the shape of Llama-3.2-1B: 18 GB of disk

Every job is a process of its own; rounds are interleaved, because machines drift. ROUNDS, THREADS and SKIP (jobs
that are left out, with commas) change it; FAMILY names a folder that keeps the models for another run.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from family import DOMAINS, SHAPES

HERE = Path(__file__).parent
METHODS = (
    "task_arithmetic", "ties", "dare", "consensus_ta", "dataless_localize_and_stitch", "breadcrumbs", "tsv_merge",
)  # fmt: skip
SETTINGS = {"task_arithmetic": ["scaling_coefficient=0.4"], "ties": ["density=0.2", "scaling_coefficient=1.0"]}
"""Of the commands that are compared with mergekit."""
TURNS = {"first": 'rm -rf "$0"; exec "$@"', "again": 'rm -rf "$0/out"; exec "$@"'}
"""What is removed before a merge: the first of some models digests them, later ones know the digests."""
ONCE = ("tsv_merge",)
"""Takes minutes; a single round tells enough."""
POLL_S = 0.05


@dataclass(kw_only=True)
class Measured:
    """What one job took, round by round."""

    wall_s: list[float] = field(default_factory=list)
    """Without start-up, where the job tells."""
    cpu_s: list[float] = field(default_factory=list)
    process_wall_s: list[float] = field(default_factory=list)
    process_cpu_s: list[float] = field(default_factory=list)
    peak_rss_bytes: list[int] = field(default_factory=list)
    """Peak resident memory of the largest process, mapped files included."""
    peak_pss_bytes: list[int] = field(default_factory=list)
    """Peak over time of all processes together, what they share counted once."""

    def add(self, command: list[str]) -> None:
        """Run the job once."""
        started = time.perf_counter()
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(command, stdout=output, stderr=log)
            rss, pss = watch(process.pid)
            process.wait()
            self.process_wall_s.append(time.perf_counter() - started)
            output.seek(0), log.seek(0)
            told = output.read()
            if process.returncode:
                sys.exit(f"{' '.join(command)} failed:\n{log.read()}")
        self.process_cpu_s.append(CPU.spent())
        self.peak_rss_bytes.append(rss)
        self.peak_pss_bytes.append(pss)
        if told.startswith("{"):
            seconds = json.loads(told)
            self.wall_s.append(seconds["wall_s"])
            self.cpu_s.append(seconds["cpu_s"])


class ChildrenCpu:
    """CPU seconds of children that have ended, theirs included, since last asked."""

    def __init__(self) -> None:
        self._before = 0.0

    def spent(self) -> float:
        times = os.times()
        total = times.children_user + times.children_system
        spent, self._before = total - self._before, total
        return spent


CPU = ChildrenCpu()


def watch(pid: int) -> tuple[int, int]:
    """Wait for a process to end; return the peak RSS of its largest process, and the peak PSS of all together."""
    peak_rss = peak_pss = 0
    root = psutil.Process(pid)
    while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
        alive = [root]
        with contextlib.suppress(psutil.NoSuchProcess):
            alive += root.children(recursive=True)
        peak_rss = max([peak_rss, *(kilobytes(process.pid, "status", "VmHWM") for process in alive)])
        peak_pss = max(peak_pss, sum(kilobytes(process.pid, "smaps_rollup", "Pss:") for process in alive))
        time.sleep(POLL_S)
    return peak_rss * 1024, peak_pss * 1024


def kilobytes(pid: int, file: str, field: str) -> int:
    """Return a field of a file in /proc/<pid>; 0 if the process has gone."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def commands(family: Path, scratch: Path, num_threads: int) -> dict[str, list[str]]:
    """Return every job's command line by name."""
    job = [sys.executable, str(HERE / "merge_job.py")]
    found = {
        name: [*job, name, str(family), str(num_threads)] for name in ("bound", "bound_flushed_early", *METHODS)
    }
    program = str(Path(sys.executable).with_name("mergebench"))
    for method, settings in SETTINGS.items():
        models = [word for domain in DOMAINS for word in ("--specialist", f"{domain}={family / domain}")]
        chosen = [word for setting in settings for word in ("--set", setting)]
        home = scratch / method
        merging = [
            "env", f"MERGEBENCH_HOME={home / 'home'}", program, "merge", method, "--base", str(family / "base"),
            *models, *chosen, "--threads", str(num_threads), "--out", str(home / "out"),
        ]  # fmt: skip
        for turn, script in TURNS.items():
            found[f"mergebench merge {method} ({turn})"] = ["sh", "-c", script, str(home), *merging]
    mergekit = os.environ.get("MERGEKIT_PYTHON", str(HERE.parent / ".venv-mergekit/bin/python"))
    for method in SETTINGS:
        found[f"mergekit {method}"] = [mergekit, str(HERE / "mergekit_job.py"), method, str(family)]
    skipped = [name.strip() for name in os.environ.get("SKIP", "").split(",")]
    return {name: command for name, command in found.items() if name not in skipped}


def row(name: str, measured: Measured, bound: float) -> str:
    """Return a job's line of the table."""

    def shown(values: list[float]) -> str:
        return f"{statistics.median(values):.2f}" if values else "-"

    ratio = f"{statistics.median(measured.wall_s) / bound:.2f}" if measured.wall_s else "-"
    peaks = [f"{max(peak) / 2**30:.2f}" for peak in (measured.peak_rss_bytes, measured.peak_pss_bytes)]
    cells = [shown(measured.wall_s), shown(measured.cpu_s), ratio, *peaks]
    return f"| {' | '.join([name, *cells, shown(measured.process_wall_s), shown(measured.process_cpu_s)])} |"


def report(results: dict[str, Measured], title: str) -> None:
    """Print the table, then how many times slower mergekit is."""
    bound = statistics.median(results["bound"].wall_s)
    print(f"\n{title}\n")
    print("| job | s | CPU s | times the bound | largest process GiB | all GiB | whole s | whole CPU s |")
    print("|---|---|---|---|---|---|---|---|")
    for name, measured in results.items():
        print(row(name, measured, bound))
    for method in SETTINGS:
        theirs = results.get(f"mergekit {method}")
        for turn in TURNS:
            ours = results.get(f"mergebench merge {method} ({turn})")
            if ours and theirs:
                wall = statistics.median(theirs.process_wall_s) / statistics.median(ours.process_wall_s)
                cpu = statistics.median(theirs.process_cpu_s) / statistics.median(ours.process_cpu_s)
                print(
                    f"\n{method} ({turn}), start-up included: mergekit takes {wall:.1f} times the time, "
                    f"{cpu:.1f} times the CPU"
                )


def main() -> None:
    """Build the family, run all jobs round by round, print the table."""
    size, num_rounds = os.environ.get("BENCH", "small"), int(os.environ.get("ROUNDS", "3"))
    num_threads = int(os.environ.get("THREADS", str(os.cpu_count() or 1)))
    with tempfile.TemporaryDirectory(prefix="mergebench-bench-") as temporary:
        family = Path(os.environ.get("FAMILY", temporary)) / size
        if not family.is_dir():
            print(f"writing the models to {family}", flush=True)
            subprocess.run([sys.executable, str(HERE / "family.py"), size, str(family)], check=True)
        jobs = commands(family, Path(temporary), num_threads)
        results = {name: Measured() for name in jobs}
        CPU.spent()
        for number in range(num_rounds):
            for name, command in jobs.items():
                if number and name in ONCE:
                    continue
                print(f"round {number + 1}: {name}", flush=True)
                results[name].add(command)
        numel = sum(math.prod(shape) for _, shape in SHAPES[size].tensors()) / 1e9
        title = f"{numel:.2f} billion parameters, bf16, five specialists, {num_threads} threads"
        report(results, f"{title}, median of {num_rounds}")


if __name__ == "__main__":
    main()
