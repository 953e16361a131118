"""Choices that make one track several worlds, whose rows never share a ranking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Suite = Literal["full", "lite"]
Protocol = Literal["standard", "paper"]
EngineName = Literal["hf", "vllm"]


@dataclass(frozen=True, kw_only=True)
class WorldOptions:
    """What a user may choose of a track that offers it; an embedded track offers nothing."""

    suite: Suite = "full"
    protocol: Protocol = "standard"
    engine: EngineName = "hf"
    judge: str | None = None
    """Name of the judge; None for the track's own."""
