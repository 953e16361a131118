"""The paper's figures: every printed cell, and a world that no measured row enters."""

from __future__ import annotations

import csv
import os
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from record_samples import merge_record, reference_records

from mergebench_core.errors import StoreError
from mergebench_core.imports.mapping import BASES
from mergebench_core.published import PAPER_FILE, PUBLISHED_WORLD, load_paper, published_rows
from mergebench_core.results import row_for

DATA = Path(os.environ.get("MERGEBENCH_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
PAPER = DATA.parent / "paper"
METHODS = {
    "model_soup", "task_arithmetic", "ties", "dare", "fisher", "regmean", "consensus_ta",
    "dataless_localize_and_stitch", "localize_and_stitch",
}  # fmt: skip
OVERALL_PERFORMANCE = {
    "fisher": "83.0", "dare": "83.1", "model_soup": "83.1", "ties": "84.8", "regmean": "86.9",
    "task_arithmetic": "87.2", "consensus_ta": "87.6", "dataless_localize_and_stitch": "89.1",
    "localize_and_stitch": "89.7",
}  # fmt: skip
OVERALL_GENERALIZATION = {
    "fisher": "85.7", "dare": "87.1", "model_soup": "91.0", "ties": "91.7", "regmean": "87.8",
    "task_arithmetic": "88.3", "consensus_ta": "89.8", "dataless_localize_and_stitch": "89.8",
    "localize_and_stitch": "87.8",
}  # fmt: skip


def test_every_method_on_every_base_once() -> None:
    results = load_paper().results
    assert len(results) == 72
    assert set(Counter((result.method, result.base_model) for result in results).values()) == {1}
    assert {result.method for result in results} == METHODS
    assert {result.base_model for result in results} == set(BASES)
    assert all(result.base_model == result.printed_base_model.lower() for result in results)


def test_overall_is_kept_as_printed_and_is_the_mean_but_for_one_cell() -> None:
    paper = load_paper()
    assert {entry.method: entry.printed_performance for entry in paper.overall} == OVERALL_PERFORMANCE
    assert {entry.method: entry.printed_generalization for entry in paper.overall} == OVERALL_GENERALIZATION
    differing = {}
    for entry in paper.overall:
        cells = [result for result in paper.results if result.method == entry.method]
        for kind in ("printed_performance", "printed_generalization"):
            mean = sum(Decimal(getattr(cell, kind)) for cell in cells) / 8
            if abs(mean - Decimal(getattr(entry, kind))) > Decimal("0.05"):
                differing[entry.method, kind] = mean
    assert differing == {("task_arithmetic", "printed_generalization"): Decimal("88.2375")}


def test_fractions_by_hand() -> None:
    (result,) = [r for r in load_paper().results if (r.method, r.base_model) == ("consensus_ta", "gemma-2-9b-it")]
    assert (result.printed_performance, result.normalized_performance) == ("106.5", 1.065)
    assert result.source.arxiv_id == "2505.10833"
    assert all(
        round(r.normalized_performance * 100, 1) == float(r.printed_performance) for r in load_paper().results
    )


def test_rows_are_shown_by_value_and_never_ranked() -> None:
    rows = published_rows()
    assert len(rows) == 72
    assert {row.world for row in rows} == {PUBLISHED_WORLD}
    assert {(row.tier, row.kind, row.is_ranked) for row in rows} == {("published", "published", False)}
    assert not [row for row in rows if row.base_model.lower() == "overall"]
    one = published_rows(base="llama-3.2-3b")
    assert len(one) == 9
    headlines = [row.headline for row in one]
    assert headlines == sorted(headlines, key=lambda value: -(value or 0))
    assert all(row.raw == {} and row.validations is None and row.hardware_class is None for row in one)
    assert all("arXiv:2505.10833" in (row.reason or "") for row in one)
    assert published_rows(base="mini-llama") == []


def test_published_figures_are_no_denominators() -> None:
    row = row_for(merge_record("ties", base_model="gemma-2-2b"), reference_records())
    assert (row.headline, row.tier) == (None, "measured")
    assert row.world != PUBLISHED_WORLD


@pytest.mark.parametrize(
    ("old", "new"),
    [('"schema_version": 1', '"schema_version": 2'), ('"68.4"', '"68.4 %"'), ('"68.4"', "NaN"), ("{", "[")],
)
def test_a_changed_file_is_one_line(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "paper.json"
    path.write_text(PAPER_FILE.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(StoreError, match="not the published figures") as caught:
        load_paper(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="not the published figures"):
        load_paper(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("normalized_performance", "printed_performance"),
        ("normalized_generalization", "printed_generalization"),
    ],
)
def test_every_printed_cell_as_transcribed(name: str, field: str) -> None:
    path = PAPER / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set MERGEBENCH_DATA to the folder beside it")
    with path.open(encoding="utf-8") as file:
        printed = {(row["method"], row["base_model"]): row["value"] for row in csv.DictReader(file)}
    paper = load_paper()
    found = {(r.printed_method, r.printed_base_model): getattr(r, field) for r in paper.results}
    found |= {(entry.printed_method, "Overall"): getattr(entry, field) for entry in paper.overall}
    assert found == printed
    assert len(printed) == 81
