"""Track mergebench-v1 brought to a machine, from a small Hub on loopback; every refusal is one clear line."""

from __future__ import annotations

import copy
import dataclasses
import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from checkpoint_samples import random_tensors, write_checkpoint
from hub_models import model, specialist, tokenizer
from hub_world import add_data, file_content, published_rows, write_dataset
from loopback_hub import STRANGER, TOKEN, LoopbackHub

from mergebench_core import hub as hub_room
from mergebench_core.errors import MergebenchError
from mergebench_core.tracks.mergebench_v1 import preparation
from mergebench_core.tracks.mergebench_v1.bases import find_base
from mergebench_core.tracks.mergebench_v1.fetching import fetch_models
from mergebench_core.tracks.mergebench_v1.item_sets import FileSource, HubSource
from mergebench_core.tracks.mergebench_v1.lock import Lock
from mergebench_core.tracks.mergebench_v1.preparation import check_items, prepare_data
from mergebench_core.tracks.mergebench_v1.published_files import fetch_file, file_rows, read_rows
from mergebench_core.tracks.mergebench_v1.suite import ITEM_SETS

WHOLE = find_base("llama-3.2-3b")
NAMES = ("base", "specialist:instruction", "specialist:math")
BASE = dataclasses.replace(WHOLE, hub_models={name: WHOLE.hub_models[name] for name in NAMES})
"""With two of its specialists, which take less time."""
REPOS = [model.repo for model in BASE.hub_models.values()]
SMALL_SETS = {name: dataclasses.replace(ITEM_SETS[name], num_items=12) for name in ("ifeval", "gsm8k", "pubmedqa")}
SMALL_CALIBRATION = {"math": preparation.CALIBRATION["math"]}
GSM8K = SMALL_SETS["gsm8k"].sources[0]
FILE = FileSource(repo="owner/name", path="raw/main/rows.jsonl", sha256=None, columns=("a",), licence="MIT")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty Hub, a cache of its own, no token."""
    import datasets
    from huggingface_hub import HfFileSystem, close_session, constants
    from huggingface_hub.utils import _http

    datasets.disable_progress_bars()
    found = LoopbackHub()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with found.served():
        monkeypatch.setenv("MERGEBENCH_FILES_ENDPOINT", f"{found.url}/files")
        settings = {"ENDPOINT": found.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
        settings |= {"HF_HUB_CACHE": str(tmp_path / "cache"), "HF_TOKEN_PATH": str(tmp_path / "no-token")}
        settings["HUGGINGFACE_CO_URL_TEMPLATE"] = found.url + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", found.url)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(
            datasets.config, "HUB_DATASETS_URL", found.url + "/datasets/{repo_id}/resolve/{revision}/{path}"
        )
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "arrow")
        origins = {*_http._HUB_ORIGINS, _http._url_origin(found.url)}
        monkeypatch.setattr(_http, "_HUB_ORIGINS", frozenset(origins))
        HfFileSystem.clear_instance_cache()
        close_session()
        yield found
        close_session()


@pytest.fixture
def models(hub, tmp_path):
    """The Hub with a base and its specialists under their real names."""
    for seed, repo in enumerate(REPOS):
        folder = tmp_path / "models" / repo
        write_checkpoint(folder, random_tensors(seed), num_shards=2)
        (folder / "config.json").write_text('{"model_type": "llama"}')
        (folder / "tokenizer.json").write_text("{}")
        hub.add("model", repo, folder)
    return hub


@pytest.fixture
def data(hub, tmp_path, monkeypatch):
    """The Hub with a few small sets, and a track of these."""
    monkeypatch.setattr(preparation, "ITEM_SETS", SMALL_SETS)
    monkeypatch.setattr(preparation, "item_sets", lambda protocol: SMALL_SETS)
    monkeypatch.setattr(preparation, "CALIBRATION", SMALL_CALIBRATION)
    add_data(hub, tmp_path / "published", SMALL_SETS.values(), SMALL_CALIBRATION)
    return hub


def silent(line: str) -> None:
    """Take a line of progress."""


def fetched(home: Path, lock: Lock | None = None):
    return fetch_models(BASE, lock or Lock(), home, silent)


def refused(call, *given) -> str:
    with pytest.raises(MergebenchError) as error:
        call(*given)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
    return str(error.value)


def large_files(hub: LoopbackHub) -> list[str]:
    return [line for line in hub.asked if line.startswith("GET /large/")]


# models


def test_models_are_fetched_once_and_named_by_commit(models, tmp_path, capfd):
    local, commits = fetched(tmp_path / "home")
    assert commits == {repo: models.commit_of("model", repo) for repo in REPOS}
    assert len(set(commits.values())) == 3
    assert local.path.name == commits["meta-llama/Llama-3.2-3B"]
    assert list(local.specialists) == ["instruction", "math"]
    assert len(large_files(models)) == 6
    assert fetched(tmp_path / "home") == (local, commits)
    assert len(large_files(models)) == 6
    assert capfd.readouterr().err == ""


def test_a_new_commit_on_the_hub_is_not_taken(models, tmp_path):
    _, commits = fetched(tmp_path / "home")
    write_checkpoint(tmp_path / "changed", random_tensors(9))
    models.add("model", REPOS[1], tmp_path / "changed")
    assert fetched(tmp_path / "home")[1] == commits
    assert fetched(tmp_path / "another")[1] != commits


def test_a_cut_connection_is_taken_up_where_it_broke(models, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10)
    models.cuts += [100, 50]
    fetched(tmp_path / "home")
    assert sorted(models.ranges) in (["bytes=100-", "bytes=50-"], ["bytes=100-", "bytes=150-"])


def test_what_is_complete_is_not_fetched_again_after_a_failure(models, tmp_path):
    models.gated.add(REPOS[2])
    assert f"model {REPOS[2]}: its authors want you to accept terms" in refused(fetched, tmp_path / "home")
    num_before = len(large_files(models))
    assert num_before == 4
    models.gated.clear()
    fetched(tmp_path / "home")
    assert len(large_files(models)) == 6


def test_offline_after_a_complete_fetch(models, tmp_path, monkeypatch):
    from huggingface_hub import constants

    found = fetched(tmp_path / "home")
    num_asked = len(models.asked)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetched(tmp_path / "home") == found
    assert len(models.asked) == num_asked
    assert hub_room.cached(REPOS[0], None) == found[0].path
    (found[0].path / "model-00001-of-00002.safetensors").unlink()
    assert hub_room.cached(REPOS[0], None) is None
    line = refused(fetched, tmp_path / "home")
    assert line.startswith(f"model {REPOS[0]}@")
    assert "not in the local cache, and HF_HUB_OFFLINE forbids" in line


def test_no_network(models, tmp_path, monkeypatch):
    from huggingface_hub import constants

    found = fetched(tmp_path / "home")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert fetched(tmp_path / "home") == found
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    line = refused(fetched, tmp_path / "another")  # which asks for a branch: that is not tried for half a minute
    assert "the Hub at http://127.0.0.1:9 cannot be reached and the cache lacks it" in line


def test_no_room(models, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(2**40, 2**40 - 2**29, 2**29)
    monkeypatch.setattr(hub_room.shutil, "disk_usage", lambda folder: usage)
    line = refused(fetched, tmp_path / "home")
    assert line.startswith(f"model {REPOS[0]}: 0.0 GiB to fetch and 0.5 GiB free in {tmp_path}")
    assert "set HF_HOME to another disk" in line
    assert large_files(models) == []


@pytest.mark.parametrize(
    ("token", "part"),
    [(None, "accept terms first"), (STRANGER, "accept terms first"), ("hf_wrong", "the Hub refuses the token")],
)
def test_gated_models_and_wrong_tokens(models, tmp_path, monkeypatch, token, part):
    models.gated.add(REPOS[0])
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert part in refused(fetched, tmp_path / "home")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert len(fetched(tmp_path / "home")[1]) == 3


@pytest.mark.parametrize("token", [None, TOKEN])
def test_missing_models(models, tmp_path, monkeypatch, token):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    del models.repos[REPOS[2]]
    assert f"model {REPOS[2]}: no such folder here and no such repository" in refused(fetched, tmp_path / "home")


def test_damaged_notes_are_named(models, tmp_path):
    note = tmp_path / "home" / "tracks" / "mergebench-v1" / "model_revisions.json"
    note.parent.mkdir(parents=True)
    note.write_text('["what"')
    assert refused(fetched, tmp_path / "home") == f"{note}: damaged; delete it, it is made anew"


# data


def prepared(home: Path, lines: list[str] | None = None, lock: Lock | None = None):
    return prepare_data(home, lock or Lock(), silent if lines is None else lines.append)


def test_data_are_prepared_once(data, tmp_path):
    lines: list[str] = []
    found = prepared(tmp_path / "home", lines)
    assert sorted(found.digests) == [
        "calibration/math.jsonl",
        "items/gsm8k.jsonl",
        "items/ifeval.jsonl",
        "items/pubmedqa.jsonl",
    ]
    path = found.folder / "items" / "gsm8k.jsonl"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == found.digests["items/gsm8k.jsonl"]
    assert len(path.read_text().splitlines()) == 12
    assert found.revisions["openai/gsm8k"] == data.commit_of("dataset", "openai/gsm8k")
    file = next(source for source in SMALL_SETS["pubmedqa"].sources if isinstance(source, FileSource))
    content = data.files[f"{file.repo}/{file.path}"]
    assert found.revisions[f"{file.repo}/{file.path}"] == hashlib.sha256(content).hexdigest()
    assert "preparing items gsm8k" in lines
    assert lines[-1] == "auditing the data for overlaps"
    num_asked = len(data.asked)
    again: list[str] = []
    assert prepared(tmp_path / "home", again) == found
    assert again == []
    assert len(data.asked) == num_asked


def test_items_that_are_tuned_on_and_tested_are_overlaps(data, tmp_path):
    overlaps = prepare_data(tmp_path / "home", Lock(), silent, "paper").overlaps
    assert overlaps["exact:ifeval_tuned_on/ifeval"] == overlaps["exact:ifeval/ifeval_tuned_on"] == 12
    assert not [name for name in prepared(tmp_path / "home").overlaps if "ifeval" in name]


def test_an_interrupted_preparation_goes_on(data, tmp_path, monkeypatch):
    def stop(path, items):
        if path.stem == "gsm8k":
            raise KeyboardInterrupt
        write(path, items)

    write = preparation.write_items
    monkeypatch.setattr(preparation, "write_items", stop)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path / "home")
    monkeypatch.setattr(preparation, "write_items", write)
    lines: list[str] = []
    prepared(tmp_path / "home", lines)
    assert lines[0] == "preparing items gsm8k"


def test_new_commits_of_data_are_not_taken_but_locked_ones_are(data, tmp_path):
    first = prepared(tmp_path / "home")
    old = data.commit_of("dataset", "openai/gsm8k")
    maker = published_rows()["openai/gsm8k|main|test"]
    write_dataset(tmp_path / "moved", {("main", "test"): maker(20)})
    new = data.add("dataset", "openai/gsm8k", tmp_path / "moved")
    assert prepared(tmp_path / "home").folder == first.folder
    lock = Lock.model_validate({"repos": {"openai/gsm8k": {"kind": "dataset", "revision": new, "files": {}}}})
    line = refused(prepared, tmp_path / "home", None, lock)
    assert line.startswith("data of gsm8k: 20 items, the track says 12; the published data changed")
    lock = Lock.model_validate({"repos": {"openai/gsm8k": {"kind": "dataset", "revision": old, "files": {}}}})
    assert prepared(tmp_path / "another", lock=lock).digests == first.digests


def test_columns_that_are_missing(data, tmp_path):
    folder = tmp_path / "changed"
    write_dataset(folder, {("main", "test"): [{"question": "1 + 1?", "solution": "2"}]})
    data.add("dataset", "openai/gsm8k", folder)
    line = refused(prepared, tmp_path / "home")
    assert line == (
        "openai/gsm8k/main/test: no column 'answer' among question, solution; "
        "the published data changed, update mergebench"
    )


def test_rows_out_of_form(data, tmp_path):
    folder = tmp_path / "changed"
    write_dataset(folder, {("main", "test"): [{"question": "1 + 1?", "answer": "two"}] * 12})
    data.add("dataset", "openai/gsm8k", folder)
    line = refused(prepared, tmp_path / "home")
    assert line.startswith("data of gsm8k: ")
    assert line.endswith("the published data changed, update mergebench")


def test_splits_and_configurations_that_are_missing(data, tmp_path):
    revision = data.commit_of("dataset", "openai/gsm8k")
    for change, part in (({"split": "gone"}, "gone"), ({"config": "gone"}, "gone")):
        line = refused(read_rows, dataclasses.replace(GSM8K, **change), revision, tmp_path)
        assert line.startswith("data set openai/gsm8k/")
        assert part in line
        assert "the published data changed" in line


@pytest.mark.parametrize(
    ("token", "part"),
    [(None, "accept terms first"), (STRANGER, "accept terms first"), ("hf_wrong", "refuses the token")],
)
def test_gated_data(data, tmp_path, monkeypatch, token, part):
    data.gated.add("openai/gsm8k")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert part in refused(read_rows, GSM8K, data.commit_of("dataset", "openai/gsm8k"), tmp_path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert len(read_rows(GSM8K, data.commit_of("dataset", "openai/gsm8k"), tmp_path)) == 12


def test_missing_data(data, tmp_path):
    gone = HubSource(repo="owner/gone", split="train", columns=("a",), licence="MIT")
    assert "data set owner/gone/train: no such" in refused(read_rows, gone, "b" * 40, tmp_path)
    line = refused(read_rows, GSM8K, "b" * 40, tmp_path)
    assert "data set openai/gsm8k/main/test: there is no such revision" in line


def test_another_revision_in_the_cache_is_not_taken_when_the_hub_is_away(data, tmp_path, monkeypatch):
    import datasets
    from huggingface_hub import constants

    revision = data.commit_of("dataset", "openai/gsm8k")
    rows = read_rows(GSM8K, revision, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert read_rows(GSM8K, revision, tmp_path) == rows
    line = refused(read_rows, GSM8K, "b" * 40, tmp_path)
    assert "openai/gsm8k/main/test: revision bbbbbbbbbbbb is not in the local cache" in line


def test_ids_must_be_unique_texts():
    small = dataclasses.replace(SMALL_SETS["gsm8k"], num_items=2)
    check_items(small, [{"id": "a"}, {"id": "b"}])
    for ids in (("a", "a"), (1, 2)):
        assert "ids are not unique texts" in refused(check_items, small, [{"id": one} for one in ids])


# files


def test_files_are_kept_and_checked(hub, tmp_path):
    content = file_content([{"a": 1}, {"a": 2}], FILE.path)
    hub.files[f"{FILE.repo}/{FILE.path}"] = content
    pinned = dataclasses.replace(FILE, sha256=hashlib.sha256(content).hexdigest())
    assert file_rows(pinned, tmp_path) == [{"a": 1}, {"a": 2}]
    assert fetch_file(pinned, tmp_path) == content
    assert len(hub.asked) == 1
    kept = next(tmp_path.glob("*.jsonl"))
    kept.write_text("changed\n")
    assert fetch_file(pinned, tmp_path) == content
    assert len(hub.asked) == 2
    kept.unlink()
    hub.files[f"{FILE.repo}/{FILE.path}"] = b"changed"
    line = refused(fetch_file, pinned, tmp_path)
    assert line.startswith("owner/name/raw/main/rows.jsonl: differs from its pinned digest")
    assert list(tmp_path.glob("*.jsonl")) == []


def test_files_that_do_not_come(hub, tmp_path, monkeypatch):
    line = refused(fetch_file, FILE, tmp_path)
    assert line.startswith(f"{hub.url}/files/owner/name/raw/main/rows.jsonl: cannot be fetched (status 404)")
    hub.files[f"{FILE.repo}/{FILE.path}"] = b"x" * 100
    hub.cuts.append(40)
    assert "cannot be fetched (40 of 100 bytes came)" in refused(fetch_file, FILE, tmp_path)
    monkeypatch.setenv("MERGEBENCH_FILES_ENDPOINT", "http://127.0.0.1:9")
    assert "Connection refused" in refused(fetch_file, FILE, tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "not fetched yet, and HF_HUB_OFFLINE forbids it" in refused(fetch_file, FILE, tmp_path)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("raw/main/rows.jsonl", b'{"a": 1}\n{"a": '),
        ("raw/main/rows.jsonl", b"1\n2\n"),
        ("raw/main/rows.json", b'["text"]'),
        ("raw/main/rows.json", b"\xff\xfe"),
        ("raw/main/rows.jsonl.gz", b"no gzip"),
        ("raw/main/rows.jsonl.gz", gzip.compress(b'{"a": 1}\n')[:-9]),
        ("raw/main/rows.jsonl.gz", gzip.compress(b"x" * 50, mtime=0)[:12] + b"\xff" * 20),
    ],
)
def test_files_that_cannot_be_read(hub, tmp_path, path, content):
    source = dataclasses.replace(FILE, path=path)
    hub.files[f"{FILE.repo}/{path}"] = content
    line = refused(file_rows, source, tmp_path)
    assert line.startswith(f"owner/name/{path}: cannot be read (")


# the stand-ins themselves


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_tiny_models_end_every_answer_and_differ(family):
    import torch

    tokens = tokenizer(family, is_instruct=False)
    base = model(family, is_tied=True, vocab_size=len(tokens), seed=3)
    weights = base.state_dict()
    noisy = [specialist(base, seed).state_dict() for seed in range(1, 6)]
    wide = specialist(base, 6, num_more=64)
    assert wide.get_input_embeddings().weight.shape[0] == len(tokens) + 64
    prompts = ["x", "Question: what?\nAnswer:", "é中 " * 40, f"{tokens.eos_token} a\n\n### Response:\n"]
    likelihoods = set()
    merged = copy.deepcopy(base).to(torch.bfloat16)
    for coefficient in (0.0, 0.1, 0.5, 1.0):
        merged.load_state_dict(
            {
                name: tensor + coefficient * sum(other[name] - tensor for other in noisy)
                for name, tensor in weights.items()
            }
        )
        for one in (merged, wide) if coefficient == 0 else (merged,):
            for prompt in prompts:
                ids = tokens(prompt, return_tensors="pt")["input_ids"]
                with torch.no_grad():
                    found = one(ids).logits[0].float()
                assert found.isfinite().all()
                assert found[-1].argmax() == 1
                assert (found[-1] / 0.2).softmax(-1)[1] > 0.999
            likelihoods.add(found.log_softmax(-1)[:-1].gather(1, ids[0, 1:, None]).sum().item())
    assert len(likelihoods) == 5


def test_command_line_respects_the_environment(models, tmp_path):
    """HF_ENDPOINT, HF_HOME, HF_TOKEN and MERGEBENCH_HOME reach the libraries; a refusal is one line."""

    def run() -> subprocess.CompletedProcess[str]:
        command = (
            sys.executable,
            "-m",
            "mergebench_core",
            "models",
            "fetch",
            "--base",
            "llama-3.2-3b",
            "--no-data",
            "--judge",
            "refusal_phrases",
        )
        own = models.environment(tmp_path / "hf")
        return subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=False)

    models.gated.add("meta-llama/Llama-3.2-3B")
    for model_of_hub in WHOLE.hub_models.values():
        models.repos.setdefault(model_of_hub.repo, models.repos[REPOS[1]])
    done = run()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "mergebench-v1: llama-3.2-3b complete\n"
    assert "it/s" not in done.stderr
    note = json.loads((tmp_path / "home" / "tracks" / "mergebench-v1" / "model_revisions.json").read_text())
    for repo, commit in note.items():
        folder = f"models--{repo.replace('/', '--')}"
        assert (tmp_path / "hf" / "hub" / folder / "snapshots" / commit).is_dir()
