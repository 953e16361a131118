"""Runs one method on the toy track in a process of its own: `toy_run.py PICKLED_TRACK METHOD HOME`."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path


def main() -> None:
    """Run and print the record."""
    from mergebench_core.runner import run_method
    from mergebench_core.workbench import Workbench
    from mergebench_core.worker.catalog import find_method, load_catalog

    track, method, home = pickle.loads(Path(sys.argv[1]).read_bytes()), sys.argv[2], Path(sys.argv[3])
    home.mkdir(exist_ok=True)
    bench = Workbench(track=track, base="toy-untied", home=home, progress=lambda line: None)
    record = run_method(bench, find_method(load_catalog(), method))
    sys.stdout.write(record.to_json())


if __name__ == "__main__":
    main()
