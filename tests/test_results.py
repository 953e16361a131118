"""Rows of the board, computed from synthetic records with numbers that can be checked by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pytest
from import_samples import documents, write_folder
from record_samples import (
    DOMAINS,
    TEST_TASKS,
    failed_record,
    merge_record,
    method_part,
    reference_record,
    reference_records,
    sample_record,
    task_parts,
)
from schema_page import render_schema

from mergebench_core.imports.importing import record_of
from mergebench_core.imports.mapping import mapping_sha256
from mergebench_core.records import AnyRecord, ImportedRecord, Part, RunRecord
from mergebench_core.results import BoardRow, board_rows, row_for, to_dict
from mergebench_core.tables import TABLES, create_tables, insert_record


def rows_of(records: Iterable[AnyRecord], **filters: str) -> list[BoardRow]:
    with duckdb.connect() as connection:
        create_tables(connection)
        for record in records:
            insert_record(connection, record)
        return board_rows(connection, **filters)


def test_normalized_by_the_specialist_of_each_domain() -> None:
    record = merge_record("ties", {**dict.fromkeys(DOMAINS, 0.6), "math": 0.4}, general=0.45)
    row = row_for(record, reference_records())
    assert row.normalized == pytest.approx({**dict.fromkeys(DOMAINS, 0.75), "math": 0.5})
    assert row.raw == pytest.approx({**dict.fromkeys(DOMAINS, 0.6), "math": 0.4})
    assert row.headline == row.task_first == pytest.approx(0.7)
    assert (row.generalization, row.raw_generalization) == (pytest.approx(0.5), pytest.approx(0.45))
    assert (row.is_ranked, row.is_reduced, row.removed) == (True, False, ())
    assert (row.label, row.title, row.algorithm_runtime_s) == ("ties", "Ties", 1.0)


def test_the_row_of_a_run_is_the_row_of_the_board() -> None:
    record = merge_record("ties")
    others = [merge_record("model_soup", 0.5), *reference_records()]
    (row,) = [row for row in rows_of([*others, record]) if row.label == "ties"]
    assert row_for(record, reference_records()) == row
    assert row_for(reference_records()[0], reference_records()).label == "base"


def test_order_is_ranked_then_incomplete_then_references() -> None:
    evaluation = merge_record("x", 0.9, kind="evaluation", model="my-model", method=None)
    partial = merge_record("partial", {"math": 0.9}, status="over_budget", reason="35 validations are used up")
    ranked = [merge_record("low", 0.2), merge_record("high", 0.7), merge_record("mid", 0.5)]
    rows = rows_of([failed_record("broken"), evaluation, partial, *reference_records(), *ranked])
    assert [row.label for row in rows[:6]] == ["high", "mid", "low", "my-model", "broken", "partial"]
    assert [row.is_ranked for row in rows] == [True] * 3 + [False] * 10
    assert rows[3].headline == pytest.approx(0.9 / 0.8)
    assert (rows[5].headline, rows[5].normalized["math"], rows[5].normalized["coding"]) == (None, 1.125, None)
    assert rows[4].reason == "the update of layer 0 is not finite"
    assert {row.kind for row in rows[6:]} == {"reference"}
    assert [row.label for row in rows[6:8]] == ["multitask", "specialist:coding"]


def test_references_are_measured_like_everything_else() -> None:
    rows = {row.label: row for row in rows_of(reference_records())}
    assert rows["specialist:math"].normalized["math"] == 1.0
    assert rows["specialist:math"].title == "Specialist: math"
    assert rows["base"].generalization == 1.0
    assert rows["multitask"].headline == pytest.approx(1.0)
    assert not any(row.is_ranked for row in rows.values())


def test_without_specialists_there_is_no_headline() -> None:
    row = row_for(merge_record("ties"), [])
    assert (row.headline, row.is_ranked, row.generalization) == (None, False, None)
    assert row.raw == pytest.approx(dict.fromkeys(DOMAINS, 0.6))


def test_references_of_another_world_are_not_used() -> None:
    elsewhere = reference_records(track={"name": "mini-v1", "digest": "b" * 64})
    assert row_for(merge_record("ties"), elsewhere).headline is None
    assert row_for(merge_record("ties"), reference_records(base_model="mini-gemma")).headline is None


def test_a_failed_reference_is_no_denominator_and_the_latest_wins() -> None:
    failed = reference_record("base", {}, 0.1, status="failed", reason="x", created_at="2027-01-01T00:00:00Z")
    later = reference_record("base", {}, 0.35, created_at="2026-06-01T00:00:00Z")
    row = row_for(merge_record("ties"), [*reference_records(), failed, later])
    assert row.generalization == pytest.approx(0.7 / 0.35)


def test_a_missing_task_leaves_no_headline_even_for_a_completed_run() -> None:
    tasks = {name: part for name, part in task_parts(dict.fromkeys(DOMAINS, 0.6), 0.7).items()
             if name != TEST_TASKS["coding"][1]}  # fmt: skip
    row = row_for(sample_record(tasks=tasks), reference_records())
    assert (row.headline, row.is_ranked, row.raw["coding"]) == (None, False, None)


def test_a_weak_specialist_reduces_the_suite_for_every_method() -> None:
    weak = [record if record.model != "specialist:math" else
            reference_record("specialist:math", dict.fromkeys(DOMAINS, 0.04), 0.5)
            for record in reference_records()]  # fmt: skip
    rows = rows_of([merge_record("one"), merge_record("two", 0.3), *weak])
    assert {row.removed for row in rows} == {("math",)}
    assert all(row.is_reduced for row in rows)
    assert rows[0].headline == pytest.approx(0.75)


def test_two_sources_of_one_method_can_be_told_apart() -> None:
    records = [merge_record("ties", method=method_part("ties", source)) for source in ("one", "two")]
    rows = rows_of([*records, *reference_records()])[:2]
    assert len({row.job_id for row in rows}) == len({row.variant for row in rows}) == 2
    assert all(len(row.variant) == 7 and row.plugin == "mergebench 0.1.0" for row in rows)


def test_filters() -> None:
    records = [*reference_records(), *reference_records(base_model="mini-gemma")]
    other = merge_record("ties", track={"name": "other-v1", "digest": "c" * 64})
    assert {row.base_model for row in rows_of(records, base="mini-gemma")} == {"mini-gemma"}
    assert [row.track for row in rows_of([*records, other], track="other-v1")] == ["other-v1"]
    assert rows_of(records, track="no-such-track") == []


def test_rows_are_plain_json() -> None:
    document = to_dict(row_for(merge_record("ties"), reference_records()))
    assert json.loads(json.dumps(document, allow_nan=False))["normalized"]["math"] == pytest.approx(0.75)
    assert document["config"] == {"scaling_coefficient": 0.4}


def test_order_of_insertion_does_not_matter() -> None:
    records = [merge_record("a"), merge_record("b"), *reference_records()]
    assert rows_of(records) == rows_of(reversed(records))


def imported_record(folder: Path, without: str | None = None) -> ImportedRecord:
    files = documents()
    if without is not None:
        del files["lm_eval.json"]["results"][without]
    return record_of(write_folder(folder, files), base=None, method=None, config={"density": 0.3})


def test_an_import_has_raw_scores_and_no_headline(tmp_path: Path) -> None:
    row = row_for(imported_record(tmp_path / "run"), [])
    assert row.raw == {
        "instruction": 0.25,
        "math": 0.375,  # (0.625 + 0.125) / 2
        "multilingual": pytest.approx((0.4375 + 0.5 + 0.75) / 3),
        "coding": 0.3125,  # (0.25 + 0.375) / 2
        "safety": 0.78125,  # (0.75 + 0.625 + 0.875 + 0.875) / 4
    }
    assert set(row.normalized.values()) == {None}
    assert (row.headline, row.task_first, row.generalization, row.is_ranked) == (None, None, None, False)
    assert (row.tier, row.kind, row.status, row.config) == (
        "self-reported",
        "import",
        "incomplete",
        {"density": 0.3},
    )
    assert "no headline: imported" in (row.reason or "")
    assert "math: extraction differs" in (row.reason or "")
    assert (row.validations, row.hardware_class, row.seed) == (None, None, None)


def test_an_import_without_a_task_has_no_mean_over_the_rest(tmp_path: Path) -> None:
    row = row_for(imported_record(tmp_path / "run", without="arc_fr"), [])
    assert (row.raw["multilingual"], row.raw["coding"]) == (None, 0.3125)
    assert "missing: m_arc" in (row.reason or "")


def test_nothing_measured_meets_an_import_of_the_same_base_and_digest(tmp_path: Path) -> None:
    """Even a track that bore the same name, digest and engine would be another world."""
    imported = imported_record(tmp_path / "run")
    track = {"name": "mergebench-scripts", "digest": mapping_sha256(), "engine": "vllm"}
    references = reference_records(base_model="gemma-2-2b-it", track=track)
    merge = merge_record("ties", 0.1, base_model="gemma-2-2b-it", track=track)
    rows = {row.kind: row for row in rows_of([imported, merge, *references])}
    assert (rows["import"].headline, rows["merge"].headline) == (None, pytest.approx(0.125))
    assert rows["merge"] == row_for(merge, references)
    assert rows["import"] == row_for(imported, [])
    assert rows["import"].world == f"self-reported · {rows['merge'].world}"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({}, "mini-v1 · aaaaaaaa"),
        ({"suite": "lite"}, "mini-v1 · aaaaaaaa · lite"),
        ({"protocol": "paper"}, "mini-v1 · aaaaaaaa · protocol paper"),
        ({"judge": "judge@1"}, "mini-v1 · aaaaaaaa · judge judge@1"),
        ({"engine": "vllm"}, "mini-v1 · aaaaaaaa · vllm"),
    ],
)
def test_suite_protocol_judge_and_engine_are_worlds(change: dict[str, str], name: str) -> None:
    track = {"name": "mini-v1", "digest": "a" * 64, **change}
    row = row_for(merge_record("ties", track=track), reference_records())
    assert row.world == name
    assert (row.headline is None) is bool(change)
    own = row_for(merge_record("ties", track=track), reference_records(track=track))
    assert own.headline == pytest.approx(0.75)
    told = {"suite": own.suite, "protocol": own.protocol, "judge": own.judge, "engine": own.engine}
    assert told == {"suite": "full", "protocol": "standard", "judge": None, "engine": "hf", **change}


def test_one_base_at_other_commits_is_another_place() -> None:
    """In one world its bases stand side by side; scores that were measured on other commits never meet."""
    places = {"a" * 64: 0.8, "b" * 64: 0.6}
    records: list[AnyRecord] = []
    for models, score in places.items():
        track = {"name": "mini-v1", "digest": "a" * 64, "models_sha256": models}
        records += [merge_record("ties", score, track=track), *reference_records(track=track)]
    rows = [row for row in rows_of(records) if row.label == "ties"]
    assert [(row.base_label, row.headline) for row in rows] == [
        ("mini-llama aaaaaaa", pytest.approx(1.0)), ("mini-llama bbbbbbb", pytest.approx(0.75)),
    ]  # fmt: skip
    assert len({row.world for row in rows}) == 1
    assert row_for(records[0], records[1:]).base_label == "mini-llama aaaaaaa"
    (only,) = [row for row in rows_of(records[: len(records) // 2]) if row.label == "ties"]
    assert only.base_label == "mini-llama"


def test_imports_come_after_everything_measured(tmp_path: Path) -> None:
    rows = rows_of([imported_record(tmp_path / "run"), merge_record("ties"), *reference_records()])
    assert [row.tier for row in rows] == ["measured"] * 8 + ["self-reported"]


def test_the_schema_page_names_every_field_and_column() -> None:
    page = render_schema()
    fields = {name for model in (RunRecord, ImportedRecord, *_parts()) for name in model.model_fields}
    columns = {column.name for table in TABLES for column in table.columns}
    assert {name for name in fields | columns if f"| `{name}` |" not in page} == set()
    assert page == render_schema()
    assert str(Path.cwd()) not in page


def _parts() -> list[type[Part]]:
    import mergebench_core.records as records

    return [part for name, part in vars(records).items() if name.endswith("Part") and name != "Part"]
