"""Commands around tracks that live on the Hub: models, models fetch, track lock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mergebench_core.cli.options import HomeOption, JsonOption, TrackOption
from mergebench_core.cli.output import print_json, print_table, progress_lines


def models(context: typer.Context, track: TrackOption = "mini-v1", json: JsonOption = False) -> None:
    """List the base models of a track with their specialists and reference models; `fetch` brings them here."""
    if context.invoked_subcommand is not None:
        return
    from mergebench_core.tracks.registry import load_track

    found = [row for base in load_track(track).bases.values() for row in _rows(base)]
    if json:
        print_json(found)
        return
    columns = (
        ["base", "model", "family", "path"]
        if "path" in found[0]
        else ["base", "model", "repo", "licence", "gated"]
    )
    shown = [[_cell(row[column]) for column in columns] for row in found]
    print_table("", columns, shown)


def _rows(base: Any) -> list[dict[str, Any]]:
    from mergebench_core.tracks.track import HubBase

    if not isinstance(base, HubBase):
        return [
            {"base": base.name, "model": name, "family": base.family, "path": str(path)}
            for name, path in base.models().items()
        ]
    return [
        {
            "base": base.name,
            "model": name,
            "family": base.family,
            "size": base.size,
            "is_instruct": base.is_instruct,
            "num_parameters": model.num_parameters,
            "repo": model.repo,
            "revision": model.revision,
            "licence": model.licence,
            "gated": model.is_gated,
        }
        for name, model in base.hub_models.items()
    ]


def _cell(value: object) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def fetch(
    track: Annotated[
        str, typer.Option("--track", help="Name of a track that lives on the Hub.")
    ] = "mergebench-v1",
    base: Annotated[str | None, typer.Option(help="Only this base model.", show_default=False)] = None,
    data: Annotated[bool, typer.Option(help="Fetch and prepare the data as well.")] = True,
    home: HomeOption = None,
) -> None:
    """Fetch models and data of a track; what is here is not fetched again, what was cut off goes on."""
    from mergebench_core.home import writable_home
    from mergebench_core.tracks.mergebench_v1.fetching import fetch_models
    from mergebench_core.tracks.mergebench_v1.lock import read_lock
    from mergebench_core.tracks.mergebench_v1.preparation import prepare_data
    from mergebench_core.tracks.registry import load_track
    from mergebench_core.tracks.track import HubBase

    world = load_track(track)
    bases = [world.base(base)] if base else list(world.bases.values())
    place = writable_home(home)
    with progress_lines() as progress:
        if data and any(isinstance(found, HubBase) for found in bases):
            prepared = prepare_data(place, read_lock(), progress)
            progress(f"data are in {prepared.folder}")
        for found in bases:
            if isinstance(found, HubBase):
                fetch_models(found, read_lock(), place, progress)
    typer.echo(f"{track}: {', '.join(found.name for found in bases)} complete")


def lock(
    track: Annotated[str, typer.Argument(help="Name of a track that lives on the Hub.")] = "mergebench-v1",
    out: Annotated[
        Path | None, typer.Option(help="File to write. Default: the package's own.", show_default=False)
    ] = None,
) -> None:
    """Pin a track: write commits and file digests of all its repositories, as the Hub has them now."""
    from mergebench_core.errors import InputError
    from mergebench_core.hub import RepoKind
    from mergebench_core.tracks.mergebench_v1.lock import LOCK_FILE, make_lock, write_lock
    from mergebench_core.tracks.mergebench_v1.preparation import data_repos
    from mergebench_core.tracks.registry import load_track
    from mergebench_core.tracks.track import HubBase

    hub_bases = [base for base in load_track(track).bases.values() if isinstance(base, HubBase)]
    if not hub_bases:
        raise InputError(f"track {track} ships with the package: its files are pinned already")
    repos: list[tuple[RepoKind, str]] = [
        ("model", model.repo) for base in hub_bases for model in base.hub_models.values()
    ]
    repos += [("dataset", repo) for repo in data_repos()]
    with progress_lines() as progress:
        found = make_lock(repos, progress)
    path = out or LOCK_FILE
    write_lock(path, found)
    typer.echo(f"{len(found.repos)} repositories pinned in {path}")
