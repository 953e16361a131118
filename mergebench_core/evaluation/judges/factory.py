"""What a judge plugin registers: a factory, which says what the judge is and opens it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from mergebench_core.evaluation.judges.judge import Judge

UNPINNED = "unpinned"
"""Revision of a judge whose model is not opened yet, so that its commit is not known."""
NEEDS = frozenset({"gpu"})
Engine = Literal["hf", "vllm"]


def _say_nothing(_: str) -> None:
    """Take a line of progress and show it to nobody."""


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """How to open a judge. One that needs no model heeds only `revision` and `progress`."""

    revision: str | None = None
    """The revision that is wanted: a commit, branch or tag of its repository, or the digest of its rules; None for
    the default branch, or for the rules at hand."""
    engine: Engine = "hf"
    """What runs its model: transformers, or vLLM (GPU only)."""
    device: str | None = None
    """`cuda`, `cuda:1`, `cpu`; None for a GPU if there is one."""
    gpu_memory_fraction: float = 0.9
    """What vLLM may take of the GPU's memory, in (0, 1]; transformers takes what it needs."""
    progress: Callable[[str], None] = _say_nothing
    """Told one line at a time."""


class JudgeFactory(Protocol):
    """Opens one judge. Importing and registering it loads no model and no heavy library.

    One whose verdicts never say whether an answer refuses sets `says_refusals = False`; it can score no track.
    """

    @property
    def name(self) -> str:
        """snake_case, unique among all judges: what `--judge` takes."""

    @property
    def title(self) -> str:
        """As it is shown."""

    @property
    def revision(self) -> str:
        """Digest of its rules, or `unpinned` where opening finds the commit of its model."""

    @property
    def needs(self) -> frozenset[str]:
        """`gpu`, or nothing."""

    @property
    def repo(self) -> str | None:
        """Repository on the Hub that holds its model, None without a model."""

    def open(self, settings: JudgeSettings) -> Judge:
        """Return the judge, its model fetched and its revision known; the model is loaded when it first judges.

        Raises:
            MergebenchError: its model cannot be fetched, or this machine lacks what it needs.
        """
