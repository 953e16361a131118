"""`mergebench merge`: merge own models into a folder that transformers loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mergebench_core.cli.options import IsolationOption, JsonOption, PluginOption
from mergebench_core.cli.output import print_json, progress_lines
from mergebench_core.errors import InputError


def merge(
    method: Annotated[str, typer.Argument(help="Name of a merging method.", show_default=False)],
    base: Annotated[
        str, typer.Option(help="The model all others were fine-tuned from: a folder, or owner/name[@revision].")
    ],
    specialist: Annotated[
        list[str],
        typer.Option(metavar="DOMAIN=MODEL", help="A fine-tuned model: folder or Hub id. Once for each."),
    ],
    out: Annotated[Path, typer.Option(help="New folder for the merged model.", show_default=False)],
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A hyper-parameter. Once for each.")
    ] = None,
    samples: Annotated[
        list[str] | None,
        typer.Option(metavar="DOMAIN=FILE", help='Calibration samples: lines {"prompt", "completion"}.'),
    ] = None,
    plugin: PluginOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of methods that draw random numbers.")] = 0,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Threads of the merging worker. Default: all cores where the result cannot depend on it, else 1.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in the output folder.")] = False,
    push: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="Upload the merged model to the Hub.", show_default=False),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the pushed repository private.")] = False,
    min_isolation: IsolationOption = None,
    json: JsonOption = False,
) -> None:
    """Merge own models, from folders or the Hub, into a folder that transformers loads.

    Goes on where it was when interrupted.
    """
    from mergebench_core import api
    from mergebench_core.tuning import config_text

    with progress_lines() as progress:
        result = api.merge(
            method,
            base=base,
            specialists=_pairs(specialist, "--specialist", "--specialist math=PATH"),
            out=out,
            settings=_pairs(setting or [], "--set", "--set name=value"),
            samples={
                domain: Path(path)
                for domain, path in _pairs(samples or [], "--samples", "--samples math=FILE.jsonl").items()
            },
            plugin=plugin,
            seed=seed,
            num_threads=threads,
            force=force,
            push=push,
            private=private,
            progress=progress,
        )
    if json:
        print_json(result.to_dict())
        return
    recipe = result.recipe
    for kind in ("warning", "note"):
        for text in recipe[f"{kind}s"]:
            typer.echo(f"{kind}: {text}")
    note = f" (not tuned: {', '.join(result.untuned)}; choose with --set)" if result.untuned else ""
    typer.echo(f"configuration: {config_text(recipe['configuration']) or 'nothing to choose'}{note}")
    typer.echo(f"kept from the base: {len(recipe['left_out'])} tensors (embeddings, head, buffers)")
    typer.echo(f"weights sha256: {result.weights_sha256}")
    typer.echo(f"merged model: {result.folder}" + ("" if result.is_new else " (there already)"))
    if result.pushed_to:
        typer.echo(f"pushed to: {result.pushed_to}")


def _pairs(texts: list[str], option: str, example: str) -> dict[str, str]:
    from mergebench_core.merging.recipe import split_setting

    found: dict[str, str] = {}
    for text in texts:
        name, value = split_setting(text, option, example)
        if name in found:
            raise InputError(f"{option} {text}: '{name}' is given twice")
        found[name] = value
    return found
