"""The embedded track end to end, by the commands of the README."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def mergebench(*arguments: str | Path, home: Path, threads: int = 1) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mergebench_core", *map(str, arguments), "--home", str(home)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )


def run_json(*arguments: str | Path, home: Path, threads: int = 1) -> dict[str, object]:
    """Run a command with --json and return its document."""
    done = mergebench(*arguments, "--json", home=home, threads=threads)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A home in which a method from a file was scored."""
    folder = tmp_path_factory.mktemp("mini")
    text = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
    plugin = folder / "my_method.py"
    plugin.write_text(re.search(r"```python\n(.*?)```", text, re.S).group(1))
    run_json("run", "my_method", "--plugin", plugin, "--track", "mini-v1", "--base", "mini-llama", home=folder)
    return folder


def test_method_of_one_file_is_scored_and_listed(home):
    rows = json.loads(mergebench("results", "--json", home=home).stdout)
    (mine,) = [row for row in rows if row["label"] == "my_method"]
    assert mine["is_ranked"]
    assert mine["plugin"] == "my_method.py"
    assert {row["label"] for row in rows if row["kind"] == "reference"} > {"base", "multitask", "specialist:math"}


def test_headline_follows_from_the_records(home):
    """Worked out by hand from the task scores that the records hold."""
    document = run_json("run", "model_soup", "--base", "mini-llama", home=home)
    records = [json.loads(path.read_text(encoding="utf-8")) for path in home.glob("runs/*/record.json")]
    ratios = []
    for domain in ("instruction", "math", "multilingual", "coding", "safety"):
        (specialist,) = [record for record in records if record["model"] == f"specialist:{domain}"]
        tasks = [name for name, task in document["tasks"].items() if task["domain"] == domain]
        merged_sum = sum(document["tasks"][name]["score"] for name in tasks)
        specialist_sum = sum(specialist["tasks"][name]["score"] for name in tasks)
        ratios.append(merged_sum / specialist_sum)
        assert document["normalized"][domain] == pytest.approx(ratios[-1])
    assert document["headline"] == pytest.approx(sum(ratios) / 5)


def test_soup_keeps_most_but_not_all(home):
    document = run_json("run", "model_soup", "--base", "mini-llama", home=home)
    assert document["status"] == "completed"
    assert re.fullmatch("[0-9a-f]{64}", document["weights_sha256"])
    assert 0.2 < document["headline"] < 1.0
    assert list(document)[:4] == ["schema_version", "status", "weights_sha256", "headline"]


def test_own_checkpoint_is_scored_but_not_ranked(home):
    soup = run_json("run", "model_soup", "--base", "mini-llama", home=home)
    document = run_json("evaluate", Path(soup["folder"]) / "weights", "--base", "mini-llama", home=home)
    assert document["weights_sha256"] == soup["weights_sha256"]
    assert document["headline"] == soup["headline"]
    rows = json.loads(mergebench("results", "--json", home=home).stdout)
    assert [row["is_ranked"] for row in rows if row["kind"] == "evaluation"] == [False]


def test_corrupt_database_is_rebuilt_with_a_notice(home):
    before = mergebench("results", "--json", home=home).stdout
    for name in ("mergebench.duckdb", "board.duckdb"):
        (home / name).write_bytes(b"no database")
    done = mergebench("results", "--json", home=home)
    assert done.stdout == before
    assert "rebuilt" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("method", "base"), [("ties", "mini-llama"), ("model_soup", "mini-gemma")])
def test_same_weights_and_scores_with_another_number_of_threads(home, method, base, tmp_path):
    arguments = ("run", method, "--track", "mini-v1", "--base", base)
    one = run_json(*arguments, home=home, threads=1)
    two = run_json(*arguments, "--threads", "2", home=tmp_path / "two", threads=2)
    assert one["weights_sha256"] == two["weights_sha256"]
    assert one["headline"] == two["headline"]
    assert {name: task["score"] for name, task in one["tasks"].items()} == {
        name: task["score"] for name, task in two["tasks"].items()
    }
