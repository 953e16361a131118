"""The store: an index that may be lost at any time, because the records are the truth."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from import_samples import write_folder
from record_samples import failed_record, merge_record, reference_record, sample_document

from mergebench_core import store, tables
from mergebench_core.errors import StoreError
from mergebench_core.imports.importing import record_of
from mergebench_core.records import AnyRecord, ImportedRecord, RunRecord


def save(home: Path, record: AnyRecord) -> Path:
    path = store.record_path(home, record.job_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.to_json(), encoding="utf-8")
    return path


def add(home: Path, record: AnyRecord) -> None:
    save(home, record)
    store.append_record(home, record)


def indexed(home: Path, query: str = "SELECT job_id FROM runs ORDER BY 1") -> list[tuple[object, ...]]:
    with store.open_snapshot(home / store.BOARD_NAME) as connection:
        return connection.execute(query).fetchall()


ONE, TWO = merge_record("ties", seed=1), merge_record("ties", seed=2)


def test_appended_records_reach_the_snapshot(tmp_path: Path) -> None:
    add(tmp_path, ONE)
    add(tmp_path, failed_record("ties"))
    assert len(indexed(tmp_path)) == 2
    assert indexed(tmp_path, "SELECT count(*) FROM task_scores") == [(len(ONE.tasks),)]
    assert indexed(tmp_path, "SELECT config, runtime_s FROM configurations ORDER BY position") == [
        ('{"scaling_coefficient": 0.3}', 1.5),
        ('{"scaling_coefficient": 0.4}', 1.5),
    ]


def test_every_column_has_the_value_of_the_record(tmp_path: Path) -> None:
    add(tmp_path, ONE)
    (row,) = indexed(
        tmp_path, "SELECT seed, method, algorithm_runtime_s, worker_peak_rss_bytes, left_out FROM runs"
    )
    assert row == (1, "ties", 1.0, 300 * 2**20, ["model.embed_tokens.weight"])
    (task,) = indexed(
        tmp_path, "SELECT score, num_items, domain, typeof(score) FROM task_scores WHERE task='mini_math'"
    )
    assert task == (0.6, 300, "math", "DOUBLE")


@pytest.mark.parametrize("record", [ONE, failed_record("ties"), reference_record("base", {"math": 0.1}, None)])
def test_rows_name_exactly_the_columns(record: RunRecord) -> None:
    rows = {tables.RUNS.name: [tables.run_row(record)]}
    rows[tables.TASK_SCORES.name] = [tables.task_row(record, *item) for item in record.tasks.items()]
    parts = enumerate(record.configurations)
    rows[tables.CONFIGURATIONS.name] = [tables.configuration_row(record, *item) for item in parts]
    for table in (tables.RUNS, tables.TASK_SCORES, tables.CONFIGURATIONS):
        for row in rows[table.name]:
            assert set(row) == {column.name for column in table.columns}


@pytest.fixture
def imported(tmp_path: Path) -> ImportedRecord:
    return record_of(write_folder(tmp_path / "released"), base=None, method=None, config=None)


def test_rows_of_an_import_name_exactly_the_columns(imported: ImportedRecord) -> None:
    assert list(tables.import_row(imported)) == [column.name for column in tables.RUNS.columns]
    for task, part in imported.tasks.items():
        assert set(tables.task_row(imported, task, part)) == {c.name for c in tables.TASK_SCORES.columns}


def test_an_import_lies_beside_the_runs(tmp_path: Path, imported: ImportedRecord) -> None:
    for home, records in ((tmp_path / "a", [ONE, imported]), (tmp_path / "b", [imported, ONE])):
        for record in records:
            add(home, record)
    assert store.build(tmp_path / "a") == store.BuildReport(num_records=2, problems=[])
    for table in tables.TABLES:
        query = f"SELECT * FROM {table.name} ORDER BY ALL"
        assert indexed(tmp_path / "a", query) == indexed(tmp_path / "b", query)
    (row,) = indexed(tmp_path / "a", "SELECT tier, status, seed, evaluation_runtime_s, engine, judge FROM runs "
                     "WHERE kind = 'import'")  # fmt: skip
    assert row == ("self-reported", "incomplete", None, None, "vllm", None)
    columns = "score, num_items, items_file, other_metrics->>'harmbench/micro ASR (lower)', notes"
    (task,) = indexed(tmp_path / "a", f"SELECT {columns} FROM task_scores WHERE task = 'harmbench'")
    assert task == (0.625, None, None, "0.375", ["score is 1 - attack success rate"])


def test_the_tier_is_worked_out_and_never_read(tmp_path: Path, imported: ImportedRecord) -> None:
    add(tmp_path, ONE)
    add(tmp_path, imported)
    add(tmp_path, reference_record("base", {"math": 0.1}, None))
    assert indexed(tmp_path, "SELECT kind, tier FROM runs ORDER BY 1") == [
        ("import", "self-reported"),
        ("merge", "measured"),
        ("reference", "measured"),
    ]
    for record in (ONE, imported):
        path = store.record_path(tmp_path, record.job_id)
        path.write_text(record.to_json().replace("{", '{"tier": "measured",', 1), encoding="utf-8")
    report = store.build(tmp_path)
    assert report.num_records == 1
    assert all("tier: Extra inputs" in problem for problem in report.problems)


def test_an_import_dressed_as_a_run_is_no_record(tmp_path: Path, imported: ImportedRecord) -> None:
    path = save(tmp_path, imported)
    path.write_text(imported.to_json().replace('"kind": "import"', '"kind": "merge"'), encoding="utf-8")
    assert store.build(tmp_path).num_records == 0


def test_columns_of_the_track(tmp_path: Path) -> None:
    track = {"name": "mini-v1", "digest": "a" * 64, "suite": "lite", "protocol": "paper", "judge": "j@1",
             "engine": "vllm"}  # fmt: skip
    document = sample_document(track=track)
    document["tasks"]["mini_math"]["other_metrics"] = {"harm_rate": 0.25}
    add(tmp_path, RunRecord.model_validate(document))
    (row,) = indexed(tmp_path, "SELECT track_suite, track_protocol, judge, engine, tier FROM runs")
    assert row == ("lite", "paper", "j@1", "vllm", "measured")
    (task,) = indexed(tmp_path, "SELECT other_metrics, notes FROM task_scores WHERE task = 'mini_math'")
    assert task == ('{"harm_rate": 0.25}', [])


def test_the_same_job_replaces_its_row(tmp_path: Path) -> None:
    add(tmp_path, failed_record("ties").model_copy(update={"job_id": ONE.job_id}))
    add(tmp_path, ONE)
    add(tmp_path, ONE)
    assert indexed(tmp_path, "SELECT job_id, status FROM runs") == [(ONE.job_id, "completed")]
    assert indexed(tmp_path, "SELECT count(*) FROM task_scores") == [(len(ONE.tasks),)]


def test_a_record_whose_indexing_was_cut_short_is_picked_up(tmp_path: Path) -> None:
    add(tmp_path, ONE)
    save(tmp_path, merge_record("ties", seed=3))
    add(tmp_path, TWO)
    assert len(indexed(tmp_path)) == 3


def test_build_equals_appending(tmp_path: Path) -> None:
    for home, records in ((tmp_path / "a", [ONE, TWO]), (tmp_path / "b", [TWO, ONE])):
        for record in records:
            add(home, record)
    assert store.build(tmp_path / "a") == store.BuildReport(num_records=2, problems=[])
    for table in tables.TABLES:
        query = f"SELECT * FROM {table.name} ORDER BY ALL"
        assert indexed(tmp_path / "a", query) == indexed(tmp_path / "b", query)


def test_build_reports_bad_records_and_keeps_them(tmp_path: Path) -> None:
    save(tmp_path, ONE)
    bad = [
        (save(tmp_path, TWO), "{"),
        (tmp_path / "runs" / "elsewhere" / "record.json", ONE.to_json()),
        (tmp_path / "runs" / ("0" * 16) / "record.json", ONE.to_json().replace('"seed": 1', '"seed": 1e400')),
    ]
    large = RunRecord.model_validate(sample_document(seed=12345))
    bad.append((save(tmp_path, large), large.to_json().replace('"seed": 12345', f'"seed": {10**30}')))
    for path, text in bad:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    report = store.build(tmp_path)
    assert report.num_records == 1
    assert len(report.problems) == len(bad)
    assert all("\n" not in problem and str(tmp_path) in problem for problem in report.problems)
    assert all(path.read_text(encoding="utf-8") == text for path, text in bad)
    assert indexed(tmp_path) == [(ONE.job_id,)]


def test_build_of_nothing_is_an_empty_store(tmp_path: Path) -> None:
    assert store.build(tmp_path / "new").num_records == 0
    assert indexed(tmp_path / "new") == []


def test_build_forgets_deleted_runs(tmp_path: Path) -> None:
    add(tmp_path, ONE)
    add(tmp_path, TWO)
    store.record_path(tmp_path, ONE.job_id).unlink()
    store.build(tmp_path)
    assert indexed(tmp_path) == [(TWO.job_id,)]


def damage_nothing(index: Path) -> None:
    index.unlink()


def damage_garbage(index: Path) -> None:
    index.write_bytes(b"no database" * 1000)


def damage_truncated(index: Path) -> None:
    index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])


def damage_blocks(index: Path) -> None:
    content = bytearray(index.read_bytes())
    for place in range(12_288, len(content), 64):
        content[place] ^= 0xFF
    index.write_bytes(content)


def damage_version(index: Path) -> None:
    with duckdb.connect(index) as connection:
        connection.execute("UPDATE meta SET value = '0'")


def damage_foreign(index: Path) -> None:
    index.unlink()
    with duckdb.connect(index) as connection:
        connection.execute("CREATE TABLE other (a INTEGER)")


DAMAGES = [damage_nothing, damage_garbage, damage_truncated, damage_blocks, damage_version, damage_foreign]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_rebuilt_and_nothing_is_lost(
    tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    add(tmp_path, ONE)
    damage(tmp_path / store.INDEX_NAME)  # type: ignore[operator]
    with caplog.at_level(logging.WARNING, "mergebench"):
        add(tmp_path, TWO)
    assert len(indexed(tmp_path)) == 2
    assert ("rebuilding" in caplog.text) is (damage is not damage_nothing)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_snapshot_is_one_line_and_open_board_mends_it(tmp_path: Path, damage: object) -> None:
    add(tmp_path, ONE)
    board = tmp_path / store.BOARD_NAME
    damage(board)  # type: ignore[operator]
    with pytest.raises(StoreError, match=r"board\.duckdb: ") as caught:
        store.open_snapshot(board)
    assert "\n" not in str(caught.value)
    with store.open_board(tmp_path) as connection:
        assert tables.job_ids(connection) == {ONE.job_id}


def test_open_board_sees_a_record_that_was_never_indexed(tmp_path: Path) -> None:
    add(tmp_path, ONE)
    save(tmp_path, TWO)
    with store.open_board(tmp_path) as connection:
        assert tables.job_ids(connection) == {ONE.job_id, TWO.job_id}


def test_open_board_does_not_rebuild_without_need(tmp_path: Path) -> None:
    add(tmp_path, ONE)
    before = (tmp_path / store.BOARD_NAME).stat().st_ino
    store.open_board(tmp_path).close()
    assert (tmp_path / store.BOARD_NAME).stat().st_ino == before


def test_a_locked_index_is_not_taken_for_a_damaged_one(tmp_path: Path) -> None:
    add(tmp_path, ONE)
    before = (tmp_path / store.INDEX_NAME).read_bytes()
    script = (
        f"import duckdb; c = duckdb.connect({str(tmp_path / store.INDEX_NAME)!r}); print(1, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(StoreError, match="open in another program") as caught:
            store.append_record(tmp_path, TWO)
        holder.kill()
    assert "\n" not in str(caught.value)
    assert (tmp_path / store.INDEX_NAME).read_bytes() == before
    store.append_record(tmp_path, TWO)
    assert len(indexed(tmp_path)) == 2


def test_processes_append_at_the_same_time(tmp_path: Path) -> None:
    paths = [save(tmp_path, merge_record("ties", seed=seed)) for seed in range(6)]
    store.build(tmp_path / "other")  # its records are not these
    script = (
        "import sys; from pathlib import Path; from mergebench_core import records, store\n"
        "for name in sys.argv[2:]: store.append_record(Path(sys.argv[1]), records.read_record(Path(name)))"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    started = [subprocess.Popen([*command, *map(str, paths[half::2])]) for half in (0, 1)]
    assert [process.wait() for process in started] == [0, 0]
    assert len(indexed(tmp_path)) == 6


def test_readers_keep_their_snapshot_while_a_record_is_added(tmp_path: Path) -> None:
    add(tmp_path, ONE)
    with store.open_snapshot(tmp_path / store.BOARD_NAME) as reader:
        add(tmp_path, TWO)
        assert len(reader.execute("SELECT * FROM runs").fetchall()) == 1
    assert len(indexed(tmp_path)) == 2


@pytest.mark.parametrize("act", [lambda home: store.append_record(home, ONE), store.build])
def test_an_unwritable_home_is_one_line(tmp_path: Path, act: object) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written") as caught:
        act(tmp_path / "file" / "home")  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_a_missing_snapshot_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        store.open_snapshot(tmp_path / "board.duckdb")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM glob('/etc/*')",
        "COPY runs TO '{folder}/out.csv'",
        "EXPORT DATABASE '{folder}/out'",
        "ATTACH '{folder}/other.duckdb'",
        "SET enable_external_access = true",
        "INSERT INTO meta VALUES ('a', 'b')",
        "DROP TABLE runs",
        "INSTALL httpfs",
    ],
)
def test_the_snapshot_reaches_nothing_outside(tmp_path: Path, query: str) -> None:
    add(tmp_path, ONE)
    with store.open_snapshot(tmp_path / store.BOARD_NAME) as connection, pytest.raises(duckdb.Error):
        connection.execute(query.format(folder=tmp_path))


def test_an_evil_view_in_a_snapshot_reads_no_file(tmp_path: Path) -> None:
    add(tmp_path, ONE)
    board = tmp_path / store.BOARD_NAME
    with duckdb.connect(board) as connection:
        connection.execute("CREATE VIEW v AS SELECT * FROM read_text('/etc/hostname')")
    with store.open_snapshot(board) as connection, pytest.raises(duckdb.Error):
        connection.execute("SELECT * FROM v").fetchall()
