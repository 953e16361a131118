"""Scoring by lm-eval's evaluator on the resident model. Every task of a track is an lm-eval task."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from mergebench_core.errors import InputError
from mergebench_core.evaluation.libraries import settle_libraries
from mergebench_core.evaluation.resident import ResidentModel
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
    """Generated text, or the log-likelihoods of the choices as JSON."""
    score: float


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """Score of one task, the mean of its items' scores, in [0, 1]."""

    task: Task
    score: float
    rows: tuple[ItemRow, ...]


class Harness:
    """Runs a track's tasks on a resident model, one task at a time.

    One at a time because lm-eval batches across tasks: a task's padding, and with it the last bits of its logits,
    must not depend on its company.
    """

    def __init__(self, track: Track, resident: ResidentModel) -> None:
        settle_libraries()
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        self._settings = track.evaluation
        self._manager = TaskManager(include_path=str(track.task_folder), include_defaults=False)
        self._loaded: dict[str, Any] = {}
        self._model = HFLM(
            pretrained=resident.model,
            tokenizer=resident.tokenizer,
            batch_size=self._settings.batch_size,
            max_length=self._settings.max_length,
            add_bos_token=True,
        )

    def score(self, task: Task) -> TaskResult:
        """Score the resident model on one task.

        Raises:
            InputError: the task gave another number of items than the track says.
        """
        import torch
        from lm_eval import evaluator

        if task.name not in self._loaded:
            self._loaded[task.name] = self._manager.load([task.name])
        torch.set_num_threads(self._settings.num_threads)
        torch.manual_seed(0)
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars cannot be switched off
            results = evaluator.evaluate(
                lm=self._model, task_dict=self._loaded[task.name], bootstrap_iters=0, log_samples=True
            )
        metric, _, filter_name = task.metric.partition(",")
        samples = [row for row in results["samples"][task.name] if row["filter"] == filter_name]
        rows = tuple(sorted((_row(sample, metric) for sample in samples), key=lambda row: row.doc_id))
        if len(rows) != task.num_items:
            raise InputError(
                f"task {task.name} gave {len(rows)} items, the track says {task.num_items}; reinstall"
            )
        return TaskResult(task=task, score=sum(row.score for row in rows) / len(rows), rows=rows)


def _row(sample: dict[str, Any], metric: str) -> ItemRow:
    document = sample["doc"]
    responses = [response[0] for response in sample["resps"]]
    output = responses[0] if isinstance(responses[0], str) else json.dumps([float(r[0]) for r in responses])
    return ItemRow(
        doc_id=int(sample["doc_id"]),
        item_id=str(document.get("id", sample["doc_id"])),
        cluster=str(document.get("cluster", sample["doc_id"])),
        prompt_sha256=str(sample["prompt_hash"]),
        output=output,
        score=float(sample[metric]),
    )
