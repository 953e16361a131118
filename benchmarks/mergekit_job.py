"""One timed merge by mergekit, run by the Python of an environment that has it; prints seconds as JSON.

python benchmarks/mergekit_job.py (task_arithmetic | ties) FAMILY
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions

PARAMETERS = {
    "task_arithmetic": ({"weight": 0.4}, {"normalize": False}),
    "ties": ({"weight": 1.0, "density": 0.2}, {"normalize": True, "lambda": 1.0}),
}
"""Of each model, and of the merge; the settings of merge_job.py."""


def configuration(method: str, family: Path) -> dict[str, object]:
    """Return what a user would write for these models."""
    each, whole = PARAMETERS[method]
    folders = sorted(path for path in family.iterdir() if path.is_dir() and path.name != "base")
    models = [{"model": {"model": {"path": str(path)}}, "parameters": each} for path in folders if _is_model(path)]
    base = {"model": {"path": str(family / "base")}}
    return {
        "merge_method": method,
        "base_model": base,
        "models": models,
        "parameters": whole,
        "dtype": "bfloat16",
    }


def _is_model(path: Path) -> bool:
    return (path / "config.json").is_file()


def main() -> None:
    method, family = sys.argv[1], Path(sys.argv[2])
    config = MergeConfiguration.model_validate(configuration(method, family))
    options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
    with tempfile.TemporaryDirectory(dir=family, prefix="out-") as scratch:
        started, cpu = time.perf_counter(), time.process_time()
        run_merge(config, str(Path(scratch) / "merged"), options)
        print(json.dumps({"wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}))


if __name__ == "__main__":
    main()
