"""The Python calls that the README shows, on the toy track."""

from __future__ import annotations

import doctest
import importlib
import json

import pytest

from mergebench_core import api
from mergebench_core.errors import InputError


@pytest.fixture(autouse=True)
def toys(toy_track, monkeypatch):
    monkeypatch.setattr(api, "load_track", lambda name, options=None: toy_track)


def test_run_evaluate_and_results(own_home):
    lines: list[str] = []
    result = api.run("model_soup", base="toy-untied", progress=lines.append)
    assert result.record.status == "completed"
    assert result.headline == result.row.headline
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert list(document)[:4] == ["schema_version", "status", "weights_sha256", "headline"]
    assert document["normalized"] == dict(result.row.normalized)
    assert any("reference 1/7" in line for line in lines)

    own = api.evaluate(result.folder / "weights", base="toy-untied")
    assert own.record.weights_sha256 == result.record.weights_sha256
    assert own.headline == result.headline
    assert not own.row.is_ranked

    rows = api.results()
    assert [row.label for row in rows if row.kind == "merge"] == ["model_soup"]
    assert len(rows) == 9
    assert len(api.reference(base="toy-untied")) == 7
    assert own_home.is_dir()


def test_unknown_names_are_refused_before_any_work(own_home):
    with pytest.raises(InputError, match="unknown base 'x'"):
        api.run("model_soup", base="x")
    with pytest.raises(InputError, match="unknown method 'x'"):
        api.run("x", base="toy-untied")
    assert not (own_home / "runs").exists()


@pytest.mark.parametrize(
    "name", ["mergebench_core.methods", "mergebench_core.checkpoints.roles", "mergebench_core.api"]
)
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
