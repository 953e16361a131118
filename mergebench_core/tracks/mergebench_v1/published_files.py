"""Rows of published data: splits on the Hub, files of GitHub repositories; errors in one line."""

from __future__ import annotations

import csv
import errno
import gzip
import hashlib
import http.client
import io
import json
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mergebench_core import hub
from mergebench_core.errors import InputError
from mergebench_core.home import write_atomic
from mergebench_core.tracks.mergebench_v1.item_sets import FileSource, HubSource, Row, Source

FILES_ENDPOINT = "MERGEBENCH_FILES_ENDPOINT"
"""Environment variable: an address in place of GitHub's, for machines that reach a mirror only."""
DEFAULT_ENDPOINT = "https://github.com"
TIMEOUT_S = 60.0
MAX_BYTES = 2**30
CHANGED = "the published data changed, update mergebench"


def read_rows(source: Source, revision: str | None, folder: Path) -> list[Row]:
    """Return the rows of a source, with every column that is read.

    Args:
        source: where they are.
        revision: commit of a repository on the Hub; ignored for files, whose path names it.
        folder: where fetched files are kept.

    Raises:
        InputError: missing or closed repository, no network, a file that differs from its digest, missing columns.
    """
    rows = hub_rows(source, revision) if isinstance(source, HubSource) else file_rows(source, folder)
    if not rows:
        raise InputError(f"{name_of(source)}: no rows; {CHANGED}")
    check_columns(source, rows[0])
    return rows


def check_columns(source: Source, columns: Iterable[str]) -> None:
    """Check that a source has every column that is read.

    Raises:
        InputError: one is missing.
    """
    known = sorted(columns)
    if missing := sorted(set(source.columns) - set(known)):
        raise InputError(f"{name_of(source)}: no column '{missing[0]}' among {', '.join(known)}; {CHANGED}")


def name_of(source: Source) -> str:
    """Return how messages and records name a source."""
    if isinstance(source, FileSource):
        return f"{source.repo}/{source.path}"
    return "/".join(part for part in (source.repo, source.config, source.split) if part)


def hub_rows(source: HubSource, revision: str | None) -> list[Row]:
    """Return the rows of a split on the Hub, fetched through the local cache."""
    with _explained(source):
        return (
            _split_rows(source, revision) if source.file is None else _parquet_rows(source, source.file, revision)
        )


def _parquet_rows(source: HubSource, file: str, revision: str | None) -> list[Row]:
    import pyarrow.parquet
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        path = hf_hub_download(source.repo, file, repo_type="dataset", revision=revision)
    except RemoteEntryNotFoundError:
        raise ValueError(f"no file '{file}'") from None
    check_columns(source, pyarrow.parquet.read_schema(path).names)
    rows: list[Row] = pyarrow.parquet.read_table(path, columns=list(source.columns)).to_pylist()
    return rows


def _split_rows(source: HubSource, revision: str | None) -> list[Row]:
    from datasets import disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetNotFoundError

    disable_progress_bars()
    try:
        found = load_dataset(source.repo, source.config, split=source.split, revision=revision)
    except DatasetNotFoundError:
        hub.check_access("dataset", source.repo, revision)  # says why
        raise
    _check_revision(source, revision, found.cache_files)
    check_columns(source, found.column_names)
    columns = found.select_columns(list(source.columns))[:]  # twenty times faster than row by row
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


@contextmanager
def _explained(source: HubSource) -> Iterator[None]:
    """Turn what goes wrong with a split inside the block into one line."""
    from datasets.exceptions import DatasetsError

    what = f"data set {name_of(source)}"
    with hub.one_line(what, InputError), hub.quiet():
        try:
            yield
        except (OSError, ValueError, RuntimeError, DatasetsError) as error:
            if problem := _disk_problem(error):
                raise InputError(f"{what}: {problem}") from None
            if isinstance(error, OSError | UnicodeEncodeError):  # of the Hub, or of its token
                raise
            raise InputError(f"{what}: {_innermost(error)}; {CHANGED}") from None


def _disk_problem(error: BaseException) -> str | None:
    """Return what the system said of a file, which `datasets` hides in errors of its own; None if it did not."""
    chain = [error] if isinstance(error, OSError) else list(_chain(error))
    for found in chain:
        if isinstance(found, OSError) and found.errno:
            where = f": {found.filename}" if found.filename else ""
            if found.errno == errno.ENOSPC:
                return f"no room on the disk{where}; free some room, or set HF_HOME to another disk"
            return f"{found.strerror}{where}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _innermost(error: BaseException) -> str:
    """Return what the first of the errors that led to this one says."""
    while error.__cause__:
        error = error.__cause__
    return " ".join(str(error).split())[:200] or type(error).__name__


def _check_revision(source: HubSource, revision: str | None, cache_files: Sequence[Mapping[str, Any]]) -> None:
    """Refuse another revision, which `datasets` takes from its cache with a warning if the Hub does not answer."""
    found = {Path(file["filename"]).parent.name for file in cache_files}
    if revision is not None and found - {revision}:
        raise InputError(
            f"data set {name_of(source)}: revision {revision[:12]} is not in the local cache and the Hub does not "
            "answer; check the network and HF_HUB_OFFLINE"
        )


def file_rows(source: FileSource, folder: Path) -> list[Row]:
    """Return the rows of a file: JSON lines, JSON list or object, CSV, any of them gzipped."""
    content = fetch_file(source, folder)
    try:
        text = (gzip.decompress(content) if source.path.endswith(".gz") else content).decode("utf-8-sig")
        rows = parse_rows(text, source.path.removesuffix(".gz"))
        if not all(isinstance(row, Mapping) for row in rows):
            raise ValueError("its rows are no tables of fields")
        return rows
    except (ValueError, EOFError, OSError, csv.Error, zlib.error) as error:
        raise InputError(
            f"{name_of(source)}: cannot be read ({error}); delete it from {folder} to fetch it again"
        ) from None


def parse_rows(text: str, path: str) -> list[Row]:
    """Return the rows of a text by the ending of its path.

    A JSON object becomes rows `{"key", "value"}`; a plain text one row `{"line"}` for each line.

    Raises:
        ValueError: not in that form.
    """
    if path.endswith(".jsonl"):
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    if path.endswith(".json"):
        found: Any = json.loads(text)
        if isinstance(found, Mapping):
            return [{"key": key, "value": value} for key, value in found.items()]
        return list(found)
    if path.endswith((".csv", ".tsv")):
        return list(
            csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if path.endswith(".tsv") else ",")
        )
    return [{"line": line} for line in text.splitlines()]


def fetch_file(source: FileSource, folder: Path) -> bytes:
    """Return a file's content, from `folder` if it was fetched before.

    Raises:
        InputError: no network, no such file, or another content than pinned.
        StoreError: it cannot be kept.
    """
    kept = folder / f"{hashlib.sha256(name_of(source).encode()).hexdigest()[:16]}-{Path(source.path).name}"
    if kept.is_file() and has_digest(kept.read_bytes(), source):
        return kept.read_bytes()
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise InputError(
            f"{name_of(source)}: not fetched yet, and HF_HUB_OFFLINE forbids it; unset HF_HUB_OFFLINE"
        )
    content = download(source)
    if not has_digest(content, source):
        raise InputError(
            f"{name_of(source)}: differs from its pinned digest; it was changed on the way or at its source"
        )
    write_atomic(kept, content)
    return content


def has_digest(content: bytes, source: FileSource) -> bool:
    """Return whether a content is the pinned one; any is where nothing is pinned."""
    return source.sha256 is None or hashlib.sha256(content).hexdigest() == source.sha256


def download(source: FileSource) -> bytes:
    """Fetch a file."""
    endpoint = os.environ.get(FILES_ENDPOINT, DEFAULT_ENDPOINT).rstrip("/")
    url = f"{endpoint}/{source.repo}/{source.path}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            content: bytes = response.read(MAX_BYTES)
            expected = int(response.headers.get("Content-Length") or len(content))
        if len(content) == expected:
            return content
        reason = f"{len(content)} of {expected} bytes came"
    except urllib.error.HTTPError as error:
        reason = f"status {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = str(getattr(error, "reason", error)) or type(error).__name__
    raise InputError(
        f"{url}: cannot be fetched ({reason}); check the network, or name a mirror in {FILES_ENDPOINT}"
    )


def write_items(path: Path, items: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON lines, whole or not at all."""
    lines = [json.dumps(item, ensure_ascii=False, allow_nan=False) for item in items]
    write_atomic(path, "\n".join(lines) + "\n")
