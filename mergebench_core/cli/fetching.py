"""Commands around tracks that live on the Hub: models, models fetch, track lock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mergebench_core.cli.options import HomeOption, JsonOption, JudgeOption, ProtocolOption, TrackOption
from mergebench_core.cli.output import print_json, print_table, progress_lines

if TYPE_CHECKING:
    from mergebench_core.hub import Progress
    from mergebench_core.tracks.track import HubBase, Track


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
    protocol: ProtocolOption = "standard",
    judge: JudgeOption = None,
    home: HomeOption = None,
) -> None:
    """Fetch models, judge and data of a track.

    What is here is not fetched again: whole files are kept, and a file that was cut off starts anew.
    """
    from mergebench_core.home import writable_home
    from mergebench_core.tracks.registry import load_track
    from mergebench_core.tracks.track import HubBase
    from mergebench_core.tracks.world import WorldOptions

    world = load_track(track, WorldOptions(protocol=protocol, judge=judge))
    bases = [world.base(base)] if base else list(world.bases.values())
    names = [found.name for found in bases]
    on_hub = [found for found in bases if isinstance(found, HubBase)]
    place = writable_home(home)
    if on_hub:
        with progress_lines() as progress:
            names += _fetch(world, on_hub, place, progress, with_data=data)
    typer.echo(f"{track}: {', '.join(names)} complete")


def _fetch(
    world: Track, bases: Sequence[HubBase], home: Path, progress: Progress, *, with_data: bool
) -> list[str]:
    """Fetch bases, judge and data of a track, and return how the judge is named, if it has a model."""
    from mergebench_core.evaluation.judges.choice import check_judge, fetch_judge
    from mergebench_core.tracks.mergebench_v1.fetching import check_models, fetch_models
    from mergebench_core.tracks.mergebench_v1.lock import read_lock
    from mergebench_core.tracks.mergebench_v1.preparation import prepare_data

    lock, factory = read_lock(), check_judge(world)
    repos = [model.repo for base in bases for model in base.hub_models.values()]
    check_models([*repos, factory.repo] if factory and factory.repo else repos, lock, home, progress)
    if with_data:
        prepared = prepare_data(home, lock, progress, world.protocol)
        progress(f"data are in {prepared.folder}")
    for base in bases:
        fetch_models(base, lock, home, progress)
    return [f"judge {factory.name}"] if fetch_judge(world, home, progress) and factory else []


def lock(
    track: Annotated[str, typer.Argument(help="Name of a track that lives on the Hub.")] = "mergebench-v1",
    out: Annotated[
        Path | None, typer.Option(help="File to write. Default: the package's own.", show_default=False)
    ] = None,
) -> None:
    """Pin a track: write commits and file digests of all its repositories, as the Hub has them now."""
    from mergebench_core.errors import InputError
    from mergebench_core.evaluation.judges.choice import judge_repos
    from mergebench_core.hub import RepoKind
    from mergebench_core.tracks.mergebench_v1.lock import LOCK_FILE, check_place, make_lock, write_lock
    from mergebench_core.tracks.mergebench_v1.preparation import data_repos
    from mergebench_core.tracks.registry import load_track
    from mergebench_core.tracks.track import HubBase

    hub_bases = [base for base in load_track(track).bases.values() if isinstance(base, HubBase)]
    if not hub_bases:
        raise InputError(f"track {track} ships with the package: its files are pinned already")
    path = out or LOCK_FILE
    check_place(path)
    repos: list[tuple[RepoKind, str]] = [
        ("model", model.repo) for base in hub_bases for model in base.hub_models.values()
    ]
    repos += [("model", repo) for repo in judge_repos()]
    repos += [("dataset", repo) for repo in data_repos()]
    with progress_lines() as progress:
        found = make_lock(repos, progress)
    write_lock(path, found)
    typer.echo(f"{len(found.repos)} repositories pinned in {path}")
