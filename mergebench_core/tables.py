"""The tables of the store: columns with their meaning, and how a record becomes rows.

Task scores are fractions of 1, times are seconds, sizes are bytes. Numbers that can be computed from these are
not stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from mergebench_core.records import (
    AnyRecord,
    ConfigurationPart,
    ImportedRecord,
    ImportedTaskPart,
    RunRecord,
    TaskPart,
)

STORE_VERSION = "3"
"""Of the tables; another number means a rebuild from the records."""

IMPORT_TRACK = "mergebench-scripts"
"""Stands in the column `track` for results that the released scripts of MergeBench wrote elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table."""

    name: str
    type: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table with its primary key."""

    name: str
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    def create_statement(self) -> str:
        """Return the SQL that creates it."""
        columns = ", ".join(f'"{column.name}" {column.type}' for column in self.columns)
        return f'CREATE TABLE "{self.name}" ({columns}, PRIMARY KEY ({", ".join(self.key)}))'


def _columns(lines: str) -> tuple[Column, ...]:
    """Read `name TYPE meaning` lines."""
    parts = [line.split(maxsplit=2) for line in lines.strip().splitlines()]
    return tuple(Column(name=name, type=kind, meaning=meaning) for name, kind, meaning in parts)


META = Table(
    name="meta",
    meaning="What this file is.",
    key=("key",),
    columns=_columns("""
        key VARCHAR `store_version`
        value VARCHAR version of these tables
    """),
)

RUNS = Table(
    name="runs",
    meaning="One row per record.",
    key=("job_id",),
    columns=_columns("""
        job_id VARCHAR content-derived id of the job
        tier VARCHAR `measured` or `self-reported`; found when the record is indexed, never read from it
        kind VARCHAR `merge`, `reference`, `evaluation` or `import`
        status VARCHAR `completed`, `failed` or `over_budget`; imports: `incomplete`
        reason VARCHAR why it did not complete
        track VARCHAR name of the track; imports: `mergebench-scripts`
        track_digest VARCHAR digest of what its bases share and can move a score; imports: of the table of keys
        track_suite VARCHAR `full` or `lite`
        track_protocol VARCHAR `standard` or `paper`
        judge VARCHAR judge of the safety tasks
        engine VARCHAR what ran the model
        base_model VARCHAR name of the base model
        models_sha256 VARCHAR digest of the commits of base and specialists, where they come from the Hub
        model VARCHAR references and evaluations: which model
        method VARCHAR merges: name of the method
        method_title VARCHAR its title
        paper_url VARCHAR its paper
        plugin VARCHAR distribution or file that it came from
        source_sha256 VARCHAR digest of its source
        determinism VARCHAR `exact`, `platform` or `tolerance`
        is_stochastic BOOLEAN whether it draws random numbers
        seed UBIGINT seed of the run
        config VARCHAR winning configuration, JSON object
        weights_sha256 VARCHAR digest of the merged weights
        left_out VARCHAR[] tensors that stayed the base's
        prepare_s DOUBLE preparation for the winner
        merge_s DOUBLE merge of the winner
        algorithm_runtime_s DOUBLE prepare and merge of the winner alone
        validation_runtime_s DOUBLE everything else spent on choosing it
        evaluation_runtime_s DOUBLE scoring on test and general tasks
        worker_peak_rss_bytes UBIGINT peak resident memory of the method's process
        gpu_peak_bytes UBIGINT peak GPU memory
        calibration_samples VARCHAR samples read by domain, JSON object
        validations DOUBLE full validations used
        hardware_class VARCHAR times compare only within one
        platform VARCHAR operating system
        python VARCHAR version
        num_threads UINTEGER threads used
        packages VARCHAR versions by package, JSON object; imports: as the files name them
        commit VARCHAR commit of this project's source
        is_dirty BOOLEAN whether it had uncommitted changes
        isolation_level UTINYINT 0 (none) to 3
        sources VARCHAR imports: sha256 by file, JSON object
        unknown_keys VARCHAR[] imports: results that belong to no task
        missing_tasks VARCHAR imports: why a task has no score, JSON object by task
        created_at VARCHAR UTC, ISO 8601
    """),
)

CONFIGURATIONS = Table(
    name="configurations",
    meaning="One row per configuration that a run tried.",
    key=("job_id", "position"),
    columns=_columns("""
        job_id VARCHAR its run
        position UINTEGER order of trying, from 0
        stage UINTEGER stage of the search space, from 0
        config VARCHAR hyper-parameters, JSON object
        domains VARCHAR[] domains it was scored on
        status VARCHAR `completed` or `failed`
        reason VARCHAR why it failed
        validation_scores VARCHAR mean surrogate score by domain, JSON object
        runtime_s DOUBLE merging and scoring
    """),
)

TASK_SCORES = Table(
    name="task_scores",
    meaning="One row per run and task.",
    key=("job_id", "task"),
    columns=_columns("""
        job_id VARCHAR its run
        task VARCHAR name of the task
        purpose VARCHAR `test` or `generalization`
        domain VARCHAR domain of a test task
        metric VARCHAR which metric the score is
        score DOUBLE in [0, 1], higher is better
        num_items UINTEGER items behind it; imports: null where the files do not say
        other_metrics VARCHAR further numbers of the task, JSON object by name
        notes VARCHAR[] what must be known to read the score
        items_file VARCHAR Parquet file beside the record with a row per item
        items_sha256 VARCHAR its digest
    """),
)

TABLES = (META, RUNS, CONFIGURATIONS, TASK_SCORES)


def create_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Create all tables in an empty database."""
    for table in TABLES:
        connection.execute(table.create_statement())
    _insert(connection, META, [{"key": "store_version", "value": STORE_VERSION}])


def check_version(connection: duckdb.DuckDBPyConnection) -> None:
    """Make sure that the database has these tables.

    Raises:
        duckdb.Error: it is not a store, or one of another version.
    """
    row = connection.execute("SELECT value FROM meta WHERE key = 'store_version'").fetchone()
    if row != (STORE_VERSION,):
        raise duckdb.CatalogException(f"store version {row and row[0]}, not {STORE_VERSION}")


def check_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Read every value once, because a damaged block shows only when it is read.

    Raises:
        duckdb.Error: another version, or damaged.
    """
    check_version(connection)
    for table in TABLES:
        connection.execute(f'SELECT bit_xor(hash(t)) FROM "{table.name}" AS t').fetchone()


def job_ids(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Return the jobs in the index."""
    return {row[0] for row in connection.execute("SELECT job_id FROM runs").fetchall()}


def tier_of(record: AnyRecord) -> str:
    """Return how far a record is to be trusted: what this installation's runner wrote was measured by it.

    Figures from papers come from the package and are no records (`published`).
    """
    return "self-reported" if isinstance(record, ImportedRecord) else "measured"


def insert_record(connection: duckdb.DuckDBPyConnection, record: AnyRecord) -> None:
    """Write the rows of a record in place of those of an earlier one of the same job, all or none.

    Raises:
        duckdb.Error: a value does not fit its column, or the database is damaged.
    """
    configurations: list[dict[str, object]] = []
    if isinstance(record, ImportedRecord):
        run = import_row(record)
    else:
        run = run_row(record)
        configurations = [
            configuration_row(record, place, part) for place, part in enumerate(record.configurations)
        ]
    scores = [task_row(record, task, part) for task, part in record.tasks.items()]
    connection.begin()
    try:
        for table in (RUNS, CONFIGURATIONS, TASK_SCORES):
            connection.execute(f'DELETE FROM "{table.name}" WHERE job_id = ?', [record.job_id])
        _insert(connection, RUNS, [run])
        _insert(connection, CONFIGURATIONS, configurations)
        _insert(connection, TASK_SCORES, scores)
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def run_row(record: RunRecord) -> dict[str, object]:
    """Return the `runs` row of a run by column."""
    method, environment, meters, track = record.method, record.environment, record.meters, record.track
    return {
        **dict.fromkeys(("sources", "unknown_keys", "missing_tasks")),
        **record.model_dump(include={"job_id", "kind", "status", "reason", "base_model", "model", "seed"}),
        **record.model_dump(include={"weights_sha256", "created_at"}),
        **record.runtime.model_dump(),
        **meters.model_dump(exclude={"calibration_samples"}),
        **environment.model_dump(exclude={"packages", "isolation"}),
        **track.model_dump(include={"judge", "engine"}),
        "tier": tier_of(record),
        "track": track.name,
        "track_digest": track.digest,
        "track_suite": track.suite,
        "track_protocol": track.protocol,
        "models_sha256": track.models_sha256,
        "method": method.name if method else None,
        "method_title": method.title if method else None,
        "paper_url": method.paper_url if method else None,
        "plugin": method.plugin if method else None,
        "source_sha256": method.source_sha256 if method else None,
        "determinism": method.determinism if method else None,
        "is_stochastic": method.is_stochastic if method else None,
        "config": _json(record.config),
        "left_out": list(record.left_out),
        "calibration_samples": _json(meters.calibration_samples),
        "packages": _json(environment.packages),
    }


def import_row(record: ImportedRecord) -> dict[str, object]:
    """Return the `runs` row of an import by column; what nobody here measured is null."""
    return {
        **dict.fromkeys(column.name for column in RUNS.columns),
        **record.model_dump(include={"job_id", "kind", "base_model", "method", "engine", "created_at"}),
        "tier": tier_of(record),
        "status": "incomplete",
        "reason": _import_reason(record),
        "track": IMPORT_TRACK,
        "track_digest": record.mapping_sha256,
        "config": _json(record.config),
        "packages": _json(record.versions),
        "sources": _json(record.sources),
        "unknown_keys": list(record.unknown_keys),
        "missing_tasks": _json(record.missing_tasks),
    }


def _import_reason(record: ImportedRecord) -> str:
    reasons = ["no headline: imported, and the specialists' scores of its world are not known"]
    if record.missing_tasks:
        reasons.append(f"missing: {', '.join(record.missing_tasks)}")
    reasons += [f"{task}: {note}" for task, part in record.tasks.items() for note in part.notes]
    return "; ".join(reasons)


def configuration_row(record: RunRecord, position: int, part: ConfigurationPart) -> dict[str, object]:
    """Return one `configurations` row by column."""
    return {
        **part.model_dump(include={"stage", "status", "reason", "runtime_s"}),
        "job_id": record.job_id,
        "position": position,
        "config": _json(part.config),
        "domains": list(part.domains),
        "validation_scores": _json(part.validation_scores),
    }


def task_row(record: AnyRecord, task: str, part: TaskPart | ImportedTaskPart) -> dict[str, object]:
    """Return one `task_scores` row by column."""
    row = {"items_file": None, "items_sha256": None, "notes": [], **part.model_dump()}
    return {"job_id": record.job_id, "task": task, **row, "other_metrics": _json(part.other_metrics)}


def _json(value: Mapping[str, object] | None) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, allow_nan=False)


def _insert(connection: duckdb.DuckDBPyConnection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows given by column; one statement, because one per row is slow."""
    if not rows:
        return
    places = "(" + ", ".join("?" for _ in table.columns) + ")"
    values = [row[column.name] for row in rows for column in table.columns]
    connection.execute(f'INSERT INTO "{table.name}" VALUES ' + ", ".join([places] * len(rows)), values)
