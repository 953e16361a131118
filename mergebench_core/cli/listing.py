"""Commands that list: methods, tracks, judges, results."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mergebench_core.cli.options import HomeOption, JsonOption, PluginOption, SuiteOption
from mergebench_core.cli.output import print_board, print_json, print_table

if TYPE_CHECKING:
    from mergebench_core.tracks.track import Task, Track
    from mergebench_core.worker.catalog import CatalogMethod


def methods(
    name: Annotated[str | None, typer.Argument(help="Show this one in full.", show_default=False)] = None,
    plugin: PluginOption = None,
    json: JsonOption = False,
) -> None:
    """List the merging methods: bundled, installed, and those of --plugin; or show one in full."""
    from mergebench_core.worker.catalog import find_method, load_catalog

    catalog = load_catalog(plugin)
    if name is not None:
        catalog = {name: find_method(catalog, name)}
    if json:
        print_json([_method_values(entry) for entry in catalog.values()])
        return
    if name is not None:
        _show_method(catalog[name])
        return
    rows = [
        [
            name,
            entry.description.title,
            ", ".join(sorted(entry.description.needs)) or "-",
            str(entry.description.search_space.num_configurations),
            entry.description.determinism,
            entry.description.plugin,
            entry.description.paper_url,
        ]
        for name, entry in catalog.items()
    ]
    print_table("", ["method", "title", "needs", "runs", "determinism", "plugin", "paper"], rows)


def _method_values(entry: CatalogMethod) -> dict[str, object]:
    space = entry.description.search_space
    counts = {"num_runs": space.num_configurations, "source_sha256": entry.source_sha256}
    return entry.description.model_dump(mode="json") | counts


def _show_method(entry: CatalogMethod) -> None:
    found = entry.description
    stages = (" x ".join(f"{key} {values}" for key, values in stage.parameters.items()) for stage in found.stages)
    lines = {
        "paper": found.paper_url,
        "variant of": found.variant_of,
        "builds on": ", ".join(found.builds_on),
        "formula": found.formula,
        "needs": ", ".join(sorted(found.needs)) or "nothing",
        "search": "; ".join(stage for stage in stages if stage),
        "runs": str(found.search_space.num_configurations),
        "linear in": found.linear_in or "",
        "stays the base's": ", ".join(sorted(found.base_roles)) or "nothing",
        "determinism": found.determinism + (", depends on the seed" if found.is_stochastic else ""),
        "cost": found.cost,
        "fidelity": found.fidelity,
        "plugin": found.plugin,
    }
    print_table(f"{found.name}: {found.title}", ["", ""], [[label, text] for label, text in lines.items() if text])
    if found.parameters:
        rows = [
            [f"{key}_<domain>" if given.is_per_domain else key, str(given.default), given.allowed(), given.meaning]
            for key, given in found.parameters.items()
        ]
        print_table("hyper-parameters", ["name", "default", "allowed", "meaning"], rows)


def tracks(suite: SuiteOption = "full", json: JsonOption = False) -> None:
    """List the tracks and their tasks.

    The digest is that of a track's definition. Records of a track on the Hub have another: that of what was
    fetched, data and judge.
    """
    from mergebench_core.tracks.registry import TRACK_NAMES, load_track
    from mergebench_core.tracks.world import WorldOptions

    # an embedded track has one suite
    worlds = [load_track(name, None if name == "mini-v1" else WorldOptions(suite=suite)) for name in TRACK_NAMES]
    if json:
        print_json([_track_values(world) for world in worlds])
        return
    for world in worlds:
        title = f"{world.name}: {world.title} (bases {', '.join(world.bases)}; definition {world.digest[:12]})"
        rows = [
            [
                task.name,
                task.purpose,
                task.domain or "-",
                str(task.num_items),
                f"{100 * task.chance:.0f}",
                task.metric,
                str(task.decoding or "-"),
                task.title,
            ]
            for task in world.tasks
        ]
        columns = ["task", "purpose", "domain", "items", "chance", "metric", "decoding", "what it asks"]
        print_table(title, columns, rows)


def _track_values(world: Track) -> dict[str, object]:
    return {
        "track": world.name,
        "title": world.title,
        "definition_digest": world.digest,
        "suite": world.suite,
        "domains": list(world.domains),
        "bases": list(world.bases),
        "num_calibration_samples": world.num_calibration_samples,
        "max_validations": world.max_validations,
        "judge": world.judge,
        "evaluation": dataclasses.asdict(world.evaluation),
        "tasks": [_task_values(world, task) for task in world.tasks],
    }


def _task_values(world: Track, task: Task) -> dict[str, object]:
    return {
        "name": task.name,
        "title": task.title,
        "purpose": task.purpose,
        "domain": task.domain,
        "parts": list(task.part_names),
        "num_items": task.num_items,
        "metric": task.metric,
        "other_metrics": list(task.other_metrics),
        "num_shots": task.num_shots,
        "decoding": dataclasses.asdict(task.decoding) if task.decoding else None,
        "judge": world.judge if task.is_judged else None,
        "chance": task.chance,
    }


def judges(json: JsonOption = False) -> None:
    """List the judges that `--judge` takes: those of installed packages."""
    from mergebench_core.evaluation.judges.registry import list_judges

    found: list[dict[str, Any]] = [
        {
            "name": judge.name,
            "title": judge.title,
            "needs": sorted(judge.needs),
            "repo": judge.repo,
            "revision": judge.revision,
            "says_refusals": getattr(judge, "says_refusals", True),
        }
        for judge in list_judges()
    ]
    if json:
        print_json(found)
        return
    rows = [
        [
            judge["name"],
            judge["title"],
            ", ".join(judge["needs"]) or "-",
            judge["repo"] or "-",
            judge["revision"],
            "yes" if judge["says_refusals"] else "no, harm only",
        ]
        for judge in found
    ]
    print_table("", ["judge", "title", "needs", "model", "revision", "can score a track"], rows)


def results(
    track: Annotated[str | None, typer.Option(help="Only this track.", show_default=False)] = None,
    base: Annotated[str | None, typer.Option(help="Only this base model.", show_default=False)] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List what was measured so far; apart from it, what was imported and what the paper printed."""
    from mergebench_core import api
    from mergebench_core.cli.importing import print_elsewhere
    from mergebench_core.imports.mapping import BASES
    from mergebench_core.published import published_rows
    from mergebench_core.results import to_dict
    from mergebench_core.tracks.registry import load_track

    if base is not None and (track is not None or base not in BASES):
        load_track(track or api.DEFAULT_TRACK).base(base)
    found = api.results(track=load_track(track).name if track else None, base=base, home=home)
    rows = [row for row in found if row.tier == "measured"]
    elsewhere = [row for row in found if row.tier != "measured"]
    elsewhere += published_rows(base=base) if track in (None, "mergebench-v1") else []
    if json:
        print_json([to_dict(row) for row in [*rows, *elsewhere]])
        return
    if rows:
        domains = dict.fromkeys(domain for row in rows for domain in row.normalized)
        print_board(rows, list(domains))
    else:
        typer.echo("no results yet: `mergebench demo` makes some")
    print_elsewhere(elsewhere)
