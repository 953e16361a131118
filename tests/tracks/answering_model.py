"""A language model for tests: it gives the answers that a function names, so that tasks run without weights."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lm_eval import evaluator
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

Answers = Callable[[Mapping[str, Any]], "str | int | Sequence[str]"]


class AnsweringModel(LM):
    """Answers each item as `answers(item)` says.

    A text is what is generated; a list of texts is one per repeat of the request, in turn. Where log-likelihoods
    are asked for, a number is the index of the choice that is preferred, and a text is the continuation that is
    (spaces around it aside); it alone is greedy, and it wins under acc and acc_norm alike.
    """

    def __init__(self, answers: Answers) -> None:
        super().__init__()
        self.answers = answers
        self.requests: list[Instance] = []
        """Every request seen, in order."""

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return the answer to each request, uncut by its stop sequences."""
        self.requests += requests
        num_seen: Counter[int] = Counter()
        texts = []
        for request in requests:
            answer = self.answers(request.doc)
            assert not isinstance(answer, int), f"an item that asks for a text got {answer!r}"
            texts.append(answer if isinstance(answer, str) else answer[num_seen[id(request)] % len(answer)])
            num_seen[id(request)] += 1
        return texts

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return log-likelihood and whether it is greedy, for each continuation."""
        self.requests += requests
        return [self._likelihood(request) for request in requests]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return half a nat per character lost, for each text."""
        self.requests += requests
        return [-0.5 * len(request.args[0]) for request in requests]

    def _likelihood(self, request: Instance) -> tuple[float, bool]:
        answer = self.answers(request.doc)
        continuation = str(request.args[1])
        if isinstance(answer, int):
            is_chosen = request.idx == answer
        else:
            is_chosen = continuation.strip() == str(answer).strip()
        return -(0.001 if is_chosen else 1000.0) * max(len(continuation), 1), is_chosen


@cache
def _manager(task_folder: Path) -> tuple[TaskManager, dict[str, Any]]:
    """Index a folder once; lm-eval reads the metadata anew for each task it loads."""
    metadata: dict[str, Any] = {"suite": "full"}
    return TaskManager(include_path=str(task_folder), include_defaults=False, metadata=metadata), metadata


def evaluate(
    task: str, task_folder: Path, items_folder: Path, model: LM, suite: str = "full", num_items: int | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run one task as the harness does; return its results by key, and its sample rows."""
    manager, metadata = _manager(task_folder)
    metadata |= {"items_folder": str(items_folder), "suite": suite}
    with contextlib.redirect_stderr(io.StringIO()):
        loaded = manager.load([task])
        results = evaluator.evaluate(
            lm=model, task_dict=loaded, bootstrap_iters=0, log_samples=True, limit=num_items
        )
    assert results is not None
    return results["results"][task], results["samples"][task]
