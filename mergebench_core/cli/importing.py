"""What was measured elsewhere: `mergebench import`, and tables of imports and of published figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mergebench_core.cli.options import HomeOption, JsonOption
from mergebench_core.cli.output import plain, print_json, print_table

if TYPE_CHECKING:
    from mergebench_core.hyperparameters import Hyperparameter
    from mergebench_core.records import ImportedRecord
    from mergebench_core.results import BoardRow


def import_results(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Output of the released scripts: lm_eval.json, code_eval.json, safety_eval.json or some of them.",
            show_default=False,
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(help="Name of the base model. Default: what the files name.", show_default=False),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Name of the merging method. Default: what the files name.", show_default=False),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A hyper-parameter of the method. Once for each."),
    ] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Import results of the released MergeBench scripts. They are marked self-reported and never ranked."""
    from mergebench_core.home import writable_home
    from mergebench_core.imports.importing import import_folder

    settings = _settings(config or []) if config else None
    done = import_folder(folder, home=writable_home(home), base=base, method=method, config=settings)
    _report(done.record)
    if json:
        print_json(done.record.model_dump(mode="json"))
        return
    rows = [
        [task, part.domain or "-", f"{100 * part.score:.1f}", str(part.num_items or "-"), part.metric]
        for task, part in done.record.tasks.items()
    ]
    print_table("", ["task", "domain", "score", "items", "from"], rows, numbers=range(2, 4))
    typer.echo(f"{done.record.method} on {done.record.base_model}, self-reported: never ranked, no headline")
    typer.echo(f"record: {done.path}" + ("" if done.is_new else " (there already)"))


def _report(record: ImportedRecord) -> None:
    """Say on stderr what was left out, what limits the scores, and what the files say otherwise."""
    from mergebench_core.imports.files import method_of

    named = method_of(record.model_path) if record.model_path else None
    if named not in (None, record.method):
        typer.echo(f"note: the files name the method {named}; kept as {record.method}, as --method says", err=True)
    for key in record.unknown_keys:
        typer.echo(f"unknown key: {plain(key)}", err=True)
    for reason in dict.fromkeys(record.missing_tasks.values()):
        tasks = ", ".join(task for task, why in record.missing_tasks.items() if why == reason)
        typer.echo(f"missing: {tasks} ({reason})", err=True)
    for task, part in record.tasks.items():
        for note in part.notes:
            typer.echo(f"note: {task}: {note}", err=True)


def _settings(texts: list[str]) -> dict[str, Hyperparameter]:
    from mergebench_core.errors import InputError

    found: dict[str, Hyperparameter] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise InputError(f"--config {text}: write --config name=value")
        if name in found:
            raise InputError(f"--config {text}: '{name}' is given twice")
        found[name] = _value(value)
    return found


def _value(text: str) -> Hyperparameter:
    """Read a value as JSON writes it; anything else is a text."""
    from json import loads

    try:
        found = loads(text)
    except ValueError:
        return text
    return found if isinstance(found, bool | int | float | str) else text


def print_elsewhere(rows: Sequence[BoardRow]) -> None:
    """Print imports and published figures, a table for each world and apart from everything measured."""
    for world in dict.fromkeys(row.world for row in rows):
        found = [row for row in rows if row.world == world]
        if found[0].tier == "published":
            _print_published(world, found)
        else:
            _print_imports(world, found)


def _print_imports(world: str, rows: Sequence[BoardRow]) -> None:
    domains = list(dict.fromkeys(domain for row in rows for domain in row.raw))
    cells = [
        [row.base_model, f"{row.label} ({row.status})", *(_percent(row.raw.get(domain)) for domain in domains)]
        for row in rows
    ]
    print_table(world, ["base", "method", *domains], cells, numbers=range(2, 2 + len(domains)))
    typer.echo("percent, raw scores; without the specialists' scores there is no headline and no rank")


def _print_published(world: str, rows: Sequence[BoardRow]) -> None:
    """Print one line for each method: the paper gives two numbers for each base."""
    by_place = {(row.title, row.base_model): row for row in rows}
    bases = list(dict.fromkeys(row.base_model for row in rows))
    cells = [
        [title, *(_pair(by_place[title, base]) for base in bases)]
        for title in dict.fromkeys(row.title for row in rows)
    ]
    print_table(world, ["method", *bases], cells, numbers=range(1, 1 + len(bases)))
    typer.echo(f"percent: normalized performance / generalization, as {rows[0].reason}, never ranked")


def _pair(row: BoardRow) -> str:
    return f"{_percent(row.headline)} / {_percent(row.generalization)}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
