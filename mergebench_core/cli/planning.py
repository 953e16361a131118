"""`mergebench plan`: what runs would cost; and the question before an expensive one."""

from __future__ import annotations

import dataclasses
import sys
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
    from mergebench_core.planning import JobPlan

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
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List what runs would cost before anything starts: downloads, disk, memory, evaluations, GPU hours."""
    from mergebench_core.home import home_folder
    from mergebench_core.planning import free_bytes, total

    options = (
        None if track == "mini-v1" else WorldOptions(suite=suite, protocol=protocol, engine=engine, judge=judge)
    )
    jobs = planned(track, options, base or None, method or None, plugin, home)
    sums, free = total(jobs), free_bytes(home_folder(home))
    if json:
        print_json({"jobs": [dataclasses.asdict(job) for job in jobs], "total": dict(sums), "free_bytes": free})
        return
    columns = [
        "base",
        "job",
        "evaluations",
        "validations",
        "fetch GiB",
        "keep GiB",
        "GPU GiB",
        "GPU hours",
        "from",
    ]
    print_table("", columns, [_cells(job) for job in jobs])
    typer.echo(
        f"{len(jobs)} jobs: {sums['num_evaluations']:.0f} evaluations, {sums['num_validations']:.0f} validations, "
        f"{sums['download_bytes'] / GIB:.0f} GiB to fetch, {sums['disk_bytes'] / GIB:.0f} GiB to keep "
        f"({free / GIB:.0f} GiB free), about {sums['hours']:.1f} GPU hours"
    )


def planned(
    track: str,
    options: WorldOptions | None,
    bases: list[str] | None,
    methods: list[str] | None,
    plugin: Path | None,
    home: Path | None,
) -> list[JobPlan]:
    """Return the jobs of methods (None: all) on bases (None: all) of a track, references included."""
    from mergebench_core.home import home_folder
    from mergebench_core.planning import plan_jobs, run_records
    from mergebench_core.tracks.registry import load_track
    from mergebench_core.worker.catalog import find_method, load_catalog

    world = load_track(track, options)
    catalog = {} if methods == [] else load_catalog(plugin)
    chosen = list(catalog.values()) if methods is None else [find_method(catalog, name) for name in methods]
    names = [world.base(name).name for name in bases] if bases else list(world.bases)
    return plan_jobs(world, names, chosen, run_records(home_folder(home)))


def ask(jobs: list[JobPlan], is_sure: bool) -> None:
    """Ask before jobs that take long.

    Raises:
        InputError: there is nobody to ask.
        typer.Abort: the answer was no.
    """
    from mergebench_core.errors import InputError
    from mergebench_core.planning import ASK_ABOVE_HOURS, total

    sums = total(jobs)
    if is_sure or sums["hours"] <= ASK_ABOVE_HOURS:
        return
    cost = (
        f"about {sums['hours']:.1f} GPU hours, {sums['download_bytes'] / GIB:.0f} GiB to fetch, "
        f"{sums['disk_bytes'] / GIB:.0f} GiB to keep"
    )
    if not sys.stdin.isatty():
        raise InputError(f"this takes {cost}; `mergebench plan` lists it; give --yes to start")
    typer.confirm(f"this takes {cost}. Start?", abort=True, err=True)


def _cells(job: JobPlan) -> list[str]:
    origin = "done" if job.is_done else "own runs" if job.is_measured else "estimate"
    return [
        job.base,
        job.method or "references",
        str(job.num_evaluations),
        f"{job.num_validations:g}",
        f"{job.download_bytes / GIB:.0f}",
        f"{job.disk_bytes / GIB:.0f}",
        f"{job.peak_gpu_bytes / GIB:.0f}",
        f"{job.hours:.1f}",
        origin,
    ]
