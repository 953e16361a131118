"""What commands print: tables and JSON on stdout, progress on stderr."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.table import Table

    from mergebench_core.results import BoardRow

WIDTH = 170
"""Columns of a table where the output is no terminal."""


def plain(text: str) -> str:
    """Return a text of others without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def print_json(document: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: range = range(0)
) -> None:
    """Print a table; the columns of `numbers` are aligned to the right, a last column of text may wrap.

    Texts are never markup: others wrote them.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table: Table = Table(title=Text(plain(title)) if title else None, title_justify="left", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        may_wrap = index == len(columns) - 1 and index not in numbers
        justify: Literal["left", "right"] = "right" if index in numbers else "left"
        table.add_column(Text(plain(column)), justify=justify, no_wrap=not may_wrap, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    console.print(table)


@contextlib.contextmanager
def progress_lines() -> Iterator[Callable[[str], None]]:
    """Give a function that shows progress on stderr: a line that changes on a terminal, plain lines elsewhere.

    Whatever libraries print to stdout meanwhile goes to stderr as well.
    """
    from rich.console import Console

    console = Console(file=sys.stderr)
    with contextlib.redirect_stdout(sys.stderr):
        if not console.is_terminal:
            yield lambda message: print(message, file=sys.stderr, flush=True)  # noqa: T201
            return
        with console.status("starting") as status:
            yield lambda message: status.update(message.replace("[", "\\["))


def print_board(rows: Sequence[BoardRow], domains: Sequence[str]) -> None:
    """Print results, normalized to the specialists, in percent; GPU memory where it was measured."""
    columns = ["base", "method", "headline", *domains, "general", "algorithm s", "validation s", "peak MiB"]
    has_gpu = any(row.gpu_peak_bytes is not None for row in rows)
    columns += ["GPU MiB"] if has_gpu else []
    cells = [
        [
            _base(row, rows),
            _label(row, rows),
            _percent(row.headline),
            *(_percent(row.normalized.get(domain)) for domain in domains),
            _percent(row.generalization),
            _seconds(row.algorithm_runtime_s),
            _seconds(row.validation_runtime_s),
            _mebibytes(row.worker_peak_rss_bytes),
            *([_mebibytes(row.gpu_peak_bytes)] if has_gpu else []),
        ]
        for row in rows
    ]
    print_table("", columns, cells, numbers=range(2, len(columns)))
    sys.stdout.write("percent of the specialist's score (general: of the base model's)\n")


def _base(row: BoardRow, rows: Sequence[BoardRow]) -> str:
    """Name a row's base; worlds are told apart by their name."""
    worlds = {other.world for other in rows}
    return row.base_label if len(worlds) == 1 else f"{row.base_label} ({row.world})"


def _label(row: BoardRow, rows: Sequence[BoardRow]) -> str:
    """Name a row; methods that share a name are told apart by their source, runs of one method by their seed."""
    world = (row.world, row.label, row.kind)
    same = [other for other in rows if (other.world, other.label, other.kind) == world]
    name = row.label
    name += f" {row.variant}" if len({other.variant for other in same}) > 1 else ""
    name += f" seed {row.seed}" if len({other.seed for other in same}) > 1 else ""
    if row.status != "completed":
        return f"{name} ({row.status})"
    return name if row.is_ranked else f"({name})"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _mebibytes(value: int | None) -> str:
    return "-" if value is None else f"{value / 2**20:.0f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
