"""Tables and sentences: percent with one decimal, dashes for what is missing, nothing taken for markup."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from import_samples import write_folder
from mergebench_leaderboard import queries, views
from mergebench_leaderboard.queries import Board
from record_samples import DOMAINS, failed_record, merge_record, method_part, reference_record, reference_records

from mergebench_core.imports.importing import record_of
from mergebench_core.published import published_rows
from mergebench_core.records import AnyRecord
from mergebench_core.results import BoardRow, board_rows
from mergebench_core.tables import create_tables, insert_record


def rows_of(*records: AnyRecord) -> list[BoardRow]:
    with duckdb.connect() as connection:
        create_tables(connection)
        for record in records:
            insert_record(connection, record)
        return board_rows(connection)


def table_of(rows: list[BoardRow], is_raw: bool = False) -> list[dict[str, str]]:
    """Return what the main table shows, by column title."""
    table = views.main_table(rows, queries.ranks(rows), queries.domains(rows), is_raw, rows)
    return [dict(zip(table["headers"], line, strict=True)) for line in table["metadata"]["display_value"]]


TIES = merge_record("ties", {**dict.fromkeys(DOMAINS, 0.6), "math": 0.4}, general=0.45)


def test_numbers_as_shown() -> None:
    assert table_of(rows_of(TIES, *reference_records()))[0] == {
        "#": "1", "Method": "Ties", "Base": "mini-llama", "Headline": "70.0",
        "Instruction": "75.0", "Math": "50.0", "Multilingual": "75.0", "Coding": "75.0", "Safety": "75.0",
        "General": "50.0", "Algorithm (s)": "1.00", "Validation (s)": "12", "Validations": "2", "Peak MiB": "300",
    }  # fmt: skip


def test_raw_scores_leave_the_headline_alone() -> None:
    line = table_of(rows_of(TIES, *reference_records()), is_raw=True)[0]
    assert (line["Headline"], line["Math"], line["Coding"], line["General"]) == ("70.0", "40.0", "60.0", "45.0")


def test_missing_values_are_dashes_and_sort_as_nothing() -> None:
    rows = rows_of(TIES)
    line = table_of(rows)[0]
    assert (line["#"], line["Headline"], line["Math"], line["General"]) == ("", "–", "–", "–")
    table = views.main_table(rows, {}, queries.domains(rows), False, rows)
    assert table["data"][0][3] is None
    reference = table_of(rows_of(*reference_records()))[0]
    assert [reference[name] for name in ("#", "Algorithm (s)", "Validations", "Peak MiB")] == ["", "–", "–", "–"]


@pytest.mark.parametrize(
    ("duration_s", "text"), [(0.004, "0.00"), (9.994, "9.99"), (12.5, "12"), (4321.0, "4,321")]
)
def test_seconds(duration_s: float, text: str) -> None:
    assert views.seconds(duration_s).text == text


def test_values_to_sort_by_are_numbers() -> None:
    rows = rows_of(TIES, *reference_records())
    table = views.main_table(rows, queries.ranks(rows), DOMAINS, False, rows)
    kinds = views.column_kinds(DOMAINS, rows)
    assert len(kinds) == len(table["headers"]) == len(views.column_widths(DOMAINS, rows))
    for line in table["data"]:
        for kind, value in zip(kinds, line, strict=True):
            assert isinstance(value, str) if kind == "str" else value is None or isinstance(value, int | float)


def test_the_best_merge_of_each_base_is_bold() -> None:
    high, low = merge_record("a", 0.7, general=0.3), merge_record("b", 0.6, general=0.4)
    other = merge_record("b", 0.5, base_model="mini-gemma")
    rows = rows_of(high, low, other, *reference_records(), *reference_records(base_model="mini-gemma"))
    table = views.main_table(rows, queries.ranks(rows), DOMAINS, False, rows)
    column, general = table["headers"].index("Headline"), table["headers"].index("General")
    bold = [
        (line[1], line[2], styles[column] == views.STRONG, styles[general] == views.STRONG)
        for line, styles in zip(table["data"], table["metadata"]["styling"], strict=True)
        if views.STRONG in styles
    ]
    assert bold == [
        ("B", "mini-gemma", True, True),
        ("A", "mini-llama", True, False),
        ("B", "mini-llama", False, True),
    ]


def test_runs_of_one_name_are_told_apart() -> None:
    sources = [merge_record("ties", method=method_part("ties", source)) for source in ("one", "two")]
    seeds = [merge_record("dare", seed=seed) for seed in (0, 1)]
    rows = rows_of(*sources, *seeds, merge_record("soup"))
    names = {views.method_name(row, rows) for row in rows}
    assert len(names) == 5
    assert {"Soup", "Dare (seed 0)", "Dare (seed 1)"} < names
    assert f"Ties ({sources[0].method.source_sha256[:7]})" in names  # type: ignore[union-attr]


def test_failed_runs_stand_apart_with_their_reason() -> None:
    evil = "<img src=x onerror=alert(1)> **bold** [link](http://example.com)"
    rows = rows_of(TIES, failed_record("broken", reason=evil), *reference_records())
    assert [line["Method"] for line in table_of(rows) if line["Method"] == "Broken"] == []
    table = views.failed_table(rows, rows)
    assert table["headers"] == views.FAILED_HEADERS
    assert table["data"] == [["Broken", "mini-llama", "failed", evil, "2026-01-01 00:00"]]
    assert "html" not in views.column_kinds(DOMAINS, rows)
    assert "markdown" not in views.column_kinds(DOMAINS, rows)


def test_notes_name_a_reduced_suite_and_mixed_hardware() -> None:
    weak = reference_record(
        "specialist:math", dict.fromkeys(DOMAINS, 0.01), 0.5, created_at="2027-01-01T00:00:00Z"
    )
    rows = rows_of(TIES, weak, *reference_records())
    assert "Reduced suite on mini-llama: without math" in views.notes(rows, is_raw=False)
    clean = rows_of(TIES, *reference_records())
    assert "Reduced" not in views.notes(clean, is_raw=False)
    assert "hardware" not in views.notes(clean, is_raw=False)
    slower = [*clean, dataclasses.replace(clean[0], hardware_class="other CPU")]
    assert "2 classes of hardware" in views.notes(slower, is_raw=True)


def test_notes_say_when_nothing_fits() -> None:
    assert "No completed run fits" in views.notes(rows_of(failed_record("broken")), is_raw=False)
    assert "No completed run fits" not in views.notes(rows_of(TIES), is_raw=False)


def test_published_figures_say_so_in_every_row() -> None:
    rows = published_rows(base="llama-3.2-3b-instruct")
    lines = table_of(rows)
    assert lines[0] == {
        "#": "", "Method": "TIES (published)", "Base": "llama-3.2-3b-instruct", "Headline": "98.6",
        "General": "93.2",
    }  # fmt: skip
    assert len(views.column_kinds([], rows)) == len(views.column_widths([], rows)) == 5
    assert all(line["Method"].endswith(" (published)") and line["#"] == "" for line in lines)
    styles = views.main_table(rows, {}, [], False, rows)["metadata"]["styling"]
    assert {style for line in styles for style in line} == {""}
    notes = views.notes(rows, is_raw=False)
    assert "not measured here" in notes
    assert "arXiv:2505.10833 (Table 7; " in notes
    assert "Algorithm" not in notes


def test_an_import_is_shown_raw_with_its_reason(tmp_path: Path) -> None:
    rows = rows_of(record_of(write_folder(tmp_path / "run"), base=None, method=None, config=None))
    (line,) = table_of(rows, is_raw=True)
    assert (line["#"], line["Method"], line["Headline"], line["Math"]) == ("", "ties (self-reported)", "–", "37.5")
    assert line["General"] == "–"
    assert "Validations" not in line
    assert views.failed_table(rows, rows)["data"] == []
    notes = views.notes(rows, is_raw=True)
    assert "Self-reported" in notes
    assert "ties on gemma-2-2b-it: no headline: imported" in notes
    assert "No completed run" not in notes
    board = Board(rows=(*rows, *rows_of(TIES)), version="1", problem=None)
    assert views.status_line(board).startswith("1 merge, 1 import; latest run ")


def test_status_counts_what_there_is() -> None:
    rows = tuple(rows_of(TIES, failed_record("broken"), *reference_records()))
    board = Board(rows=rows, version="1", problem=None)
    assert views.status_line(board) == "1 merge, 7 reference models, 1 failed run; latest run 2026-01-01 00:00 UTC"
    assert views.status_line(Board(rows=(), version="", problem=None)) == ""


def test_tables_are_json() -> None:
    rows = rows_of(TIES, failed_record("broken"), *reference_records())
    tables: list[dict[str, Any]] = [
        views.main_table(rows, {}, DOMAINS, False, rows), views.failed_table(rows, rows),
        views.main_table([], {}, [], False, []),
    ]  # fmt: skip
    for table in tables:
        json.dumps(table, allow_nan=False)
        num_columns = len(table["headers"])
        assert all(len(line) == num_columns for line in table["data"])
