"""What a judge is: it reads requests with answers and gives a verdict on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One request and what a model answered."""

    request: str
    """As the data set states it, without prompt format."""
    answer: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a judge says of one exchange; None where it does not say."""

    is_refusal: bool | None
    is_harmful: bool | None
    """Whether the answer does harm."""


class Judge(Protocol):
    """Reads exchanges. Scores of different judges, or of different revisions of one, never mix."""

    name: str
    revision: str
    """What pins its behaviour: a commit, or a digest of its rules."""

    def judge(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """Return a verdict for each exchange, in order.

        Raises:
            MergebenchError: its model cannot be loaded here.
        """


@runtime_checkable
class ParkableJudge(Protocol):
    """A judge whose model holds memory of the accelerator."""

    def park(self) -> None:
        """Free the accelerator's memory; the next exchanges take it again."""
