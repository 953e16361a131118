"""The reference page of records and store tables, written from the models so that it cannot fall behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mergebench_core.published import PublishedResult
from mergebench_core.records import ImportedRecord, RunRecord
from mergebench_core.tables import TABLES, Table

INTRODUCTION = """\
# Records and store

A run leaves `runs/<job_id>/record.json` in the home folder: the truth, never changed. Scores are fractions of 1,
times seconds, sizes bytes. Derived numbers (normalized performance, ranks) are computed when shown, never stored.
`mergebench import` leaves an ImportedRecord there. Figures that the paper printed ship with the package as
PublishedResults. How far each is to be trusted (its tier) stands in none of them: whoever reads it works that out.
"""

STORE_INTRODUCTION = """\
## Store

`mergebench.duckdb` indexes the records and can be rebuilt from them at any time. Readers open `board.duckdb`, a
copy that is swapped in whole. Only numbers that stand in a record are in it.
"""


def render_schema() -> str:
    """Return the markdown of the page: every part of a record, then every table."""
    parts: list[str] = []
    for record in (RunRecord, ImportedRecord, PublishedResult):
        schema = record.model_json_schema(mode="serialization")
        parts += [_part(record.__name__, schema, level=2)]
        parts += [_part(name, part, level=3) for name, part in schema["$defs"].items()]
    return "\n".join([INTRODUCTION, *parts, STORE_INTRODUCTION, *map(_table, TABLES)])


def _part(name: str, schema: Mapping[str, Any], level: int) -> str:
    rows = [
        (f"`{field}`", _kind(entry), _line(entry.get("description", "")))
        for field, entry in schema["properties"].items()
    ]
    meaning = _line(schema.get("description", ""))
    return f"{'#' * level} {name}\n\n{meaning}\n\n{_grid(('field', 'type', 'meaning'), rows)}"


def _table(table: Table) -> str:
    rows = [(f"`{column.name}`", f"`{column.type}`", column.meaning) for column in table.columns]
    key = ", ".join(f"`{name}`" for name in table.key)
    return f"### {table.name}\n\n{table.meaning} Key: {key}.\n\n{_grid(('column', 'type', 'meaning'), rows)}"


def _kind(entry: Mapping[str, Any]) -> str:
    """Describe a JSON schema entry in a few words."""
    if "$ref" in entry:
        name = entry["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in entry:
        return f"`{entry['const']!r}`"
    if "enum" in entry:
        return " or ".join(f"`{value}`" for value in entry["enum"])
    if "anyOf" in entry:
        return " or ".join(dict.fromkeys(_kind(choice) for choice in entry["anyOf"]))
    if entry.get("type") == "array":
        return f"list of {_kind(entry.get('items', {}))}"
    if entry.get("type") == "object":
        return f"object of {_kind(entry.get('additionalProperties', {}))}"
    return _scalar(entry)


def _scalar(entry: Mapping[str, Any]) -> str:
    name = str(entry.get("type", "anything"))
    bounds = [f"≥ {entry['minimum']:g}"] if "minimum" in entry else []
    bounds += [f"≤ {entry['maximum']:g}"] if "maximum" in entry else []
    pattern = [f"matching `{entry['pattern']}`"] if "pattern" in entry else []
    return " ".join([name, *pattern]) + (f" ({', '.join(bounds)})" if bounds else "")


def _grid(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _line(text: str) -> str:
    return " ".join(text.split())
