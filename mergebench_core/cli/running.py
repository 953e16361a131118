"""Commands that compute: demo, reference, run, evaluate, track build."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mergebench_core.cli.options import (
    BaseOption,
    EngineOption,
    HomeOption,
    IsolationOption,
    JsonOption,
    JudgeOption,
    PluginOption,
    ProtocolOption,
    SuiteOption,
    TrackOption,
    YesOption,
)
from mergebench_core.cli.output import print_board, print_json, progress_lines
from mergebench_core.cli.planning import ask, open_planner
from mergebench_core.tracks.registry import load_track
from mergebench_core.tracks.world import WorldOptions

DEFAULT_PORT = 7860


def demo(
    home: HomeOption = None,
    base: Annotated[str | None, typer.Option(help="Only this base model.", show_default=False)] = None,
    serve: Annotated[bool, typer.Option(help="Serve the leaderboard afterwards.")] = True,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the leaderboard.")] = DEFAULT_PORT,
    min_isolation: IsolationOption = None,
    json: JsonOption = False,
) -> None:
    """Score three methods on every base of the embedded track, print the table, serve the leaderboard."""
    from mergebench_core import api
    from mergebench_core.cli.board import leaderboard, leaderboard_app
    from mergebench_core.demo import METHODS, run_demo, run_demo_on
    from mergebench_core.results import to_dict

    if serve:
        leaderboard_app().check_port("127.0.0.1", port)
    with progress_lines() as progress:
        if base is None:
            run_demo(home, progress)
        else:
            run_demo_on(base, home, progress)
    found = api.results(home=home, track=api.DEFAULT_TRACK, base=base)
    digest = load_track(api.DEFAULT_TRACK).digest
    rows = [row for row in found if row.track_digest == digest and row.is_ranked and row.label in METHODS]
    if json:
        print_json([to_dict(row) for row in rows])
    else:
        print_board(rows, _domains(api.DEFAULT_TRACK))
    if serve:
        leaderboard(home=home, port=port)


def run(
    method: Annotated[str, typer.Argument(help="Name of a merging method.", show_default=False)],
    base: BaseOption,
    track: TrackOption = "mini-v1",
    suite: SuiteOption = "full",
    protocol: ProtocolOption = "standard",
    engine: EngineOption = "hf",
    judge: JudgeOption = None,
    yes: YesOption = False,
    plugin: PluginOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the run.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the merging worker.")] = 1,
    memory_limit: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="GiB for the worker. Default: three quarters of the machine's.", show_default=False
        ),
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=0.001, help="Hours for the worker to prepare and merge.")
    ] = 24.0,
    min_isolation: IsolationOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Score a merging method: merge, tune on surrogate tasks, evaluate, record. Resumes where it was."""
    from mergebench_core import api
    from mergebench_core.isolation.policy import GIB, MethodLimits
    from mergebench_core.tuning import config_text
    from mergebench_core.worker.catalog import find_method, load_catalog

    options = WorldOptions(suite=suite, protocol=protocol, engine=engine, judge=judge)
    is_on_hub = bool(load_track(track, options).base(base).hub_models)
    found = find_method(load_catalog(plugin), method)
    if is_on_hub:
        ask(open_planner(track, options, home, seed=seed).jobs([base], [found]), yes)
    memory_bytes = None if memory_limit is None else int(memory_limit * GIB)
    limits = MethodLimits(memory_bytes=memory_bytes, time_s=time_limit * 3600)
    with (
        progress_lines() as progress,
        api.open_bench(
            base, track=track, options=options, home=home, progress=progress, num_threads=threads, limits=limits
        ) as bench,
    ):
        (result,) = api.run_on(bench, [found], seed=seed)
    if json:
        print_json(result.to_dict())
    else:
        print_board([result.row], _domains(track))
        typer.echo(f"configuration: {config_text(result.record.config or {}) or 'nothing to choose'}")
        typer.echo(f"merged model and record: {result.folder}")


def reference(
    base: BaseOption,
    track: TrackOption = "mini-v1",
    suite: SuiteOption = "full",
    protocol: ProtocolOption = "standard",
    engine: EngineOption = "hf",
    judge: JudgeOption = None,
    yes: YesOption = False,
    min_isolation: IsolationOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Score a base, its specialists and its multi-task model as they are: the denominators."""
    from mergebench_core import api

    options = WorldOptions(suite=suite, protocol=protocol, engine=engine, judge=judge)
    if load_track(track, options).base(base).hub_models:
        ask(open_planner(track, options, home).jobs([base], []), yes)
    with progress_lines() as progress:
        found = api.reference(base=base, track=track, options=options, home=home, progress=progress)
    if json:
        print_json([result.to_dict() for result in found])
    else:
        print_board([result.row for result in found], _domains(track))


def evaluate(
    path: Annotated[Path, typer.Argument(help="Folder of a safetensors checkpoint.", show_default=False)],
    base: BaseOption,
    track: TrackOption = "mini-v1",
    suite: SuiteOption = "full",
    protocol: ProtocolOption = "standard",
    engine: EngineOption = "hf",
    judge: JudgeOption = None,
    yes: YesOption = False,
    min_isolation: IsolationOption = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Score any checkpoint that has the base's tensors. The result is recorded but never ranked."""
    from mergebench_core import api

    options = WorldOptions(suite=suite, protocol=protocol, engine=engine, judge=judge)
    if load_track(track, options).base(base).hub_models:
        planner = open_planner(track, options, home)
        ask([*planner.jobs([base], []), planner.evaluation(base)], yes)
    with progress_lines() as progress:
        result = api.evaluate(path, base=base, track=track, options=options, home=home, progress=progress)
    if json:
        print_json(result.to_dict())
    else:
        print_board([result.row], _domains(track))


def _domains(track: str) -> tuple[str, ...]:
    return load_track(track).domains
