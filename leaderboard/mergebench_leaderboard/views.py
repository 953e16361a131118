"""Rows as tables and sentences. Percent with one decimal; what is missing is a dash."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergebench_core.results import BoardRow
from mergebench_leaderboard.queries import Board

MISSING = "–"
MIB = 2**20
SHOWN = ("completed", "incomplete")
"""What stands in the main table; everything else did not complete."""
STRONG, QUIET = "font-weight: 700", "opacity: 0.62"

Table = dict[str, Any]
"""Headers, data and metadata in the form that a Gradio table takes: numbers to sort by, texts to show."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A value to sort by and what is shown for it."""

    value: str | float | int | None
    text: str


def percent(share: float | None) -> Cell:
    """Show a fraction of 1 in percent with one decimal."""
    if share is None:
        return Cell(value=None, text=MISSING)
    return Cell(value=round(100 * share, 6), text=f"{100 * share:.1f}")


def seconds(duration_s: float | None) -> Cell:
    """Show a duration, finer where it is short."""
    if duration_s is None:
        return Cell(value=None, text=MISSING)
    return Cell(value=duration_s, text=f"{duration_s:.2f}" if duration_s < 10 else f"{duration_s:,.0f}")


def count(number: float | None) -> Cell:
    """Show a number without needless digits."""
    if number is None:
        return Cell(value=None, text=MISSING)
    return Cell(value=number, text=f"{number:,.4g}" if number % 1 else f"{number:,.0f}")


def word(text: str) -> Cell:
    """Show a text as it is."""
    return Cell(value=text, text=text)


def method_name(row: BoardRow, rows: Sequence[BoardRow]) -> str:
    """Return the title, with what tells the row from others of this name: source's digest, seed, who measured."""
    same = [other for other in rows if (other.kind, other.label) == (row.kind, row.label)]
    details = [row.variant] if len({other.variant for other in same}) > 1 else []
    details += [f"seed {row.seed}"] if len({other.seed for other in same}) > 1 else []
    details += [row.tier] if row.tier != "measured" else []
    return f"{row.title} ({', '.join(details)})" if details else row.title


COSTS = ("Algorithm (s)", "Validation (s)", "Validations", "Peak MiB")


def has_costs(rows: Sequence[BoardRow]) -> bool:
    """Return whether the rows of a world have costs; they are only ever measured here."""
    return any(row.tier == "measured" for row in rows)


def headers(domains: Sequence[str], named: Sequence[BoardRow]) -> list[str]:
    """Return the column titles of the main table of a world with the rows `named`."""
    shown = [domain.capitalize() for domain in domains]
    return ["#", "Method", "Base", "Headline", *shown, "General", *(COSTS if has_costs(named) else ())]


def column_kinds(domains: Sequence[str], named: Sequence[BoardRow]) -> list[str]:
    """Return how each column of the main table sorts. Texts are never markup: others wrote them."""
    return ["number", "str", "str", *["number"] * (len(headers(domains, named)) - 3)]


def column_widths(domains: Sequence[str], named: Sequence[BoardRow]) -> list[str]:
    """Return the widths of the main table's columns: names wide, numbers narrow, together one line of a laptop."""
    base = max([94, *(7 * len(row.base_label) + 20 for row in named)])
    costs = [*["84px"] * 3, "64px"] if has_costs(named) else []
    return ["36px", "190px", f"{base}px", "74px", *["88px"] * len(domains), "68px", *costs]


def main_table(
    rows: Sequence[BoardRow],
    ranks: Mapping[str, int],
    domains: Sequence[str],
    is_raw: bool,
    named: Sequence[BoardRow],
) -> Table:
    """Return the table of completed runs, of imports and of published figures.

    Args:
        rows: what to show, in order.
        ranks: rank by job id.
        domains: columns.
        is_raw: domain and general scores as measured, instead of relative to specialist and base.
        named: all rows of the world, among which a method's name must be unambiguous.
    """
    shown = [row for row in rows if row.status in SHOWN]
    cells = [_cells(row, ranks.get(row.job_id), domains, is_raw, named) for row in shown]
    titles = headers(domains, named)
    cells = [line[: len(titles)] for line in cells]
    return _table(titles, cells, _styles(shown, cells, len(domains)))


def _cells(
    row: BoardRow, rank: int | None, domains: Sequence[str], is_raw: bool, named: Sequence[BoardRow]
) -> list[Cell]:
    by_domain = row.raw if is_raw else row.normalized
    peak = None if row.worker_peak_rss_bytes is None else round(row.worker_peak_rss_bytes / MIB)
    return [
        Cell(value=rank, text="" if rank is None else str(rank)),
        word(method_name(row, named)),
        word(row.base_label),
        percent(row.headline),
        *[percent(by_domain.get(domain)) for domain in domains],
        percent(row.raw_generalization if is_raw else row.generalization),
        seconds(row.algorithm_runtime_s),
        seconds(row.validation_runtime_s),
        count(row.validations if row.kind == "merge" else None),
        count(peak),
    ]


def _styles(rows: Sequence[BoardRow], cells: Sequence[Sequence[Cell]], num_domains: int) -> list[list[str]]:
    """Set the best merge of each base in bold per score column, and what is no merge in a quieter colour."""
    quiet = [QUIET if row.kind in ("reference", "evaluation") else "" for row in rows]
    styles = [[style for _ in line] for style, line in zip(quiet, cells, strict=True)]
    for column in range(3, 5 + num_domains):
        best: dict[str, float] = {}
        merges = [(row, line[column].value) for row, line in zip(rows, cells, strict=True) if row.kind == "merge"]
        for row, value in merges:
            if isinstance(value, int | float):
                best[row.base_label] = max(value, best.get(row.base_label, value))
        for index, (row, line) in enumerate(zip(rows, cells, strict=True)):
            if (
                row.kind == "merge"
                and line[column].value is not None
                and line[column].value == best[row.base_label]
            ):
                styles[index][column] = STRONG
    return styles


FAILED_HEADERS = ["Method", "Base", "Status", "Reason", "When (UTC)"]


def failed_table(rows: Sequence[BoardRow], named: Sequence[BoardRow]) -> Table:
    """Return the table of runs that did not complete."""
    cells = [
        [
            word(method_name(row, named)),
            word(row.base_label),
            word(row.status.replace("_", " ")),
            word(row.reason or MISSING),
            word(row.created_at[:16].replace("T", " ")),
        ]
        for row in rows
        if row.status not in SHOWN
    ]
    return _table(FAILED_HEADERS, cells, [["" for _ in line] for line in cells])


def _table(titles: list[str], cells: Sequence[Sequence[Cell]], styles: list[list[str]]) -> Table:
    return {
        "headers": titles,
        "data": [[cell.value for cell in line] for line in cells],
        "metadata": {"display_value": [[cell.text for cell in line] for line in cells], "styling": styles},
    }


def notes(rows: Sequence[BoardRow], is_raw: bool) -> str:
    """Say in markdown how to read the numbers, and what limits them. Names are escaped."""
    nothing = [] if any(row.status in SHOWN for row in rows) else ["**No completed run fits this selection.**"]
    tiers = {row.tier for row in rows}
    if tiers == {"published"}:
        return "\n\n".join([*nothing, *_published_notes(rows)])
    if tiers == {"self-reported"}:
        return "\n\n".join([*nothing, *_import_notes(rows)])
    if is_raw:
        domains, general = "the score itself", "the mean score on general tasks"
    else:
        domains = "the score relative to that domain's specialist (100: as good)"
        general = "the score on general tasks relative to the base model (below 100: forgetting)"
    lines = [
        "Scores in percent. **Headline**: mean over the domains, relative to the specialists. "
        f"**Domains**: {domains}. **General**: {general}. Bold: best merge of a base. "
        "Ranks follow the headline; standard errors are not shown yet. Sort by a column from its menu.",
        "**Algorithm (s)**: preparing and merging the winning configuration. **Validation (s)**: everything else "
        "spent on choosing it. **Validations**: full passes over the surrogate tasks that it used. "
        "**Peak MiB**: resident memory of the method's process.",
    ]
    return "\n\n".join([*nothing, *lines, *_cautions(rows)])


def _published_notes(rows: Sequence[BoardRow]) -> list[str]:
    said = dict.fromkeys(row.reason for row in rows if row.reason)
    return [
        "**Published, not measured here.** Percent as the paper printed it, per base in the order of the value, "
        "never ranked with measured results. **Headline**: normalized performance. **General**: normalized "
        "generalization, whose divisor the paper does not name. No repeats or error bars are reported.",
        f"Source: {html.escape('; '.join(said))}.",
    ]


def _import_notes(rows: Sequence[BoardRow]) -> list[str]:
    return [
        "**Self-reported, not measured here.** Raw scores in percent, imported from the output of the released "
        "MergeBench scripts. Without the specialists' scores there is no headline, and nothing is ranked.",
        *(f"{html.escape(f'{row.title} on {row.base_label}: {row.reason}')}." for row in rows if row.reason),
    ]


def _cautions(rows: Sequence[BoardRow]) -> list[str]:
    reduced = {row.base_label: row.removed for row in rows if row.is_reduced}
    found = [
        f"Reduced suite on {html.escape(base)}: without {', '.join(map(html.escape, removed))}, "
        "where the specialist's score is too close to zero to divide by."
        for base, removed in reduced.items()
    ]
    classes = {row.hardware_class for row in rows if row.algorithm_runtime_s is not None}
    if len(classes) > 1:
        found.append(f"Times come from {len(classes)} classes of hardware and compare only within one.")
    return found


def status_line(board: Board) -> str:
    """Say what the board holds."""
    if board.problem:
        return board.problem
    if not board.rows:
        return ""
    kinds = Counter(row.kind if row.status in SHOWN else "failed" for row in board.rows)
    names = {
        "merge": "merge",
        "reference": "reference model",
        "evaluation": "evaluation",
        "import": "import",
        "failed": "failed run",
    }
    counts = ", ".join(
        f"{kinds[kind]} {name}{'s' if kinds[kind] > 1 else ''}" for kind, name in names.items() if kinds[kind]
    )
    latest = max(row.created_at for row in board.rows)[:16].replace("T", " ")
    return f"{counts}; latest run {latest} UTC"
