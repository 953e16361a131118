"""What the page knows: the rows of a snapshot, and which of them a reader asks for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mergebench_core.errors import StoreError
from mergebench_core.published import published_rows
from mergebench_core.results import TIERS, BoardRow, board_rows
from mergebench_core.store import open_snapshot

ALL_BASES = "All base models"

_log = logging.getLogger("mergebench")


@dataclass(frozen=True, kw_only=True)
class Board:
    """Everything in one snapshot, and what the paper printed."""

    rows: tuple[BoardRow, ...]
    version: str
    """Changes when the snapshot does; empty if there is none."""
    problem: str | None
    """Why there are no rows though there is a file. For everybody's eyes: the log has the details."""
    published: tuple[BoardRow, ...] = ()
    """Figures from the paper, which need no snapshot."""

    @property
    def all_rows(self) -> tuple[BoardRow, ...]:
        """The snapshot's rows, then the published ones."""
        return self.rows + self.published


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a reader chose to see."""

    world: str
    base: str = ALL_BASES
    search: str = ""
    has_references: bool = True
    is_raw: bool = False
    """Domain scores as measured instead of relative to the specialists."""


def snapshot_version(snapshot: Path) -> str:
    """Return what identifies the present content of the file; empty if there is no file."""
    try:
        found = snapshot.stat()
    except OSError:
        return ""
    return f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"


def load_board(snapshot: Path) -> Board:
    """Read the snapshot; a missing or damaged one is a board with published figures only."""
    version = snapshot_version(snapshot)
    published = tuple(published_rows())
    if not version:
        return Board(rows=(), version="", problem=None, published=published)
    try:
        with open_snapshot(snapshot) as connection:
            rows = tuple(board_rows(connection))
            return Board(rows=rows, version=version, problem=None, published=published)
    except StoreError as error:
        _log.warning("%s", error)
        problem = "The snapshot cannot be read; `mergebench db build` makes a new one."
        return Board(rows=(), version=version, problem=problem, published=published)


def world_of(row: BoardRow) -> str:
    """Return the name of the world that a row belongs to: other data or tasks under one name are another world."""
    return row.world


def worlds(rows: Sequence[BoardRow]) -> list[str]:
    """Return all worlds: measured ones first, then imports, then published; within these the latest run first."""
    latest = {
        world_of(row): (-TIERS.index(row.tier), row.created_at)
        for row in sorted(rows, key=lambda row: row.created_at)
    }
    return sorted(latest, key=lambda world: latest[world], reverse=True)


def bases(rows: Sequence[BoardRow], world: str) -> list[str]:
    """Return the base models of a world."""
    return sorted({row.base_model for row in rows if world_of(row) == world})


def domains(rows: Sequence[BoardRow]) -> list[str]:
    """Return the domains of these rows, in the track's order."""
    return list(dict.fromkeys(domain for row in rows for domain in row.raw))


def is_raw(rows: Sequence[BoardRow], selection: Selection) -> bool:
    """Return whether scores are shown as measured: imports have no others, the paper gives none of these."""
    tiers = {row.tier for row in rows}
    return tiers == {"self-reported"} or (selection.is_raw and tiers != {"published"})


def select_rows(rows: Sequence[BoardRow], selection: Selection) -> list[BoardRow]:
    """Return the rows that fit, in the order of the board."""
    return [row for row in rows if _fits(row, selection)]


def _fits(row: BoardRow, selection: Selection) -> bool:
    if world_of(row) != selection.world or selection.base not in (ALL_BASES, row.base_model):
        return False
    if row.kind == "reference" and not selection.has_references:
        return False
    text = f"{row.title} {row.label} {row.base_model} {row.plugin or ''} {row.variant}".casefold()
    return all(word in text for word in selection.search.casefold().split())


def ranks(rows: Sequence[BoardRow]) -> dict[str, int]:
    """Return the rank by job id among the ranked rows of the same world and base; equal headlines share one.

    Computed over all rows, so that a filter never moves anybody up.
    """
    ranked = [row for row in rows if row.is_ranked and row.headline is not None]
    return {
        row.job_id: 1
        + sum((other.headline or 0.0) > (row.headline or 0.0) for other in ranked if _place(other) == _place(row))
        for row in ranked
    }


def _place(row: BoardRow) -> tuple[str, ...]:
    """Return what two rows must share to be ranked together."""
    return row.tier, world_of(row), row.track_digest, row.base_model, row.models_sha256 or ""
