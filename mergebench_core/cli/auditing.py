"""`mergebench track audit`: what calibration, surrogate, generalization and test items share."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from mergebench_core.cli.options import HomeOption, JsonOption, ProtocolOption
from mergebench_core.cli.output import print_json, print_table, progress_lines
from mergebench_core.tracks.audit import NUM_WORDS, AuditReport, Overlap


def audit(
    track: Annotated[str, typer.Argument(help="Name of a track that lives on the Hub.")] = "mergebench-v1",
    protocol: ProtocolOption = "standard",
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Look for overlaps between the data that methods are given and what they are measured on."""
    from mergebench_core.errors import InputError
    from mergebench_core.home import writable_home
    from mergebench_core.tracks.mergebench_v1.lock import read_lock
    from mergebench_core.tracks.mergebench_v1.preparation import audit as audit_data
    from mergebench_core.tracks.mergebench_v1.preparation import prepare_data
    from mergebench_core.tracks.registry import load_track

    if load_track(track).name != "mergebench-v1":
        raise InputError(f"track {track}: its data are made so that they do not overlap (docs/mini-track.md)")
    with progress_lines() as progress:
        data = prepare_data(writable_home(home), read_lock(), progress, protocol)
        report = audit_data(data.folder, protocol, progress)
    print_audit(report, json=json)


def print_audit(report: AuditReport, *, json: bool = False) -> None:
    """Print a report as tables, or as one JSON document. Ids are shown, never texts."""
    if json:
        print_json(dataclasses.asdict(report) | {"counts": report.to_counts()})
        return
    sets = [[found.purpose, found.name, str(found.num_items), str(found.num_short)] for found in report.sets]
    print_table("", ["purpose", "set", "items", f"under {NUM_WORDS} words"], sets, numbers=range(2, 4))
    if not report.overlaps:
        typer.echo("sets of different purpose share nothing")
        return
    columns = ["kind", "set", "shares", "with", "shares", "", "for example"]
    print_table("", columns, [_cells(found) for found in report.overlaps])
    typer.echo("shares: items of the set that share with any item of the other; they may share with several")


def _cells(found: Overlap) -> list[str]:
    left, right = found.examples[0]
    return [
        found.kind,
        found.first,
        str(found.num_first),
        found.second,
        str(found.num_second),
        "by construction" if found.is_by_construction else "",
        f"{left} = {right}".replace("[", "\\["),
    ]
