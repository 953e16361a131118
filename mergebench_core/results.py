"""Rows for command line and leaderboard: every number derived from the store, in one place.

Denominators come from the reference records of the same world, base model and commits of its models, so rows of
different worlds never meet. A world is one tier, track digest, suite, protocol, judge and engine. All scores are
fractions of 1.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb

from mergebench_core.imports.mapping import GENERAL_TASKS, tasks_by_domain
from mergebench_core.records import AnyRecord, RunRecord
from mergebench_core.scoring import Denominators, ModelScores, Suite, TaskScore, score_model
from mergebench_core.tables import create_tables, insert_record

SPECIALIST = "specialist:"
REFERENCE_TITLES = {"base": "Base model", "multitask": "Multi-task model"}
Tier = Literal["measured", "self-reported", "published"]
"""How far a number is to be trusted, worked out by whoever read it: a run of this installation's runner, results
measured elsewhere and imported, figures from a paper."""
TIERS: tuple[Tier, ...] = ("measured", "self-reported", "published")
WORLD_COLUMNS = ("tier", "track_digest", "track_suite", "track_protocol", "judge", "engine")


@dataclass(frozen=True, kw_only=True)
class BoardRow:
    """One run as it is shown. None means: not measured, or not derivable from what was."""

    job_id: str
    track: str
    track_digest: str
    world: str
    """Name of the world; ranks, denominators and comparisons stay within one world and base model."""
    tier: Tier
    suite: str | None
    protocol: str | None
    judge: str | None
    engine: str | None
    base_model: str
    models_sha256: str | None
    """Digest of the commits of base and specialists, where they come from the Hub: one base at other commits is
    another place for denominators and ranks."""
    base_label: str
    """The base as it is shown: with the digest's first seven digits where a world has it at several commits."""
    kind: Literal["merge", "reference", "evaluation", "import", "published"]
    label: str
    """Method name, reference name (`base`, `specialist:<domain>`, `multitask`) or label of the evaluation."""
    title: str
    variant: str
    """First seven digits of the method's source digest; tells versions of one method apart. Empty otherwise."""
    plugin: str | None
    status: Literal["completed", "failed", "over_budget", "incomplete"]
    reason: str | None
    seed: int | None
    is_ranked: bool
    """A completed merge with a headline, measured here."""
    headline: float | None
    """Mean normalized performance over the domains."""
    task_first: float | None
    """The same, normalized per task first; a check."""
    is_reduced: bool
    """The headline leaves out domains whose specialist is near the floor."""
    removed: tuple[str, ...]
    """These domains."""
    normalized: Mapping[str, float | None]
    """Normalized performance by domain."""
    raw: Mapping[str, float | None]
    """Domain score by domain."""
    generalization: float | None
    """Mean over the general tasks, each relative to the base model."""
    raw_generalization: float | None
    algorithm_runtime_s: float | None
    validation_runtime_s: float | None
    evaluation_runtime_s: float | None
    worker_peak_rss_bytes: int | None
    gpu_peak_bytes: int | None = None
    """None: no GPU, or not measured."""
    validations: float | None
    config: Mapping[str, bool | int | float | str] | None
    weights_sha256: str | None
    hardware_class: str | None
    created_at: str


def board_rows(
    connection: duckdb.DuckDBPyConnection, *, track: str | None = None, base: str | None = None
) -> list[BoardRow]:
    """Return the rows of the store, per world and base: ranked, other completed, failed, references.

    Args:
        connection: an open store, such as `open_snapshot` gives.
        track: only this track.
        base: only this base model.
    """
    runs = _fetch(
        connection,
        "SELECT * FROM runs WHERE track = coalesce(?, track) AND base_model = coalesce(?, base_model)",
        [track, base],
    )
    tasks = _tasks_by_job(connection)
    worlds: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for run in runs:
        run["tasks"] = tasks.get(run["job_id"], [])
        world = tuple(run[column] for column in (*WORLD_COLUMNS, "base_model", "models_sha256"))
        worlds.setdefault(world, []).append(run)
    bases = Counter(place[:-1] for place in worlds)
    found = (row for place, runs in worlds.items() for row in _rows_of_world(runs, is_only=bases[place[:-1]] == 1))
    return sorted(found, key=_order)


def row_for(record: AnyRecord, reference_records: Iterable[RunRecord]) -> BoardRow:
    """Return the row of one record, measured against the references among `reference_records`."""
    with duckdb.connect() as connection:
        create_tables(connection)
        for each in (*reference_records, record):
            insert_record(connection, each)
        return next(row for row in board_rows(connection) if row.job_id == record.job_id)


def to_dict(row: BoardRow) -> dict[str, Any]:
    """Return the row as plain data for JSON; it holds no NaN."""
    return dataclasses.asdict(row)


def _fetch(
    connection: duckdb.DuckDBPyConnection, query: str, values: Sequence[object] = ()
) -> list[dict[str, Any]]:
    cursor = connection.execute(query, list(values))
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _tasks_by_job(connection: duckdb.DuckDBPyConnection) -> dict[str, list[dict[str, Any]]]:
    """Return task rows by job, in the order of the record."""
    by_job: dict[str, list[dict[str, Any]]] = {}
    for row in _fetch(connection, "SELECT * FROM task_scores ORDER BY rowid"):
        by_job.setdefault(row["job_id"], []).append(row)
    return by_job


def _rows_of_world(runs: Sequence[dict[str, Any]], *, is_only: bool) -> list[BoardRow]:
    """Return the rows of one world, base and commits of its models; `is_only`: the world has it at no others."""
    suite, against = _suite(runs), _denominators(runs)
    return [_row(run, score_model(_scores(run), suite, against), is_only=is_only) for run in runs]


def _suite(runs: Sequence[dict[str, Any]]) -> Suite:
    """Collect the tasks that any of the runs has: within one track digest every complete run has them all.

    Imports may all lack the same task, so theirs is the suite of the table of keys.
    """
    if any(run["kind"] == "import" for run in runs):
        return Suite(domains=tasks_by_domain(), general=GENERAL_TASKS)
    domains: dict[str, dict[str, None]] = {}
    general: dict[str, None] = {}
    for task in (task for run in runs for task in run["tasks"]):
        if task["purpose"] == "test":
            domains.setdefault(str(task["domain"]), {})[task["task"]] = None
        else:
            general[task["task"]] = None
    return Suite(domains={domain: tuple(tasks) for domain, tasks in domains.items()}, general=tuple(general))


def _denominators(runs: Iterable[dict[str, Any]]) -> Denominators:
    """Take the latest completed run of each reference model."""
    references = {
        run["model"]: run
        for run in sorted(runs, key=lambda run: (run["created_at"], run["job_id"]))
        if run["kind"] == "reference" and run["status"] == "completed"
    }
    specialists = {
        model.removeprefix(SPECIALIST): _scores(run)
        for model, run in references.items()
        if model.startswith(SPECIALIST)
    }
    return Denominators(specialists=specialists, base=_scores(references["base"]) if "base" in references else {})


def _scores(run: Mapping[str, Any]) -> dict[str, TaskScore]:
    """Return scores by task; without a count of items a score is never divided by."""
    return {
        task["task"]: TaskScore(score=task["score"], num_items=task["num_items"] or 0) for task in run["tasks"]
    }


def _row(run: Mapping[str, Any], scores: ModelScores, *, is_only: bool) -> BoardRow:
    is_complete = run["status"] == "completed"
    label = run["method"] or run["model"] or run["kind"]
    shared = {field.name: run[field.name] for field in dataclasses.fields(BoardRow) if field.name in run}
    derived = {field.name: getattr(scores, field.name) for field in dataclasses.fields(ModelScores)}
    for name in ("removed_domains", "removed_tasks", "removed_general"):
        del derived[name]
    if not is_complete:  # a run that stopped half-way has parts, never a mean
        derived |= {"headline": None, "task_first": None, "generalization": None, "raw_generalization": None}
    values: dict[str, Any] = {
        **shared,
        **derived,
        "suite": run["track_suite"],
        "protocol": run["track_protocol"],
        "world": world_name(run),
        "base_label": run["base_model"] + ("" if is_only else f" {(run['models_sha256'] or '')[:7]}"),
        "label": label,
        "title": run["method_title"] or _reference_title(label),
        "variant": (run["source_sha256"] or "")[:7],
        "is_ranked": run["tier"] == "measured"
        and run["kind"] == "merge"
        and is_complete
        and scores.headline is not None,
        "is_reduced": bool(scores.removed_domains),
        "removed": scores.removed_domains,
        "config": None if run["config"] is None else json.loads(run["config"]),
    }
    return BoardRow(**values)


def _reference_title(label: str) -> str:
    if label.startswith(SPECIALIST):
        return f"Specialist: {label.removeprefix(SPECIALIST)}"
    return REFERENCE_TITLES.get(label, label)


def world_name(run: Mapping[str, Any]) -> str:
    """Return how a world is called: who measured, track, digest, and whatever is not the default."""
    parts = [] if run["tier"] == "measured" else [run["tier"]]
    parts += [run["track"], run["track_digest"][:8]]
    parts += [run["track_suite"]] if run["track_suite"] not in (None, "full") else []
    parts += [f"protocol {run['track_protocol']}"] if run["track_protocol"] not in (None, "standard") else []
    parts += [f"judge {run['judge']}"] if run["judge"] is not None else []
    parts += [run["engine"]] if run["engine"] not in (None, "hf") else []
    return " · ".join(parts)


def _order(row: BoardRow) -> tuple[object, ...]:
    """Sort within world and base: ranked, other completed runs, those that did not complete, references."""
    if row.kind == "reference":
        group = 3
    elif row.status != "completed":
        group = 2
    else:
        group = 0 if row.is_ranked else 1
    headline = -math.inf if row.headline is None else row.headline
    return (
        *(TIERS.index(row.tier), row.track, row.track_digest, row.world, row.base_label),
        *(group, -headline, row.label, row.seed or 0, row.job_id),
    )
