"""Layout of the page and what its controls do. All results come from the snapshot, the paper's figures from the
package."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from mergebench_leaderboard import queries, views
from mergebench_leaderboard.queries import ALL_BASES, Board, Selection

REFRESH_S = 10.0
NORMALIZED, RAW = "Normalized", "Raw"
EMPTY = (
    "### No results yet\n\nRun `mergebench demo` to fill the board on this machine in a few minutes, "
    "or `mergebench run METHOD --base BASE` for a single method."
)
INTRODUCTION = (
    "# MergeBench\nMethods that merge fine-tuned language models, compared on the same models, data and tasks."
)
CSS = (Path(__file__).with_name("page.css")).read_text(encoding="utf-8")


def build_page(snapshot: Path) -> gr.Blocks:
    """Return the page over the snapshot at `snapshot`, which may come into being later."""
    page = gr.Blocks(title="MergeBench leaderboard", analytics_enabled=False, fill_width=True)
    with page:
        with gr.Row(elem_id="heading"):
            gr.Markdown(INTRODUCTION, elem_id="introduction")
            reload = gr.Button("Refresh", scale=0, min_width=90, elem_id="refresh")
        status = gr.Markdown(elem_id="status")
        empty = gr.Markdown(EMPTY, elem_id="empty", visible=False)
        with gr.Row(elem_id="controls", visible=False) as controls:
            world = gr.Dropdown([], label="Track", scale=3, min_width=160)
            base = gr.Dropdown([ALL_BASES], value=ALL_BASES, label="Base model", scale=2, min_width=160)
            search = gr.Textbox(label="Search", placeholder="method, plugin, base", scale=2, min_width=160)
            scale = gr.Radio([NORMALIZED, RAW], value=NORMALIZED, label="Scores", scale=3, min_width=240)
            references = gr.Checkbox(value=True, label="References", scale=1, min_width=130)
        table = _table("main-table", pinned_columns=2, max_height=1200)
        notes = gr.Markdown(elem_id="notes")
        failed_title = gr.Markdown("### Runs that did not complete", visible=False)
        failed = _table("failed-table", column_widths=["190px", "94px", "90px", "690px", "140px"])
        seen = gr.State("")
        chosen: list[Any] = [world, base, search, scale, references]
        shown = [seen, empty, controls, world, base, table, notes, failed_title, failed, status]
        show = partial(show_board, snapshot)
        silent: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        gr.on([page.load, reload.click, *(part.change for part in chosen)], show, chosen, shown, **silent)
        gr.Timer(REFRESH_S).tick(partial(show_if_changed, snapshot), [seen, *chosen], shown, **silent)
    page.queue(max_size=32, default_concurrency_limit=2, api_open=False)
    return page


def _table(name: str, **settings: Any) -> gr.Dataframe:
    return gr.Dataframe(
        visible=False, interactive=False, show_label=False, elem_id=name, buttons=["copy"], wrap=True, **settings
    )


def show_if_changed(snapshot: Path, seen: str, *chosen: Any) -> Any:
    """Show the board again only if there is a new snapshot: a reader's sorting is not disturbed without need."""
    if queries.snapshot_version(snapshot) == seen:
        return gr.skip()
    return show_board(snapshot, *chosen)


def show_board(
    snapshot: Path, world: str | None, base: str | None, search: str | None, scale: str | None, references: bool
) -> tuple[Any, ...]:
    """Return the new state of everything on the page for what the reader chose."""
    board = queries.load_board(snapshot)
    has_rows = bool(board.rows)
    worlds = queries.worlds(board.all_rows)
    shown = world if world in worlds and has_rows else (worlds[0] if worlds else "")
    bases = [ALL_BASES, *queries.bases(board.all_rows, shown)]
    base = base if base in bases else ALL_BASES
    selection = Selection(
        world=shown, base=base, search=(search or "")[:200], has_references=bool(references), is_raw=scale == RAW
    )
    return (
        board.version,
        gr.update(visible=not has_rows and board.problem is None),
        gr.update(visible=has_rows),
        gr.update(choices=worlds, value=shown if has_rows else None),  # the first result is shown at once
        gr.update(choices=bases, value=base),
        *_tables(board, selection),
        views.status_line(board),
    )


def _tables(board: Board, selection: Selection) -> tuple[Any, Any, Any, Any]:
    """Return the main table, its notes, the title and the table of failed runs."""
    rows = queries.select_rows(board.all_rows, selection)
    named = [row for row in board.all_rows if queries.world_of(row) == selection.world]
    domains, is_raw = queries.domains(named), queries.is_raw(named, selection)
    table = views.main_table(rows, queries.ranks(named), domains, is_raw, named)
    kinds, widths = views.column_kinds(domains, named), views.column_widths(domains, named)
    failed = views.failed_table(rows, named)
    has_failed = bool(failed["data"])
    return (
        gr.update(value=table, datatype=kinds, column_widths=widths, visible=bool(named)),
        views.notes(rows, is_raw) if named else "",
        gr.update(visible=has_failed),
        gr.update(value=failed, visible=has_failed),
    )
