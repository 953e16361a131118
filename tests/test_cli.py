"""The command line: one clear line for every mistake, exit codes, JSON that is only JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mergebench_core.cli.main import main
from mergebench_core.cli.output import print_table
from mergebench_core.errors import InputError


def run_cli(*arguments: str | Path) -> int:
    """Run the command line in this process and return its exit code."""
    before, sys.argv = sys.argv, ["mergebench", *map(str, arguments)]
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    raise AssertionError("main returns by SystemExit")


def error_line(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a command that must be refused, and return the one line that it prints last on stderr."""
    assert run_cli(*arguments) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("mergebench: ")]
    assert len(lines) == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("run", "task_aritmetic", "--base", "mini-llama"),
            "unknown method 'task_aritmetic': did you mean 'task_arithmetic'",
        ),
        (("run", "ties", "--base", "mini-lama"), "unknown base 'mini-lama': did you mean 'mini-llama'?"),
        (
            ("run", "ties", "--base", "mini-llama", "--track", "mini-v2"),
            "unknown track 'mini-v2': did you mean 'mini-v1'?",
        ),
        (("run", "ties", "--base", "mini-llama", "--plugin", "gone.py"), "plugin gone.py: no such file"),
        (("evaluate", "gone", "--base", "mini-llama"), "gone: no such folder"),
        (("run", "ties"), "--base"),
        (("run", "ties", "--base", "mini-llama", "--seed", "-1"), "--seed"),
        (("models", "--track", "x"), "unknown track 'x'"),
        (("results", "--base", "mini-lama"), "did you mean 'mini-llama'?"),
        (("no-such-command",), "no-such-command"),
        (("track", "build", "other", "--out", "x"), "unknown track 'other'"),
    ],
)
def test_mistakes_get_one_line(capsys, arguments, words):
    assert words in error_line(capsys, *arguments)


@pytest.mark.parametrize(
    "arguments",
    [("run", "model_soup"), ("reference",), ("evaluate", "folder")],
    ids=lambda arguments: arguments[0],
)
def test_embedded_tracks_ask_nothing(monkeypatch, capsys, arguments):
    """However long this home's own runs took."""

    def stop(*given: object, **settings: object) -> None:
        raise InputError("far enough")

    monkeypatch.setattr(
        "mergebench_core.cli.running.open_planner", lambda *given, **settings: pytest.fail("asked")
    )
    monkeypatch.setattr("mergebench_core.api.open_bench", stop)
    assert error_line(capsys, *arguments, "--base", "mini-llama") == "mergebench: far enough"


def test_a_mistake_does_not_steer_the_terminal(capsys):
    assert error_line(capsys, "models", "--track", "\x1b[2Jx").startswith("mergebench: unknown track '?[2Jx'")


def test_a_bug_is_one_line_and_its_details_a_file_of_ones_own(capsys, tmp_path, monkeypatch):
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("mergebench_core.tracks.registry.load_track", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_cli("tracks") == 1
    (file,) = tmp_path.glob("mergebench-error-*.log")
    assert (
        capsys.readouterr().err
        == f"mergebench: a bug in mergebench: ZeroDivisionError: division by zero; details in {file}\n"
    )
    assert "Traceback" in file.read_text()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    assert run_cli("tracks") == 1
    assert capsys.readouterr().err.endswith("details in no file\n")


def test_tables_print_texts_as_they_are(capsys):
    """What others wrote is no markup and steers no terminal."""
    print_table("[/nope] \x1b[2J", ["[b]a"], [["[bold red]x\x1b[2J"]])
    said = capsys.readouterr().out
    assert "[/nope] ?[2J" in said
    assert "[bold red]x?[2J" in said
    assert "[b]a" in said


def test_plugin_with_a_syntax_error_names_file_and_line(capsys, tmp_path):
    plugin = tmp_path / "broken.py"
    plugin.write_text("x = 1\ndef broken(:\n")
    line = error_line(capsys, "run", "broken", "--base", "mini-llama", "--plugin", plugin)
    assert str(plugin) in line
    assert "SyntaxError" in line
    assert "at line 2" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_home(capsys, tmp_path):
    home = tmp_path / "locked"
    home.mkdir(mode=0o500)
    assert "cannot be written" in error_line(capsys, "results", "--home", home)


def test_home_that_is_a_file(capsys, tmp_path):
    home = tmp_path / "file"
    home.write_text("")
    line = error_line(capsys, "run", "model_soup", "--base", "mini-llama", "--home", home)
    assert "cannot be written" in line
    assert "--home" in line


@pytest.mark.parametrize("kind", ["truncated", "no safetensors", "NaN", "missing"])
def test_bad_checkpoints_are_refused(capsys, tmp_path, kind):
    import torch
    from safetensors.torch import load_file, save_file

    from mergebench_core.tracks.registry import load_track

    folder = tmp_path / "model"
    folder.mkdir()
    file = folder / "model.safetensors"
    source = load_track("mini-v1").bases["mini-llama"].path / "model.safetensors"
    tensors = load_file(source)
    norm = "model.norm.weight"
    if kind == "truncated":
        file.write_bytes(source.read_bytes()[:-100])
    elif kind == "no safetensors":
        torch.save(tensors, file)
    elif kind == "NaN":
        save_file({**tensors, norm: torch.full_like(tensors[norm], float("nan"))}, file)
    else:
        save_file({name: tensor for name, tensor in tensors.items() if name != norm}, file)
    line = error_line(capsys, "evaluate", folder, "--base", "mini-llama")
    assert str(folder) in line
    assert {"no safetensors": "safetensors", "missing": f"'{norm}' is missing"}.get(kind, kind) in line


def test_empty_results_say_what_to_do(capsys):
    assert run_cli("results") == 0
    assert "mergebench demo" in capsys.readouterr().out
    assert run_cli("results", "--json") == 0
    assert {row["tier"] for row in json.loads(capsys.readouterr().out)} == {"published"}
    assert run_cli("results", "--track", "mini-v1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("command", [("methods",), ("models",), ("tracks",), ("doctor",), ("db", "build")])
def test_listings_print_one_json_document(capsys, command):
    assert run_cli(*command, "--json") == 0
    json.loads(capsys.readouterr().out)


def test_tracks_name_the_digest_of_a_definition(capsys):
    """Records have another where the track lives on the Hub: data and judge are in it."""
    from mergebench_core.tracks.registry import TRACK_NAMES, load_track

    assert run_cli("tracks", "--json") == 0
    found = {track["track"]: track for track in json.loads(capsys.readouterr().out)}
    assert {name: track["definition_digest"] for name, track in found.items()} == {
        name: load_track(name).digest for name in TRACK_NAMES
    }
    assert all("digest" not in track for track in found.values())
    assert run_cli("tracks") == 0
    assert f"definition {load_track('mini-v1').digest[:12]}" in capsys.readouterr().out


def test_methods_lists_a_plugin_given_by_file(capsys, tmp_path):
    text = (Path(__file__).parents[1] / "plugins" / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.S)
    plugin = tmp_path / "my_method.py"
    plugin.write_text(code.group(1))
    assert len([line for line in code.group(1).splitlines() if line.strip()]) <= 15
    assert run_cli("methods", "--plugin", plugin, "--json") == 0
    assert "my_method" in [method["name"] for method in json.loads(capsys.readouterr().out)]


def test_a_bug_is_one_line_and_a_log(capsys, monkeypatch):
    monkeypatch.setattr("mergebench_core.api.results", lambda **_: 1 / 0)
    assert run_cli("results") == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    log = Path(re.search(r"details in (\S+)", error).group(1))
    assert "ZeroDivisionError" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "statement", ["import mergebench_core.cli.main", "import mergebench_core", "import mergebench_core.api"]
)
def test_importing_loads_nothing_heavy(statement):
    heavy = ("torch", "transformers", "gradio", "pandas", "lm_eval", "duckdb")
    code = f"{statement}; import sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_of_every_command(capsys):
    for arguments in ([], ["run"], ["track", "build"], ["db", "build"], ["leaderboard"]):
        assert run_cli(*arguments, "--help") == 0
        assert "Usage" in capsys.readouterr().out


def test_rows_that_share_a_name_are_told_apart(capsys):
    """The same method changed, run with another seed, or in another version of the track."""
    import dataclasses

    from record_samples import merge_record, reference_records

    from mergebench_core.cli.output import print_board
    from mergebench_core.results import row_for

    row = row_for(merge_record("ties"), reference_records())
    changed = dataclasses.replace(row, variant="abcdef0")
    print_board([row, changed], ["math"])
    assert f"{row.label} abcdef0" in capsys.readouterr().out
    print_board([row, dataclasses.replace(row, seed=5)], ["math"])
    assert f"{row.label} seed 5" in capsys.readouterr().out
    print_board([row, dataclasses.replace(row, world="mini-v1 · bbbbbbbb")], ["math"])
    assert "bbbbbbbb)" in capsys.readouterr().out
