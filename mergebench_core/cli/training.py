"""`mergebench train`: train a specialist of the paper, or the multi-task model, from a base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergebench_core.cli.options import JsonOption
from mergebench_core.cli.output import print_json, progress_lines

if TYPE_CHECKING:
    from mergebench_core.training.bases import StartingModel


def train(
    base: Annotated[
        str, typer.Option(help="A base model of mergebench-v1 by name, a folder, or owner/name[@revision].")
    ],
    domain: Annotated[
        str,
        typer.Option(help="instruction, math, multilingual, coding or safety; all for the multi-task model."),
    ],
    out: Annotated[Path, typer.Option(help="New folder for the trained model.", show_default=False)],
    method: Annotated[str, typer.Option(help="sft, or grpo: math on the 8B and 9B models, after sft.")] = "sft",
    sft: Annotated[
        Path | None, typer.Option(help="With --method grpo: folder that sft wrote.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the order of the data.")] = 0,
    per_device_batch: Annotated[
        int, typer.Option(help="Examples that one device takes at once; the global batch stays 128.")
    ] = 1,
    save_steps: Annotated[int, typer.Option(help="Write a checkpoint every so many steps.")] = 200,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many steps, for a trial. Default: the paper's epochs.", show_default=False
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train a specialist with the paper's data and settings, or the multi-task model (--domain all).

    Goes on from the last checkpoint when interrupted. On several GPUs: accelerate launch -m mergebench_core train.
    """
    from mergebench_core.training.bases import find_start
    from mergebench_core.training.document import notes
    from mergebench_core.training.plan import TrainingRequest
    from mergebench_core.training.runs import train as run

    request = TrainingRequest(
        base=find_start(base, _paper_base),
        domain=domain,
        method=method,
        out=out,
        seed=seed,
        sft=sft,
        per_device_batch_size=per_device_batch,
        num_steps_between_saves=save_steps,
        num_steps=steps,
    )
    with progress_lines() as progress:
        result = run(request, progress)
    if not result.document:
        return
    if json:
        print_json(result.document)
        return
    for note in notes(result.document):
        typer.echo(f"note: {note}")
    typer.echo(f"weights sha256: {result.document['weights_sha256']}")
    typer.echo(f"trained model: {result.folder}" + ("" if result.is_new else " (there already)"))


def _paper_base(name: str) -> StartingModel:
    """Return a base of the track by name; its own error says which there are."""
    from mergebench_core.tracks.mergebench_v1.bases import find_base
    from mergebench_core.training.bases import StartingModel

    model = find_base(name).hub_models["base"]
    return StartingModel(given=name, repo=model.repo, revision=model.revision, size_b=model.num_parameters / 1e9)
