"""Scoring by lm-eval's evaluator on an engine's model. Every task of a track is an lm-eval task, or several."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mergebench_core.errors import InputError, MergebenchError
from mergebench_core.evaluation.engines.engine import Engine
from mergebench_core.evaluation.libraries import settle_libraries
from mergebench_core.evaluation.session import Session, within
from mergebench_core.tracks.track import Task, Track


@dataclass(frozen=True, kw_only=True)
class ItemRow:
    """What a model did with one item."""

    doc_id: int
    item_id: str
    cluster: str
    """Items of one cluster share their origin; their errors are not independent."""
    prompt_sha256: str
    output: str
    """Generated text, a JSON list of several, or the log-likelihoods of the choices as JSON."""
    score: float
    part: str = ""
    """lm-eval's name of the task's part that the item belongs to."""


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """Score of one task: the mean of its items' scores, or of its parts' means, in [0, 1]."""

    task: Task
    score: float
    rows: tuple[ItemRow, ...]
    other_metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """What lm-eval made of one of its tasks."""

    rows: tuple[ItemRow, ...]
    other_metrics: Mapping[str, float]

    @property
    def score(self) -> float:
        """The mean over the items."""
        return sum(row.score for row in self.rows) / len(self.rows)


class Harness:
    """Runs a track's tasks on an engine's model, one lm-eval task at a time.

    One at a time because lm-eval batches across tasks: a task's padding, and with it the last bits of its logits,
    must not depend on its company.
    """

    def __init__(self, track: Track, engine: Engine, session: Session | None = None) -> None:
        settle_libraries()
        from lm_eval.tasks import TaskManager

        self._settings = track.evaluation
        self._engine = engine
        self._session = session or Session()
        metadata = {"items_folder": str(track.items_folder), "suite": track.suite} if track.items_folder else None
        self._manager = TaskManager(include_path=str(track.task_folder), include_defaults=False, metadata=metadata)
        self._loaded: dict[str, Any] = {}

    def score(self, task: Task) -> TaskResult:
        """Score the model on one task.

        Raises:
            InputError: the task gave another number of items than the track says.
        """
        parts = [self._score_part(task, name) for name in task.part_names]
        rows = tuple(row for part in parts for row in part.rows)
        if len(rows) != task.num_items:
            raise InputError(
                f"task {task.name} gave {len(rows)} items, the track says {task.num_items}; reinstall"
            )
        return TaskResult(
            task=task,
            score=sum(part.score for part in parts) / len(parts),
            rows=rows,
            other_metrics={
                key: sum(part.other_metrics[key] for part in parts) / len(parts)
                for key in task.other_metrics
                if all(key in part.other_metrics for part in parts)
            },
        )

    def _score_part(self, task: Task, name: str) -> PartResult:
        results = self._evaluate(task, name)
        metric, _, filter_name = task.metric.partition(",")
        chosen = sorted(
            (sample for sample in results["samples"][name] if sample["filter"] == filter_name),
            key=lambda row: int(row["doc_id"]),
        )
        if not chosen:
            raise InputError(f"task {name} gave no items; reinstall")
        is_sampled = task.decoding is not None and task.decoding.num_samples > 1
        return PartResult(
            rows=tuple(_row(sample, metric, name if task.parts else "", is_sampled) for sample in chosen),
            other_metrics={
                key: float(results["results"][name][key])
                for key in task.other_metrics
                if key in results["results"][name]
            },
        )

    def _evaluate(self, task: Task, name: str) -> dict[str, Any]:
        """Return lm-eval's results: aggregated metrics, and a row per item and filter."""
        import torch
        from lm_eval import evaluator

        if name not in self._loaded:
            self._loaded[name] = self._manager.load([name])
        torch.set_num_threads(self._settings.num_threads)
        torch.manual_seed(0)
        model = self._engine.language_model()
        is_generated = task.decoding is not None
        size = self._settings.generation_batch_size if is_generated else None
        self._engine.set_batch_size(size or self._settings.batch_size)
        has_template = task.is_instruction and self._session.prompt_format == "chat"
        try:
            with (
                within(self._session),
                contextlib.redirect_stderr(io.StringIO()),
            ):  # its bars cannot be switched off
                results: dict[str, Any] = evaluator.evaluate(
                    lm=model,
                    task_dict=self._loaded[name],
                    bootstrap_iters=0,
                    log_samples=True,
                    apply_chat_template=has_template,
                )
        except torch.OutOfMemoryError:
            raise MergebenchError(
                f"task {name}: the GPU has too little memory for this model; use a larger one, or --engine vllm"
            ) from None
        return results


def _row(sample: dict[str, Any], metric: str, part: str, is_sampled: bool) -> ItemRow:
    document = sample["doc"]
    return ItemRow(
        doc_id=int(sample["doc_id"]),
        item_id=str(document.get("id", sample["doc_id"])),
        cluster=str(document.get("cluster", sample["doc_id"])),
        prompt_sha256=str(sample["prompt_hash"]),
        output=_output(sample["resps"], is_sampled),
        score=float(sample[metric]),
        part=part,
    )


def _output(responses: list[Any], is_sampled: bool) -> str:
    """Return what a model gave for one item as text; lm-eval nests answers by request and repeat."""
    if is_sampled:
        return json.dumps(responses[0], ensure_ascii=False)
    firsts = [response[0] for response in responses]
    return firsts[0] if isinstance(firsts[0], str) else json.dumps([float(first[0]) for first in firsts])
