"""Which judge a world gets: named, of a known revision, and one that can score the safety tasks."""

from __future__ import annotations

import dataclasses
import json

import pytest
from typer.testing import CliRunner

from mergebench_core.cli.main import app
from mergebench_core.errors import InputError
from mergebench_core.evaluation.judges.choice import open_judge
from mergebench_core.evaluation.judges.registry import find_judge
from mergebench_core.tracks.registry import load_track
from mergebench_core.tracks.world import WorldOptions


def world(judge: str):
    return load_track("mergebench-v1", WorldOptions(judge=judge))


def silent(line: str) -> None:
    """Take a line of progress."""


def test_the_revision_becomes_part_of_the_world(tmp_path):
    track, judge = open_judge(world("refusal_phrases"), tmp_path, silent)
    assert track.judge == f"refusal_phrases@{find_judge('refusal_phrases').revision}"
    assert track.digest != world("refusal_phrases").digest
    assert judge is not None
    assert open_judge(track, tmp_path, silent)[0] == track


def test_a_track_without_judged_tasks_has_none(tmp_path):
    track = load_track("mini-v1")
    assert open_judge(track, tmp_path, silent) == (track, None)


def test_another_revision_is_refused(tmp_path):
    track = dataclasses.replace(world("refusal_phrases"), judge="refusal_phrases@000000000000")
    with pytest.raises(InputError, match="is wanted"):
        open_judge(track, tmp_path, silent)


def test_a_judge_of_harm_alone_cannot_score_refusals(tmp_path):
    with pytest.raises(InputError, match="says nothing of refusals"):
        open_judge(world("harmbench_classifier"), tmp_path, silent)


def test_an_unknown_judge_is_refused(tmp_path):
    with pytest.raises(InputError, match="unknown judge 'refusals'"):
        open_judge(world("refusals"), tmp_path, silent)


def test_the_command_line_lists_them():
    done = CliRunner().invoke(app, ["judges", "--json"])
    found = {judge["name"]: judge for judge in json.loads(done.stdout)}
    assert set(found) >= {"wildguard", "refusal_phrases", "harmbench_classifier"}
    assert [found[name]["says_refusals"] for name in ("wildguard", "harmbench_classifier")] == [True, False]
    assert "allenai/wildguard" in CliRunner().invoke(app, ["judges"]).stdout
