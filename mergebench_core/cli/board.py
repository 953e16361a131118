"""Commands around the store: db build, leaderboard, doctor."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mergebench_core.cli.options import HomeOption, JsonOption
from mergebench_core.cli.output import print_json, print_table
from mergebench_core.errors import InputError


def build(home: HomeOption = None, json: JsonOption = False) -> None:
    """Rebuild the database from the records."""
    from mergebench_core.home import writable_home
    from mergebench_core.store import build as build_store

    report = build_store(writable_home(home))
    for problem in report.problems:
        typer.echo(f"skipped: {problem}", err=True)
    if json:
        print_json({"num_records": report.num_records, "problems": list(report.problems)})
    else:
        typer.echo(f"indexed {report.num_records} records")


def leaderboard(
    home: HomeOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to serve on.")] = 7860,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
) -> None:
    """Serve the leaderboard until Ctrl-C."""
    from mergebench_core.home import writable_home
    from mergebench_core.store import BOARD_NAME, open_board

    app = leaderboard_app()
    app.check_port(host, port)
    folder = writable_home(home)
    open_board(folder).close()
    app.launch(folder / BOARD_NAME, host=host, port=port)


def leaderboard_app() -> Any:
    """Return the module that serves the leaderboard.

    Raises:
        InputError: it is not installed.
    """
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise InputError("the leaderboard needs gradio: pip install 'mergebench[board]'")
    from mergebench_leaderboard import app  # noqa: TID251 (the command only starts it)

    return app


def doctor(home: HomeOption = None, json: JsonOption = False) -> None:
    """Say what this installation and machine can do, and what would help."""
    from mergebench_core.doctor import check_all

    checks = check_all(home)
    if json:
        print_json([{"check": c.name, "is_ok": c.is_ok, "found": c.found, "remedy": c.remedy} for c in checks])
    else:
        rows = [["ok" if c.is_ok else "!", c.name, c.found, c.remedy or ""] for c in checks]
        print_table("", ["", "check", "found", "what to do"], rows)
    if not all(check.is_ok for check in checks if check.is_required):
        raise typer.Exit(1)
