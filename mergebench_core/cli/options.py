"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
