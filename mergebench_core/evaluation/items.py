"""Per-item rows as Parquet: what stands behind a score."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from mergebench_core.evaluation.harness import ItemRow
from mergebench_core.tracks.digests import file_digest


def write_rows(path: Path, rows: tuple[ItemRow, ...]) -> str:
    """Write rows to a Parquet file, whole or not at all, and return its sha256."""
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([asdict(row) for row in rows]), partial)
    partial.replace(path)
    return file_digest(path)


def read_rows(path: Path) -> list[ItemRow]:
    """Read the rows of a Parquet file."""
    import pyarrow.parquet

    return [ItemRow(**row) for row in pyarrow.parquet.read_table(path).to_pylist()]
