"""Trainings that cannot begin or go on: full disks, broken bases, prompts that are too long."""

import errno
import json
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from training_requests import are_equal, request_of, weights
from training_rows import ROWS, small_base, small_gemma

from mergebench_core.errors import CheckpointError, InputError, RunError
from mergebench_core.home import UnwritableError
from mergebench_core.training import export, folder, runs, settings
from mergebench_core.training.runs import train

pytestmark = pytest.mark.usefixtures("small_recipes")
MAGICODER = "ise-uiuc/Magicoder-Evol-Instruct-110K"


def forget(name):
    """Return what removes files from a base."""
    return lambda base: [path.unlink() for path in base.glob(name)]


def change(name, **values):
    """Return what changes a JSON file of a base; None removes a key."""

    def apply(base):
        document = {**json.loads((base / name).read_text()), **values}
        (base / name).write_text(json.dumps({key: value for key, value in document.items() if value is not None}))

    return apply


@pytest.mark.parametrize("make", [small_base, small_gemma])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (forget("tokenizer*"), "has no tokenizer"),
        (lambda base: (base / "tokenizer.json").write_text("{"), "its tokenizer cannot be loaded"),
        (change("tokenizer_config.json", eos_token=None), "its tokenizer has no end token; set eos_token in"),
        (forget("config.json"), "its configuration cannot be loaded"),
        (change("config.json", model_type="unheard of"), "its configuration cannot be loaded"),
        (change("config.json", architectures=None), r"config.json: names no architecture"),
        (forget("*.safetensors"), "neither model.safetensors nor"),
    ],
)
def test_a_broken_base_is_one_line_before_any_data(tmp_path, hub, make, spoil, message):
    base = make(tmp_path / "base")
    spoil(base.folder)
    with pytest.raises(CheckpointError, match=rf"^{base.folder}[^\n]*{message}[^\n]*$"):
        train(request_of(base, tmp_path / "out"), lambda _: None)
    assert hub.calls == []


@pytest.mark.parametrize("place", ["/proc/nope/out", "file/out"])
def test_a_folder_that_cannot_be_made_is_one_line(base, tmp_path, hub, place):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^--out .*out: cannot be written \([^\n]*\); give another folder$"):
        train(request_of(base, tmp_path / place), lambda _: None)
    assert hub.calls == []


def free(monkeypatch, num_bytes):
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda _: SimpleNamespace(free=num_bytes))


def num_parameters(base):
    return sum(values.numel() for values in weights(base.folder).values())


def test_too_little_room_for_two_checkpoints_is_refused_before_any_data(base, tmp_path, hub, monkeypatch):
    free(monkeypatch, 24 * num_parameters(base) - 1)
    with pytest.raises(InputError, match=r"the disk has .* GiB free, two checkpoints .* free some room"):
        train(request_of(base, tmp_path / "out"), lambda _: None)
    assert hub.calls == []
    free(monkeypatch, 24 * num_parameters(base))
    assert train(request_of(base, tmp_path / "out", num_steps=1), lambda _: None).is_new


def test_checkpoints_that_are_there_need_no_more_room(tmp_path, monkeypatch):
    (tmp_path / "checkpoints" / "checkpoint-2").mkdir(parents=True)
    (tmp_path / "checkpoints" / "checkpoint-2" / "optimizer.pt").write_bytes(bytes(1 << 20))
    needed = 24_000_000 - (1 << 20)
    free(monkeypatch, needed)
    folder.check_room(tmp_path, 1e-3)
    free(monkeypatch, needed - (1 << 16))
    with pytest.raises(InputError, match="the disk has"):
        folder.check_room(tmp_path, 1e-3)


FULL = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    RuntimeError("basic_ios::clear: iostream error"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    UnwritableError(folder.Path("training.json"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
]


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_a_disk_that_fills_up_is_one_line_and_the_command_goes_on(base, tmp_path, hub, monkeypatch, error):
    whole = train(request_of(base, tmp_path / "whole"), lambda _: None)
    save, num_saved = torch.save, []

    def save_once(*arguments, **options):
        num_saved.append(1)
        if len(num_saved) > 4:
            raise error
        return save(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", save_once)
        with pytest.raises(RunError) as raised:
            train(request_of(base, tmp_path / "out"), lambda _: None)
    assert "no room left" in str(raised.value)
    assert "free some room, then the same command goes on" in str(raised.value)
    told = []
    resumed = train(request_of(base, tmp_path / "out"), told.append)
    assert "going on from checkpoint-2" in told
    assert are_equal(weights(whole.folder), weights(resumed.folder))


def test_a_disk_that_fills_up_at_the_export_is_one_line(base, tmp_path, hub, monkeypatch):
    def fail(*_, **__):
        raise FULL[-2]

    with monkeypatch.context() as patched:
        patched.setattr(export, "_rewrite", fail)
        with pytest.raises(RunError, match="no room left"):
            train(request_of(base, tmp_path / "out"), lambda _: None)
    assert train(request_of(base, tmp_path / "out"), lambda _: None).is_new


def test_other_failures_keep_their_own_words(base, tmp_path, hub, monkeypatch):
    def fail(*_):
        raise RuntimeError("expected scalar type Float")

    monkeypatch.setattr(runs, "fine_tune", fail)
    with pytest.raises(RuntimeError, match="expected scalar type Float"):
        train(request_of(base, tmp_path / "out"), lambda _: None)


@pytest.fixture
def long_prompts(monkeypatch):
    """Let prompts of that many of the eight rows fill the sequence."""

    def make(num_long):
        rows = [{"instruction": "x" * (500 if row < num_long else 10), "response": "y"} for row in range(8)]
        monkeypatch.setitem(ROWS, MAGICODER, rows)

    monkeypatch.setattr(settings, "SMALL", replace(settings.SMALL, max_length=192))
    return make


def test_examples_that_are_left_out_are_told_and_recorded(base, tmp_path, hub, long_prompts):
    long_prompts(3)
    told = []
    document = train(request_of(base, tmp_path / "out", num_steps=1), told.append).document
    assert (document["num_examples"], document["num_examples_trained"]) == (8, 5)
    [note] = [line for line in told if "192 tokens" in line]
    assert note == "note: 3 of 8 examples left out: the prompt fills the 192 tokens of a sequence"


def test_examples_that_fit_need_no_note(base, tmp_path, hub, long_prompts):
    long_prompts(0)
    told = []
    document = train(request_of(base, tmp_path / "out", num_steps=1), told.append).document
    assert (document["num_examples"], document["num_examples_trained"]) == (8, 8)
    assert not any("left out" in line for line in told)


def test_nothing_left_to_train_on_is_one_line(base, tmp_path, hub, long_prompts):
    long_prompts(8)
    with pytest.raises(
        InputError,
        match=r"8 of 8 examples left out: the prompt fills .*; nothing is left",
    ):
        train(request_of(base, tmp_path / "out"), lambda _: None)
