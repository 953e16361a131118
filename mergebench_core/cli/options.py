"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mergebench_core.isolation.level import VARIABLE


def _demand(level: int | None) -> int | None:
    """Let every sandbox of this process, and of those that it starts, be at least that strong."""
    if level is not None:
        os.environ[VARIABLE] = str(level)
    return level


HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Where state lives. Default: MERGEBENCH_HOME, else the user data folder.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
TrackOption = Annotated[str, typer.Option("--track", help="Name of a track.")]
BaseOption = Annotated[str, typer.Option("--base", help="Name of a base model of the track.", show_default=False)]
PluginOption = Annotated[
    Path | None,
    typer.Option(
        "--plugin", help="A Python file that registers methods, or a mergekit recipe.", show_default=False
    ),
]
IsolationOption = Annotated[
    int | None,
    typer.Option(
        "--min-isolation",
        min=0,
        max=3,
        callback=_demand,
        help=f"Run no foreign code in a weaker sandbox (0 to 3). Default: {VARIABLE}, else 0.",
        show_default=False,
    ),
]
