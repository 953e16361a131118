"""What isolation costs: a run on mini-v1 and a batch of programs, in the best sandbox and in none, in one run.

    python benchmarks/isolation.py [ROUNDS]

Levels are interleaved; the reference models are scored once, before, outside the times.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mergebench_core import api
from mergebench_core.evaluation import programs
from mergebench_core.isolation.sandbox import Sandbox, start
from mergebench_core.worker import launcher

BASE, METHOD = "mini-llama", "task_arithmetic"
LEVELS = (0, 1, 2, 3)
COMPARED = (0, 3)
NUM_PROGRAMS = 400


def limit_to(level: int) -> None:
    """Let this process start nothing above a level."""

    def limited(*arguments: Any, **settings: Any) -> Sandbox:
        return start(*arguments, **settings | {"ceiling": level})

    launcher.sandboxes.start = limited  # type: ignore[assignment]
    programs.start = limited  # type: ignore[assignment]


def time_run(level: int, home: Path) -> dict[str, float]:
    """Run the method once; return whole seconds and the record's own."""
    limit_to(level)
    started = time.perf_counter()
    record = api.run(METHOD, base=BASE, home=home).record
    wall_s = time.perf_counter() - started
    assert record.environment.isolation_level == level, record.environment.isolation
    runtime = record.runtime
    return {
        "wall_s": wall_s,
        "algorithm_s": runtime.algorithm_runtime_s or 0.0,
        "validation_s": runtime.validation_runtime_s or 0.0,
        "evaluation_s": runtime.evaluation_runtime_s,
    }


def time_programs(level: int, num_programs: int) -> float:
    """Return milliseconds for a batch, the sandbox's start with its probe included."""
    limit_to(level)
    batch = [
        programs.Program(code=f"def f(x):\n    return x + {number}", entry_point="f", inputs=((1,), (2,)))
        for number in range(num_programs)
    ]
    started = time.perf_counter()
    outcomes = programs.run_programs(batch)
    assert all(outcome.status == "completed" for outcome in outcomes)
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Run all levels round by round and print medians."""
    num_rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    runs: dict[int, list[dict[str, float]]] = {level: [] for level in COMPARED}
    batches: dict[int, list[tuple[float, float]]] = {level: [] for level in LEVELS}
    with tempfile.TemporaryDirectory(prefix="mergebench-bench-") as scratch:
        references = Path(scratch) / "references"
        api.reference(base=BASE, home=references)
        for number in range(num_rounds):
            for level in LEVELS:
                batches[level].append((time_programs(level, 1), time_programs(level, NUM_PROGRAMS)))
            for level in COMPARED:
                home = Path(scratch) / f"{number}-{level}"
                shutil.copytree(references, home)
                command = [sys.executable, __file__, "run", str(level), str(home)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                runs[level].append(json.loads(done.stdout))
                print(f"round {number + 1}, level {level}: {runs[level][-1]}", file=sys.stderr, flush=True)
    print(f"{METHOD} on {BASE}, median of {num_rounds}\n")
    print("| level | whole run s | algorithm s | validation s | evaluation s |\n|---|---|---|---|---|")
    for level, found in runs.items():
        cells = [f"{statistics.median(run[name] for run in found):.2f}" for name in found[0]]
        print(f"| {level} | {' | '.join(cells)} |")
    whole = [statistics.median(run["wall_s"] for run in runs[level]) for level in COMPARED]
    print(f"\nlevel {COMPARED[1]} takes {100 * (whole[1] / whole[0] - 1):.1f} % more than level {COMPARED[0]}\n")
    print(f"| level | ms for one program | ms per program, of {NUM_PROGRAMS} |\n|---|---|---|")
    for level, found in batches.items():
        one_ms, all_ms = (statistics.median(times) for times in zip(*found, strict=True))
        print(f"| {level} | {one_ms:.0f} | {all_ms / NUM_PROGRAMS:.2f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        print(json.dumps(time_run(int(sys.argv[2]), Path(sys.argv[3]))))
    else:
        main()
