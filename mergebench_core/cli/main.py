"""The command `mergebench`: parse, call, print. Errors become one line and an exit code."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from mergebench_core.cli import (
    auditing,
    board,
    building,
    fetching,
    importing,
    listing,
    merging,
    planning,
    running,
    training,
)
from mergebench_core.cli.output import plain
from mergebench_core.errors import MergebenchError

INTERRUPTED = 130

app = typer.Typer(
    name="mergebench",
    help="Measure methods that merge fine-tuned language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(rich_markup_mode=None)
track_app = typer.Typer(help="Make, pin and audit tracks.", no_args_is_help=True, rich_markup_mode=None)
db_app = typer.Typer(help="Look after the database.", no_args_is_help=True, rich_markup_mode=None)

for command in (
    running.demo,
    listing.methods,
    listing.tracks,
    listing.judges,
    planning.plan,
    running.reference,
    running.run,
    running.evaluate,
    merging.merge,
    training.train,
    listing.results,
    board.leaderboard,
    board.doctor,
):
    app.command()(command)
app.command("import")(importing.import_results)
models_app.callback(invoke_without_command=True)(fetching.models)
models_app.command("fetch")(fetching.fetch)
track_app.command("build")(building.build)
track_app.command("lock")(fetching.lock)
track_app.command("audit")(auditing.audit)
db_app.command("build")(board.build)
app.add_typer(models_app, name="models")
app.add_typer(track_app, name="track")
app.add_typer(db_app, name="db")


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from mergebench_core import __version__

        typer.echo(f"mergebench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Measure methods that merge fine-tuned language models."""


def main() -> None:
    """Run the command line and exit with 0 (done), 1 (the run failed) or 2 (wrong usage or input)."""
    try:
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code)
    except MergebenchError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; the same command goes on where it was", INTERRUPTED)
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's usage errors
            _fail(f"{error.format_message()} (`mergebench --help` shows how)", 2)
        _fail(f"a bug in mergebench: {type(error).__name__}: {error}; details in {_log(error) or 'no file'}", 1)


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"mergebench: {plain(' '.join(message.split()))}\n")
    sys.exit(code)


def _log(error: Exception) -> Path | None:
    """Write the traceback where a report can quote it, and return the file; None if no disk takes it."""
    import tempfile

    text = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="mergebench-error-", suffix=".log", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            file.write(text)
    except OSError:
        return None
    return Path(file.name)


if __name__ == "__main__":
    main()
