"""What the command line does, for notebooks and scripts.

Example:
    >>> from mergebench_core import api                                     # doctest: +SKIP
    >>> api.run("task_arithmetic", base="mini-llama").headline              # doctest: +SKIP
    0.917
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergebench_core.home import writable_home
from mergebench_core.records import RunRecord
from mergebench_core.tracks.registry import check_access, fetch_track, load_track
from mergebench_core.tracks.world import WorldOptions

if TYPE_CHECKING:
    from mergebench_core.hyperparameters import Hyperparameter
    from mergebench_core.isolation.policy import MethodLimits
    from mergebench_core.merging.merge import MergeResult
    from mergebench_core.results import BoardRow
    from mergebench_core.workbench import Progress, Workbench

DEFAULT_TRACK = "mini-v1"


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A record with the numbers derived from it."""

    record: RunRecord
    row: BoardRow
    folder: Path
    """Where record, items and, for merges, the merged weights lie."""

    @property
    def headline(self) -> float | None:
        """Mean normalized performance over the domains; None if incomplete."""
        return self.row.headline

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values, with status, weights_sha256 and the derived numbers at its top."""
        document = self.record.model_dump(mode="json")
        top = {
            "schema_version": document.pop("schema_version"),
            "status": document.pop("status"),
            "weights_sha256": document.pop("weights_sha256"),
            "headline": self.row.headline,
            "normalized": dict(self.row.normalized),
            "generalization": self.row.generalization,
            "folder": str(self.folder),
        }
        return top | document


def _quiet(message: str) -> None:
    """Show no progress."""


def open_bench(
    base: str,
    *,
    track: str = DEFAULT_TRACK,
    options: WorldOptions | None = None,
    home: Path | None = None,
    progress: Progress = _quiet,
    num_threads: int = 1,
    limits: MethodLimits | None = None,
) -> Workbench:
    """Return a workbench on one base; several runs can share it and load the model once.

    Models and data of a track on the Hub are fetched first. Use it as a context manager: the block's end frees
    what the engine holds in memory, on the GPU and on disk.

    Raises:
        InputError: no such track, base or option, or something cannot be fetched.
        StoreError: the home cannot be written.
    """
    from mergebench_core.evaluation.engines.engine import check_engine
    from mergebench_core.evaluation.judges.choice import check_judge, open_judge
    from mergebench_core.evaluation.libraries import allow_network
    from mergebench_core.workbench import Workbench

    world = load_track(track, options)
    place = writable_home(home)
    check_engine(world.engine)  # what is missing here is said before gigabytes are fetched
    allow_network()
    factory = check_judge(world)
    is_named = "@" in (world.judge or "")  # of that revision the judge's own fetching says what is wrong
    check_access(world, base, place, progress, factory.repo if factory and not is_named else None)
    world, judge = open_judge(world, place, progress)
    world = fetch_track(world, base, place, progress)
    return Workbench(
        track=world,
        base=base,
        home=place,
        progress=progress,
        num_threads=num_threads,
        limits=limits,
        judge=judge,
    )


def run(
    method: str,
    *,
    base: str,
    track: str = DEFAULT_TRACK,
    options: WorldOptions | None = None,
    plugin: Path | None = None,
    seed: int = 0,
    home: Path | None = None,
    progress: Progress = _quiet,
    num_threads: int = 1,
    limits: MethodLimits | None = None,
) -> RunResult:
    """Score a merging method on one base of a track; does nothing again that was finished before.

    Args:
        method: name of a method.
        base: name of a base of the track.
        track: name of the track.
        options: suite, protocol, engine and judge, where the track offers a choice.
        plugin: a Python file that registers the method, or a file that a plugin reads, if it is not installed.
        seed: seed of the run.
        home: where state lives; default as for the command line.
        progress: called with lines of progress.
        num_threads: threads of the worker; results of exact methods do not depend on it.
        limits: memory and time that the method may use.

    Raises:
        EngineError: the engine failed; nothing is recorded, and the same call goes on.
        InputError: an unknown name, or a plugin or model that cannot be used.
        RunError: the method failed; a record says why.
    """
    from mergebench_core.worker.catalog import find_method, load_catalog

    found = find_method(load_catalog(plugin), method)  # before hours of fetching
    with open_bench(
        base,
        track=track,
        options=options,
        home=home,
        progress=progress,
        num_threads=num_threads,
        limits=limits,
    ) as bench:
        return run_on(bench, [found], seed=seed)[0]


def run_on(bench: Workbench, methods: Sequence[Any], *, seed: int = 0) -> list[RunResult]:
    """Score catalog methods one after the other on a workbench."""
    from mergebench_core.reference import run_references
    from mergebench_core.runner import run_method

    records = [run_method(bench, method, seed=seed) for method in methods]
    references = run_references(bench)
    return [_result(bench, record, references) for record in records]


def reference(
    *,
    base: str,
    track: str = DEFAULT_TRACK,
    options: WorldOptions | None = None,
    home: Path | None = None,
    progress: Progress = _quiet,
) -> list[RunResult]:
    """Score a base, its specialists and reference models as they are: the denominators of every headline."""
    from mergebench_core.reference import run_references

    with open_bench(base, track=track, options=options, home=home, progress=progress) as bench:
        records = run_references(bench)
        return [_result(bench, record, records) for record in records]


def evaluate(
    path: Path,
    *,
    base: str,
    track: str = DEFAULT_TRACK,
    options: WorldOptions | None = None,
    home: Path | None = None,
    progress: Progress = _quiet,
) -> RunResult:
    """Score a checkpoint that has the base's tensors. Its row is never ranked: nobody knows how it was made.

    Raises:
        CheckpointError: it cannot be read or does not fit the base.
    """
    from mergebench_core.reference import evaluate_checkpoint, run_references

    with open_bench(base, track=track, options=options, home=home, progress=progress) as bench:
        checkpoint = evaluate_checkpoint(bench, Path(path))
        return _result(bench, checkpoint, run_references(bench))


def merge(
    method: str,
    *,
    base: str | Path,
    specialists: Mapping[str, str | Path],
    out: str | Path,
    settings: Mapping[str, Hyperparameter] | None = None,
    samples: Mapping[str, Path] | None = None,
    plugin: Path | None = None,
    seed: int = 0,
    num_threads: int | None = None,
    force: bool = False,
    push: str | None = None,
    private: bool = False,
    progress: Progress = _quiet,
) -> MergeResult:
    """Merge own models into a folder that transformers loads; goes on where an interrupted merge was.

    Args:
        method: name of a method.
        base: what all specialists were fine-tuned from: a folder, or `owner/name[@revision]` on the Hub.
        specialists: fine-tuned models by domain; domains are names of your choice.
        out: new folder for the merged model.
        settings: hyper-parameters; defaults where it says nothing.
        samples: JSON-lines files of calibration samples by domain, for methods that read some.
        plugin: a Python file that registers the method, if it is not installed.
        seed: seed of methods that draw random numbers.
        num_threads: threads of the worker; by default all cores for exact methods, whose results do not depend on
            it, else one.
        force: whether to replace what is in `out`.
        push: repository on the Hub to upload the result to.
        private: whether that repository is made private.
        progress: called with lines of progress.

    Raises:
        InputError: an unknown name, a bad setting, or models that do not fit together.
        RunError: the method or the push failed.
    """
    from mergebench_core.merging.merge import MergeOrder, merge_models

    order = MergeOrder(
        method=method,
        base=str(base),
        specialists={domain: str(model) for domain, model in specialists.items()},
        out=Path(out),
        settings=settings or {},
        seed=seed,
        num_threads=num_threads,
        plugin=plugin,
        samples=samples or {},
        is_forced=force,
        push=push,
        is_private=private,
    )
    return merge_models(order, progress)


def results(*, track: str | None = None, base: str | None = None, home: Path | None = None) -> list[BoardRow]:
    """Return what was measured so far, as the leaderboard shows it."""
    from mergebench_core.results import board_rows
    from mergebench_core.store import open_board

    connection = open_board(writable_home(home))
    try:
        return board_rows(connection, track=track, base=base)
    finally:
        connection.close()


def _result(bench: Workbench, record: RunRecord, references: list[RunRecord]) -> RunResult:
    from mergebench_core.results import row_for

    folder = bench.home / "runs" / record.job_id
    return RunResult(record=record, row=row_for(record, references), folder=folder)
