"""A world like the Hub's for track mergebench-v1: tiny checkpoints under the real names, made-up data sets.

`python tests/hub_world.py --serve` builds it, serves it until it is stopped and prints the variables that make the
command line use it. hub_models.py has the checkpoints.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import importlib
import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent / "tracks"))

from hub_models import write_models
from loopback_hub import LoopbackHub

from mergebench_core.tracks.mergebench_v1.bases import find_base
from mergebench_core.tracks.mergebench_v1.calibration import CALIBRATION
from mergebench_core.tracks.mergebench_v1.item_sets import FileSource, HubSource, ItemSet, Source
from mergebench_core.tracks.mergebench_v1.sets.paper import NUM_STEM_TEST
from mergebench_core.tracks.mergebench_v1.suite import STANDARD_SETS

PARTS = ("instruction", "math", "multilingual", "coding", "safety", "general", "calibration")
PUBLISHED_MATH = (1187, 474, 479, 903, 540, 871, 546)
"""Rows of the subjects of hendrycks_math, alphabetically."""
NUM_CALIBRATION_ROWS = 1200
MMLU_TEST = "cais/mmlu|all|test"
AS_JSON_LINES = ("google/IFEval",)
"""Data sets that are published as JSON lines."""
OWN_CONFIGURATIONS = {"rajpurkar/squad_v2": "squad_v2"}
"""Names of the only configuration of data sets, where it is not the usual one."""
Rows = list[dict[str, Any]]
Tables = Mapping[tuple[str | None, str], Rows]
"""Rows by configuration and split."""


def published_rows() -> dict[str, Callable[[int], Rows]]:
    """Return the makers of made-up rows by source: `<repo>|<config>|<split>` or `<repo>|<path>`."""
    found: dict[str, Callable[[int], Rows]] = {}
    for part in PARTS:
        found |= importlib.import_module(f"v1_rows_{part}").PUBLISHED_ROWS
    mmlu = found[MMLU_TEST]
    return found | {MMLU_TEST: lambda num: _with_stem_share(mmlu(num))}


def _with_stem_share(rows: Rows) -> Rows:
    """Return rows of MMLU of which as many are of a STEM subject as in the published test split."""
    num_stem = round(len(rows) * NUM_STEM_TEST / STANDARD_SETS["mmlu"].num_items)
    subjects = ("abstract_algebra", "high_school_world_history")
    return [row | {"subject": subjects[number >= num_stem]} for number, row in enumerate(rows)]


def key_of(source: Source) -> str:
    """Return the name of a source among the published rows."""
    if isinstance(source, FileSource):
        return f"{source.repo}|{source.path}"
    return f"{source.repo}|{source.config or ''}|{source.split}"


def made_rows(item_set: ItemSet, num: int) -> list[Rows]:
    """Return that many rows of each source, or of all together where a set has many."""
    return _made(item_set, [published_rows()[key_of(source)] for source in item_set.sources], num)


def rows_of(item_set: ItemSet) -> list[Rows]:
    """Return rows of each source such that the set has as many items as it says."""
    makers = [published_rows()[key_of(source)] for source in item_set.sources]
    found = _made(item_set, makers, item_set.num_items)
    if len(item_set.adapt(*found)) == item_set.num_items:
        return found
    low, high = 1, item_set.num_items
    while _num_items(item_set, makers, high) < item_set.num_items:
        low, high = high, 2 * high
        assert high < 50 * item_set.num_items, item_set.name
    while low < high:
        middle = (low + high) // 2
        if _num_items(item_set, makers, middle) < item_set.num_items:
            low = middle + 1
        else:
            high = middle
    found = _made(item_set, makers, low)
    assert len(item_set.adapt(*found)) == item_set.num_items, (item_set.name, low)
    return found


def _num_items(item_set: ItemSet, makers: Sequence[Callable[[int], Rows]], num: int) -> int:
    return len(item_set.adapt(*_made(item_set, makers, num)))


def _made(item_set: ItemSet, makers: Sequence[Callable[[int], Rows]], num: int) -> list[Rows]:
    """Return rows of each source; `num` in all for sets of subjects, else in the first source."""
    if len(makers) == len(PUBLISHED_MATH):
        total = sum(PUBLISHED_MATH)
        ends = [round(num * sum(PUBLISHED_MATH[: place + 1]) / total) for place in range(len(makers))]
        return [maker(end - start) for maker, start, end in zip(makers, [0, *ends], ends, strict=False)]
    if len(makers) == 2 and item_set.name.startswith("mmlu"):
        return [makers[0](num), makers[1](max(1, num // 6))]
    return [maker(num) for maker in makers]


def pinned_file(source: FileSource, shared: Path) -> bytes:
    """Return a file whose content is pinned, from the reference data.

    Raises:
        FileNotFoundError: it is not there.
    """
    for path in sorted(shared.rglob(Path(source.path).name)):
        if hashlib.sha256(path.read_bytes()).hexdigest() == source.sha256:
            return path.read_bytes()
    raise FileNotFoundError(
        f"{source.repo}/{source.path} is not in {shared}; name the reference data in MERGEBENCH_DATA"
    )


def shared_data() -> Path:
    """Return the folder with the reference data."""
    beside = Path(__file__).parents[1].parent / "shared" / "data"
    return Path(os.environ.get("MERGEBENCH_DATA", beside))


def file_content(rows: Rows, path: str) -> bytes:
    """Return rows in the form of a file, by its ending."""
    name = path.removesuffix(".gz")
    if name.endswith(".jsonl"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
    elif name.endswith(".json"):
        is_object = bool(rows) and set(rows[0]) == {"key", "value"}
        text = json.dumps({row["key"]: row["value"] for row in rows} if is_object else rows)
    else:
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        text = stream.getvalue()
    return gzip.compress(text.encode(), mtime=0) if path.endswith(".gz") else text.encode()


def write_dataset(
    folder: Path, tables: Mapping[tuple[str | None, str], Rows], as_json_lines: bool = False
) -> None:
    """Write a data set: one file per configuration and split, and a card that lists them.

    Nothing can read the file of a split without rows.
    """
    cards: dict[str, list[tuple[str, str]]] = {}
    for (config, split), rows in tables.items():
        ending = "jsonl" if as_json_lines else "parquet"
        name = f"{config or 'data'}/{split}-00000-of-00001.{ending}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if as_json_lines:
            (folder / name).write_bytes(file_content(rows, name))
        elif rows:
            _write_parquet(folder / name, rows)
        else:
            (folder / name).write_bytes(b"not for reading")
        cards.setdefault(config or "default", []).append((split, name))
    lines = ["---", "license: other", "configs:"]
    for config, files in cards.items():
        lines += [f"- config_name: {config}", "  data_files:"]
        lines += [line for split, name in files for line in (f"  - split: {split}", f"    path: {name}")]
    (folder / "README.md").write_text("\n".join([*lines, "---", "# Made-up rows", ""]), encoding="utf-8")


def _write_parquet(path: Path, rows: Rows) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def add_data(
    hub: LoopbackHub, folder: Path, item_sets: Iterable[ItemSet], domains: Iterable[str] = CALIBRATION
) -> None:
    """Write the data sets and files of item sets and calibration samples, and let the Hub hold them.

    The sets that only the paper's protocol scores are made of sources of the others, which fit them at full size.
    """
    tables: dict[str, dict[tuple[str | None, str], Rows]] = {}
    for item_set in item_sets:
        if all(isinstance(source, FileSource) and source.sha256 for source in item_set.sources):
            for source in item_set.sources:
                assert isinstance(source, FileSource)
                hub.files[f"{source.repo}/{source.path}"] = pinned_file(source, shared_data())
            continue
        for source, rows in zip(item_set.sources, rows_of(item_set), strict=True):
            if isinstance(source, FileSource):
                hub.files[f"{source.repo}/{source.path}"] = file_content(rows, source.path)
            else:
                tables.setdefault(source.repo, {}).update(_tables(source, rows))
                hub.gated |= {source.repo} if source.is_gated else set()
    for domain in domains:
        source = CALIBRATION[domain].source
        tables.setdefault(source.repo, {})[source.config, source.split] = published_rows()[key_of(source)](
            NUM_CALIBRATION_ROWS
        )
    for repo, found in tables.items():
        write_dataset(folder / "datasets" / repo, found, repo in AS_JSON_LINES)
        hub.add("dataset", repo, folder / "datasets" / repo)


def _tables(source: HubSource, rows: Rows) -> Tables:
    """Return a split, and beside one that has a file of its own another that nobody should read."""
    config = OWN_CONFIGURATIONS.get(source.repo, source.config)
    return {(config, source.split): rows} | ({(config, "train"): []} if source.file else {})


def add_models(hub: LoopbackHub, folder: Path, base_name: str) -> None:
    """Write a base and its specialists, and let the Hub hold them."""
    for repo, path in write_models(folder / "models", base_name).items():
        hub.add("model", repo, path)
    hub.gated |= {found.repo for found in find_base(base_name).hub_models.values() if found.is_gated}


def _say(text: str) -> None:
    sys.stderr.write(f"# {text}\n")


def main() -> None:
    """Build a world and serve it until it is stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", required=True)
    parser.add_argument("--base", action="append", help="Default: llama-3.2-3b.")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/hub-world"), help="Where it is built, anew.")
    parser.add_argument("--port", type=int, default=0)
    asked = parser.parse_args()
    hub, start = LoopbackHub(), time.monotonic()
    shutil.rmtree(asked.folder, ignore_errors=True)
    for base in asked.base or ["llama-3.2-3b"]:
        add_models(hub, asked.folder, base)
    _say(f"models written after {time.monotonic() - start:.1f} s")
    add_data(hub, asked.folder, STANDARD_SETS.values())
    _say(f"data written after {time.monotonic() - start:.1f} s; serving until Ctrl-C")
    hub.start(asked.port)
    own = hub.environment(asked.folder / "hf") | {"MERGEBENCH_HOME": str(asked.folder / "home")}
    for name, value in own.items():
        sys.stdout.write(f"export {name}={value}\n")
    sys.stdout.flush()
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
