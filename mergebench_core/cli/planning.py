"""`mergebench plan`: what runs would cost; and the question before an expensive one."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergebench_core.cli.options import (
    EngineOption,
    HomeOption,
    JsonOption,
    JudgeOption,
    PluginOption,
    ProtocolOption,
    SuiteOption,
)
from mergebench_core.cli.output import print_json, print_table
from mergebench_core.tracks.world import WorldOptions

if TYPE_CHECKING:
    from mergebench_core.planning.jobs import JobPlan, Planner

GIB = 2**30


def plan(
    method: Annotated[
        list[str] | None, typer.Option(help="Only this method; may be repeated.", show_default=False)
    ] = None,
    base: Annotated[
        list[str] | None, typer.Option(help="Only this base; may be repeated.", show_default=False)
    ] = None,
    track: Annotated[str, typer.Option("--track", help="Name of a track.")] = "mergebench-v1",
    suite: SuiteOption = "full",
    protocol: ProtocolOption = "standard",
    engine: EngineOption = "hf",
    judge: JudgeOption = None,
    plugin: PluginOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the runs.")] = 0,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List what runs would cost before anything starts: downloads, disk, memory, evaluations, GPU hours."""
    from mergebench_core.planning.jobs import free_bytes, total
    from mergebench_core.worker.catalog import find_method, load_catalog

    planner = open_planner(
        track, WorldOptions(suite=suite, protocol=protocol, engine=engine, judge=judge), home, seed=seed
    )
    catalog = load_catalog(plugin)
    methods = [find_method(catalog, name) for name in dict.fromkeys(method)] if method else list(catalog.values())
    jobs = planner.jobs(list(dict.fromkeys(base or planner.track.bases)), methods)
    sums, free = total(jobs), free_bytes(planner.home)
    if json:
        print_json({"jobs": [dataclasses.asdict(job) for job in jobs], "total": dict(sums), "free_bytes": free})
        return
    columns = [
        "base", "job", "evaluations", "validations", "fetch GiB", "disk GiB", "memory GiB", "GPU GiB", "GPU hours",
        "from",
    ]  # fmt: skip
    print_table("", columns, [_cells(job) for job in jobs], numbers=range(2, len(columns) - 1))
    typer.echo(
        f"{len(jobs)} jobs: {sums['num_evaluations']:.0f} evaluations, {sums['num_validations']:.0f} validations, "
        f"{_cost(sums)} ({free / GIB:.0f} GiB free)"
    )
    typer.echo(
        "hours are of scoring; a method's own time is in them once it was measured here. "
        "?: the method does not say, or nothing was measured on this machine"
    )


def open_planner(track: str, options: WorldOptions, home: Path | None, *, seed: int = 0) -> Planner:
    """Return what plans jobs on a track with these options.

    Raises:
        InputError: no such track, or it does not offer an option; a judge that says nothing of refusals.
    """
    from mergebench_core.evaluation.judges.choice import check_judge
    from mergebench_core.home import home_folder
    from mergebench_core.planning.jobs import plan_for
    from mergebench_core.tracks.registry import load_track

    world = load_track(track, options)
    check_judge(world)
    return plan_for(world, home_folder(home), seed=seed)


def ask(jobs: Sequence[JobPlan], is_sure: bool) -> None:
    """Ask before jobs that take long or fetch much.

    Raises:
        InputError: there is nobody to ask.
        typer.Abort: the answer was no.
    """
    from mergebench_core.errors import InputError
    from mergebench_core.planning.jobs import ASK_ABOVE_BYTES, ASK_ABOVE_HOURS, total

    sums = total(jobs)
    if is_sure or (sums["hours"] <= ASK_ABOVE_HOURS and sums["download_bytes"] <= ASK_ABOVE_BYTES):
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise InputError(f"this takes {_cost(sums)}; `mergebench plan` lists it; give --yes to start")
    typer.confirm(f"this takes {_cost(sums)}. Start?", abort=True, err=True)


def _cost(sums: Mapping[str, float]) -> str:
    return (
        f"{sums['download_bytes'] / GIB:.0f} GiB to fetch, {sums['disk_bytes'] / GIB:.0f} GiB of disk beside, "
        f"about {sums['hours']:.1f} GPU hours"
    )


def _cells(job: JobPlan) -> list[str]:
    origin = "done" if job.is_done else "own runs" if job.is_measured else "estimate"
    return [
        job.base,
        job.method or job.kind,
        str(job.num_evaluations),
        f"{job.num_validations:g}",
        _gib(job.download_bytes),
        _gib(job.disk_bytes),
        _gib(job.peak_memory_bytes),
        _gib(job.peak_gpu_bytes),
        "?" if job.hours is None else f"{job.hours:.1f}",
        origin,
    ]


def _gib(num_bytes: int | None) -> str:
    if num_bytes is None:
        return "?"
    return f"{num_bytes / GIB:.1f}" if 0 < num_bytes < 10 * GIB else f"{num_bytes / GIB:.0f}"
