"""What the functions of a task need to know beyond its items; lm-eval passes them nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from mergebench_core.errors import MergebenchError
from mergebench_core.evaluation.judges.judge import Judge
from mergebench_core.tracks.track import PromptFormat


@dataclass(frozen=True, kw_only=True)
class Session:
    """One scoring of one model."""

    prompt_format: PromptFormat = "plain"
    """How requests of instruction tasks reach the model."""
    judge: Judge | None = None
    cache_folder: Path | None = None
    """Where what is dear to compute and does not depend on the model may be kept; None to keep nothing."""

    def require_judge(self) -> Judge:
        """Return the judge.

        Raises:
            MergebenchError: there is none.
        """
        if self.judge is None:
            raise MergebenchError("a task needs a judge and none is set; choose one with --judge")
        return self.judge


_CURRENT: ContextVar[Session] = ContextVar("session", default=Session())  # noqa: B039 - frozen


def current() -> Session:
    """Return the session that scoring takes place in."""
    return _CURRENT.get()


@contextmanager
def within(session: Session) -> Iterator[None]:
    """Score within `session` inside the block."""
    token = _CURRENT.set(session)
    try:
        yield
    finally:
        _CURRENT.reset(token)
