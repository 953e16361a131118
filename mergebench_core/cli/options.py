"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from mergebench_core.isolation.level import VARIABLE
from mergebench_core.tracks.world import EngineName, Protocol, Suite


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
SuiteOption = Annotated[
    Suite, typer.Option("--suite", help="`lite` scores fixed subsets of the larger sets; its rows stay apart.")
]
ProtocolOption = Annotated[
    Protocol,
    typer.Option(
        "--protocol", help="`paper` tunes as the released code does, on test items; its rows stay apart."
    ),
]
EngineOption = Annotated[
    EngineName, typer.Option("--engine", help="What runs the models: transformers (hf) or vLLM.")
]
JudgeOption = Annotated[
    str | None,
    typer.Option(
        "--judge",
        help="Who reads the answers of safety tasks; rows of different judges stay apart. Default: the track's.",
        show_default=False,
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before many GPU hours or large downloads.")]
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
