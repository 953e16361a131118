"""DuckDB index of records. The records are the truth; everything here can be rebuilt from them.

    <home>/runs/<job_id>/record.json    one immutable record per job or import, its Parquet files beside it
    <home>/mergebench.duckdb            the index; writers only, one at a time
    <home>/board.duckdb                 copy for readers, swapped in whole after every change
    <home>/store.lock                   held while the index is written

An open DuckDB writer shuts out readers and the reverse, across processes: hence the copy and the lock file.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from mergebench_core.errors import StoreError
from mergebench_core.records import AnyRecord, read_any_record
from mergebench_core.tables import check_tables, check_version, create_tables, insert_record, job_ids

INDEX_NAME = "mergebench.duckdb"
BOARD_NAME = "board.duckdb"
RECORD_NAME = "record.json"

LOCKED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_unsigned_extensions": "false",
    "lock_configuration": "true",
    "memory_limit": "256MB",
    "threads": "1",
    "max_temp_directory_size": "0KB",
}
"""Settings for readers: SQL in or over the file reaches nothing outside it."""

_log = logging.getLogger("mergebench")


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a rebuild found."""

    num_records: int
    """Records in the index now."""
    problems: list[str]
    """One line per record file that was skipped."""


def record_path(home: Path, job_id: str) -> Path:
    """Return where the record of a job lies."""
    return home / "runs" / job_id / RECORD_NAME


def append_record(home: Path, record: AnyRecord) -> None:
    """Index a record in place of an earlier one of the same job, and publish the copy for readers.

    Records whose indexing was cut short by a crash are picked up too. A damaged index is rebuilt first.

    Raises:
        StoreError: the folder cannot be written, or another program has the index open.
    """
    with _writing(home):
        try:
            _index(home, record)
        except duckdb.DataError as error:
            raise StoreError(
                f"{record_path(home, record.job_id)}: does not fit the tables ({_one_line(error)}); "
                "run the job again"
            ) from None
        except duckdb.Error as error:
            _refuse_if_in_use(home, error)
            if (home / INDEX_NAME).exists():
                _log.warning("%s: rebuilding the index from the records (%s)", home, _one_line(error))
            _rebuild(home)
            _index(home, record)
        _publish(home)


def build(home: Path) -> BuildReport:
    """Rebuild index and copy from all records; a bad record is reported and left alone.

    Raises:
        StoreError: the folder cannot be written.
    """
    with _writing(home):
        report = _rebuild(home)
        _publish(home)
    return report


def open_snapshot(path: Path) -> duckdb.DuckDBPyConnection:
    """Open the readers' copy at `path`, read-only and shut off from files and network.

    Close it soon: within one process, a second connection shows the old data for as long as the first is open.

    Raises:
        StoreError: missing, damaged, or of another version.
    """
    if not path.is_file():
        raise StoreError(f"{path}: no such file; `mergebench demo` fills a first one")
    try:
        connection = duckdb.connect(path, read_only=True, config=dict(LOCKED))
    except duckdb.Error as error:
        raise StoreError(
            f"{path}: cannot be read ({_one_line(error)}); `mergebench db build` makes a new one"
        ) from None
    try:
        check_tables(connection)
    except duckdb.Error as error:
        connection.close()
        raise StoreError(
            f"{path}: cannot be read ({_one_line(error)}); `mergebench db build` makes a new one"
        ) from None
    return connection


def open_board(home: Path) -> duckdb.DuckDBPyConnection:
    """Open the readers' copy of `home`, rebuilt first if it is missing, damaged or older than the records.

    Raises:
        StoreError: there is no readable copy and none can be made.
    """
    path = home / BOARD_NAME
    if path.is_file() and not _is_stale(home):
        try:
            return open_snapshot(path)
        except StoreError:
            _log.warning("%s: damaged; it is rebuilt from the records, nothing is lost", path)
    try:
        for problem in build(home).problems:
            _log.warning("%s", problem)
    except StoreError as error:
        if not path.is_file():
            raise
        _log.warning("%s", error)
    return open_snapshot(path)


def _is_stale(home: Path) -> bool:
    """Whether a record, or a run's folder, is younger than the copy."""
    published = (home / BOARD_NAME).stat().st_mtime_ns
    runs = home / "runs"
    watched = [runs, *runs.glob(f"*/{RECORD_NAME}")] if runs.is_dir() else []
    return any(path.stat().st_mtime_ns >= published for path in watched)


@contextlib.contextmanager
def _writing(home: Path) -> Iterator[None]:
    """Hold the store's lock; turn what the system or DuckDB refuse into one line."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        with (home / "store.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, or the process ends
            yield
    except (OSError, duckdb.Error) as error:
        raise StoreError(
            f"{home}: the store cannot be written ({_one_line(error)}); choose another home"
        ) from None


def _index(home: Path, record: AnyRecord) -> None:
    """Write `record`, and records that the index does not know yet, in short transactions.

    Raises:
        duckdb.Error: the index is missing, damaged, of another version, or in use.
    """
    if not (home / INDEX_NAME).is_file():
        raise duckdb.CatalogException("no index yet")
    with duckdb.connect(home / INDEX_NAME) as connection:
        check_version(connection)
        known = job_ids(connection) | {record.job_id}
        insert_record(connection, record)
        missed = [path for path in _record_paths(home) if path.parent.name not in known]
        for problem in _insert_files(connection, missed):
            _log.warning("%s", problem)


def _rebuild(home: Path) -> BuildReport:
    """Write a new index beside the old one and swap it in."""
    index, fresh = home / INDEX_NAME, home / f"{INDEX_NAME}.new"
    _remove(fresh)
    with duckdb.connect(fresh) as connection:
        create_tables(connection)
        problems = _insert_files(connection, _record_paths(home))
        num_records = len(job_ids(connection))
    Path(f"{index}.wal").unlink(missing_ok=True)  # it belongs to the old index
    fresh.replace(index)
    return BuildReport(num_records=num_records, problems=problems)


def _publish(home: Path) -> None:
    fresh = home / f"{BOARD_NAME}.new"
    shutil.copyfile(home / INDEX_NAME, fresh)
    fresh.replace(home / BOARD_NAME)


def _insert_files(connection: duckdb.DuckDBPyConnection, paths: list[Path]) -> list[str]:
    """Index the records at `paths`; return one line for each that is skipped."""
    problems: list[str] = []
    for path in paths:
        try:
            insert_record(connection, _read_in_place(path))
        except StoreError as error:
            problems.append(str(error))
        except duckdb.DataError as error:
            problems.append(f"{path}: does not fit the tables ({_one_line(error)}); run the job again")
    return problems


def _read_in_place(path: Path) -> AnyRecord:
    record = read_any_record(path)
    if record.job_id != path.parent.name:
        raise StoreError(f"{path}: holds job {record.job_id}; a folder bears the name of its job")
    return record


def _record_paths(home: Path) -> list[Path]:
    return sorted((home / "runs").glob(f"*/{RECORD_NAME}"))


def _refuse_if_in_use(home: Path, error: duckdb.Error) -> None:
    """Stop before an index that is merely open elsewhere is taken for a damaged one."""
    if "Could not set lock" in str(error) or "different configuration" in str(error):
        raise StoreError(
            f"{home / INDEX_NAME}: open in another program ({_one_line(error)}); close it there, "
            f"or read {BOARD_NAME} instead"
        ) from None


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    Path(f"{path}.wal").unlink(missing_ok=True)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
