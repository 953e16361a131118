"""Models of the Hub: fetched from and pushed to a small Hub on loopback; every refusal is one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoint_samples import random_tensors, write_checkpoint
from loopback_hub import COMMIT, TOKEN, LoopbackHub

from mergebench_core import api
from mergebench_core import hub as hub_room
from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.digest import weights_sha256
from mergebench_core.errors import MergebenchError

pytestmark = pytest.mark.usefixtures("known_catalog")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub with a base and a specialist, a cache of its own, no token."""
    from huggingface_hub import close_session, constants

    models = LoopbackHub()
    for seed, name in enumerate(("base", "math")):
        folder = tmp_path / "hub" / name
        write_checkpoint(folder, random_tensors(seed), num_shards=2)
        (folder / "config.json").write_text('{"model_type": "llama"}')
        (folder / "tokenizer.json").write_text("{}")
        (folder / "original").mkdir()
        (folder / "original" / "weights.safetensors").write_bytes(b"another format")
        (folder / "training_args.bin").write_bytes(b"pickle")
        models.repos[f"org/{name}"] = folder
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with models.served():
        monkeypatch.setattr(constants, "ENDPOINT", models.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # plain HTTP is what loopback speaks
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        template = models.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        close_session()
        yield models
        close_session()


def merge(out: Path, **changes):
    order = {"base": "org/base", "specialists": {"math": "org/math@main"}, "out": out} | changes
    return api.merge("model_soup", **order)


def refusal(tmp_path, **changes) -> str:
    with pytest.raises(MergebenchError) as error:
        merge(tmp_path / "out", **changes)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    return str(error.value)


def test_fetched_once_and_recorded_by_commit(hub, tmp_path):
    lines: list[str] = []
    result = merge(tmp_path / "out", progress=lines.append)
    models = result.recipe["models"]
    assert [models[label]["revision"] for label in ("base", "specialist:math")] == [COMMIT, COMMIT]
    assert weights_sha256(Checkpoint(tmp_path / "out")) == result.weights_sha256
    assert 'base_model:\n- "org/base"\n- "org/math"\n' in (tmp_path / "out" / "README.md").read_text()
    assert not [line for line in hub.asked if "original" in line or line.endswith(".bin")]
    assert "fetching org/math@main" in lines
    files = len([line for line in hub.asked if line.startswith("GET /org/")])
    again = merge(tmp_path / "again")
    assert again.weights_sha256 == result.weights_sha256
    assert len([line for line in hub.asked if line.startswith("GET /org/")]) == files


def test_offline_uses_the_cache_and_says_what_it_lacks(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    merge(tmp_path / "first")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert merge(tmp_path / "second").is_new
    line = refusal(tmp_path, specialists={"math": "org/other"})
    assert "model org/other: not in the local cache, and HF_HUB_OFFLINE forbids" in line


def test_refusals_of_the_hub(hub, tmp_path, monkeypatch):
    assert "model org/gone: no such folder here and no such repository" in refusal(tmp_path, base="org/gone")
    line = refusal(tmp_path, base="org/base@v9")
    assert "model org/base@v9: there is no such revision" in line
    hub.gated.add("org/base")
    line = refusal(tmp_path)
    assert "model org/base: its authors want you to accept terms first" in line
    assert "HF_TOKEN" in line
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert merge(tmp_path / "with-token").is_new
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "the Hub refuses the token; check HF_TOKEN" in refusal(tmp_path, base="org/gone")


def test_no_network(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    line = refusal(tmp_path)
    assert line.startswith("model org/base: the Hub at http://127.0.0.1:9 cannot be reached")


@pytest.mark.parametrize("given", ["gone", "./gone/model", "/gone/model", "a/b/c", "org/base@"])
def test_what_is_no_id_is_a_folder(given, tmp_path):
    assert "no such folder, nor a Hub id" in refusal(tmp_path, base=given)


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own call of httpx
def test_push(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    result = merge(tmp_path / "out", push="me/merged", private=True)
    assert result.pushed_to == f"{hub.url}/me/merged"
    files = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert hub.pushed["me/merged"] == files
    assert "README.md" in files
    assert hub.private == {"me/merged"}
    again = merge(tmp_path / "out", push="me/public")
    assert not again.is_new
    assert hub.pushed["me/public"] == files
    assert hub.private == {"me/merged"}


def test_push_is_checked_before_the_merge(hub, tmp_path, monkeypatch):
    assert "give the name of a repository on the Hub" in refusal(tmp_path, push="merged")
    assert "--push me/merged: no token; log in" in refusal(tmp_path, push="me/merged")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "--push me/merged: the Hub refuses the token" in refusal(tmp_path, push="me/merged")


def test_a_push_that_fails_leaves_the_model(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(hub_room, "check_push", lambda repo: monkeypatch.setenv("HF_TOKEN", "hf_wrong"))
    with pytest.raises(
        MergebenchError, match=r"the same command tries again\): the Hub refuses the token"
    ) as error:
        api.merge(
            "model_soup", base=hub.repos["org/base"], specialists={"math": hub.repos["org/math"]},
            out=tmp_path / "out", push="me/merged",
        )  # fmt: skip
    assert error.value.exit_code == 1
    assert Checkpoint(tmp_path / "out").names


def test_command_line_respects_the_environment(tmp_path):
    """HF_ENDPOINT, HF_HOME and HF_TOKEN reach the library; --json prints one document."""
    hub = LoopbackHub(gated={"org/base"})
    for seed, name in enumerate(("base", "math")):
        write_checkpoint(tmp_path / name, random_tensors(seed))
        hub.repos[f"org/{name}"] = tmp_path / name
    own = {"HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    with hub.served():
        done = subprocess.run(
            [
                *(sys.executable, "-m", "mergebench_core", "merge", "model_soup", "--base", "org/base", "--json"),
                *("--specialist", "math=org/math", "--out", str(tmp_path / "out"), "--push", "me/merged"),
            ],
            env={**os.environ, **own, "HF_ENDPOINT": hub.url},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pushed_to"].endswith("/me/merged")
    assert (tmp_path / "hf" / "hub" / "models--org--base" / "snapshots" / COMMIT).is_dir()
    assert hub.pushed["me/merged"]["model.safetensors"] == (tmp_path / "out" / "model.safetensors").read_bytes()
