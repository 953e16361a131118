"""`mergebench track build`: recreate an embedded track from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mergebench_core.cli.output import progress_lines


def build(
    track: Annotated[str, typer.Argument(help="Name of an embedded track.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Empty folder to build into.", show_default=False)],
) -> None:
    """Train an embedded track's models and draw its data anew, with its recipe and seeds."""
    from mergebench_core.errors import InputError
    from mergebench_core.tracks.registry import load_track

    if load_track(track).name != "mini-v1":
        raise InputError(f"track {track} is made of published models; `mergebench train` makes a specialist")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: not empty; give a new folder to --out")
    try:
        import trl  # noqa: F401
    except ImportError:
        raise InputError("building a track trains models: pip install 'mergebench[run,train]'") from None
    from mergebench_core.tracks.mini_v1.recipe.building import build as build_track

    with progress_lines() as progress:
        build_track(out, progress=progress)
    typer.echo(f"built {track} in {out}")
