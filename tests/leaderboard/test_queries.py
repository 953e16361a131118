"""What the page reads from a snapshot and how it selects."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from import_samples import write_folder
from mergebench_leaderboard import queries
from mergebench_leaderboard.queries import ALL_BASES, Selection
from record_samples import failed_record, merge_record, method_part, reference_records

from mergebench_core import store
from mergebench_core.imports.importing import record_of
from mergebench_core.published import PUBLISHED_WORLD
from mergebench_core.records import AnyRecord
from mergebench_core.results import TIERS, BoardRow

WORLD = "mini-v1 · aaaaaaaa"
OTHER = {"name": "mini-v1", "digest": "b" * 64}


def fill(home: Path, records: Sequence[AnyRecord]) -> Path:
    for record in records:
        path = store.record_path(home, record.job_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record.to_json(), encoding="utf-8")
    store.build(home)
    return home / store.BOARD_NAME


def rows_of(home: Path, records: Sequence[AnyRecord]) -> tuple[BoardRow, ...]:
    return queries.load_board(fill(home, records)).rows


def test_a_missing_snapshot_is_an_empty_board(tmp_path: Path) -> None:
    board = queries.load_board(tmp_path / "board.duckdb")
    assert (board.rows, board.version, board.problem) == ((), "", None)


def test_a_damaged_snapshot_says_so_without_naming_paths(tmp_path: Path) -> None:
    (tmp_path / "board.duckdb").write_bytes(b"no database" * 1000)
    board = queries.load_board(tmp_path / "board.duckdb")
    assert board.rows == ()
    assert "mergebench db build" in str(board.problem)
    assert str(tmp_path) not in str(board.problem)


def test_a_new_snapshot_has_a_new_version(tmp_path: Path) -> None:
    first = queries.load_board(fill(tmp_path, [merge_record("ties")]))
    again = queries.load_board(tmp_path / store.BOARD_NAME)
    second = queries.load_board(fill(tmp_path, [merge_record("model_soup")]))
    assert first.version == again.version != second.version
    assert (len(first.rows), len(second.rows)) == (1, 2)


def test_selection(tmp_path: Path) -> None:
    records = [merge_record("ties"), merge_record("ties", base_model="mini-gemma"), *reference_records()]
    rows = rows_of(tmp_path, [*records, merge_record("ties", track=OTHER), failed_record("model_soup")])

    def count(**choice: object) -> int:
        return len(queries.select_rows(rows, Selection(**{"world": WORLD, **choice})))  # type: ignore[arg-type]

    assert count() == 10
    assert count(world="mini-v1 · bbbbbbbb") == 1
    assert count(base="mini-gemma") == 1
    assert count(base=ALL_BASES, has_references=False) == 3
    assert count(search="TIES") == 2
    assert count(search="ties llama") == 1
    assert count(search="specialist math") == 1
    assert count(search="100%_.*") == 0


def test_the_latest_world_comes_first(tmp_path: Path) -> None:
    newer = merge_record("ties", track=OTHER, created_at="2026-05-01T00:00:00Z")
    rows = rows_of(tmp_path, [merge_record("ties"), newer])
    assert queries.worlds(rows) == ["mini-v1 · bbbbbbbb", WORLD]
    assert queries.bases(rows, WORLD) == ["mini-llama"]


def test_ranks_are_per_base_and_world_and_ties_share_one(tmp_path: Path) -> None:
    names = {"a": 0.7, "b": 0.6, "c": 0.6, "d": 0.5}
    records = [merge_record(name, score, base_model=base) for name, score in names.items()
               for base in ("mini-llama", "mini-gemma")]  # fmt: skip
    references = [*reference_records(), *reference_records(base_model="mini-gemma")]
    rows = rows_of(tmp_path, [*records, *references, failed_record("e")])
    ranks = queries.ranks(rows)
    for base in ("mini-llama", "mini-gemma"):
        found = {row.label: ranks[row.job_id] for row in rows if row.base_model == base and row.job_id in ranks}
        assert found == {"a": 1, "b": 2, "c": 2, "d": 4}


def test_ranks_are_per_commits_of_the_models(tmp_path: Path) -> None:
    tracks = [{"name": "mini-v1", "digest": "a" * 64, "models_sha256": digit * 64} for digit in "ab"]
    records = [merge_record("ties", score, track=track) for track, score in zip(tracks, (0.7, 0.6), strict=True)]
    references = [record for track in tracks for record in reference_records(track=track)]
    rows = rows_of(tmp_path, [*records, *references])
    assert sorted(queries.ranks(rows).values()) == [1, 1]


def test_a_filter_moves_nobody_up(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [merge_record("ties", 0.7), merge_record("soup", 0.6), *reference_records()])
    (row,) = queries.select_rows(rows, Selection(world=WORLD, search="soup", has_references=False))
    assert queries.ranks(rows)[row.job_id] == 2


def test_domains_keep_the_order_of_the_record(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, [merge_record("ties", method=method_part("ties"))])
    assert queries.domains(rows) == ["instruction", "math", "multilingual", "coding", "safety"]


def test_published_figures_need_no_snapshot(tmp_path: Path) -> None:
    missing = queries.load_board(tmp_path / "board.duckdb")
    (tmp_path / "board.duckdb").write_bytes(b"no database")
    damaged = queries.load_board(tmp_path / "board.duckdb")
    filled = queries.load_board(fill(tmp_path / "home", [merge_record("ties")]))
    assert missing.published == damaged.published == filled.published
    assert len(filled.all_rows) == 1 + 72
    chosen = Selection(world=PUBLISHED_WORLD, base="gemma-2-9b", has_references=False)
    rows = queries.select_rows(filled.all_rows, chosen)
    assert [row.label for row in rows[:2]] == ["localize_and_stitch", "ties"]  # 92.7, 92.1
    assert {row.tier for row in rows} == {"published"}


def test_tiers_are_worlds_and_only_measured_rows_have_ranks(tmp_path: Path) -> None:
    imported = record_of(write_folder(tmp_path / "run"), base=None, method=None, config=None)
    board = queries.load_board(fill(tmp_path / "home", [imported, merge_record("ties"), *reference_records()]))
    names = queries.worlds(board.all_rows)
    assert names[0] == WORLD
    assert names[1].startswith("self-reported · mergebench-scripts · ")
    assert names[1].endswith(" · vllm")
    assert names[2:] == [PUBLISHED_WORLD]
    (ranked,) = queries.ranks(board.all_rows)
    assert {row.label for row in board.all_rows if row.job_id == ranked} == {"ties"}


def test_scores_are_raw_where_there_are_no_others(tmp_path: Path) -> None:
    imported = record_of(write_folder(tmp_path / "run"), base=None, method=None, config=None)
    board = queries.load_board(fill(tmp_path / "home", [imported, merge_record("ties")]))
    by_tier = {tier: [row for row in board.all_rows if row.tier == tier] for tier in TIERS}
    for wanted in (True, False):
        found = {tier: queries.is_raw(rows, Selection(world="", is_raw=wanted)) for tier, rows in by_tier.items()}
        assert found == {"measured": wanted, "self-reported": True, "published": False}


def test_the_leaderboard_never_loads_torch() -> None:
    script = (
        "import sys, mergebench_leaderboard.app, mergebench_leaderboard.queries, mergebench_leaderboard.views\n"
        "import mergebench_leaderboard.page\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'lm_eval')))"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
