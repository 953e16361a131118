"""Which weights answer by the base's files, and which need an engine with files of their own."""

from __future__ import annotations

import json
import shutil

import pytest

from mergebench_core.evaluation.engines.side_files import answers_by_files_of, with_tokenizer_of


@pytest.fixture
def folders(toy_track, tmp_path):
    """A base with a chat template, a specialist with the same files, and how a file of one is changed."""
    base = toy_track.bases["toy-tied"]
    for name, path in (("base", base.path), ("own", base.specialists["math"])):
        shutil.copytree(path, tmp_path / name)
        (tmp_path / name / "chat_template.jinja").write_text("{{ messages }}")
    return tmp_path / "own", tmp_path / "base"


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_the_same_files_are_the_base_s(folders):
    assert answers_by_files_of(*folders)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"eos_token_id": [2, 3]}),
        ("config.json", {"rms_norm_eps": 1e-5}),
        ("generation_config.json", {"eos_token_id": [2, 3]}),
        ("tokenizer_config.json", {"clean_up_tokenization_spaces": True}),
    ],
)
def test_a_setting_that_moves_answers_is_its_own(folders, file, values):
    for folder in folders:
        change(folder / file, **values)
        assert not answers_by_files_of(*folders)
        shutil.copy(folders[folder == folders[0]] / file, folder / file)


@pytest.mark.parametrize(
    "values",
    [
        {"transformers_version": "4.1"},
        {"_name_or_path": "somewhere"},
        {"torch_dtype": "float16", "dtype": "float16"},
        {"architectures": ["AnotherForCausalLM"]},
        {"use_cache": False},
    ],
)
def test_where_a_model_comes_from_moves_no_answer(folders, values):
    change(folders[0] / "config.json", **values)
    assert answers_by_files_of(*folders)


@pytest.mark.parametrize("file", ["chat_template.jinja", "generation_config.json", "tokenizer_config.json"])
def test_a_file_that_only_one_of_them_has_is_a_difference(folders, file):
    for folder in folders:
        held = (folder / file).read_bytes()
        (folder / file).unlink()
        assert not answers_by_files_of(*folders)
        (folder / file).write_bytes(held)


def test_what_a_merged_model_does_not_get_is_not_asked_of_it(folders):
    own, base = folders
    (base / "tokenizer.model.v3").write_bytes(b"x")
    assert answers_by_files_of(own, base)
    (own / "tokenizer.model.v3").write_bytes(b"y")
    assert not answers_by_files_of(own, base)


@pytest.mark.parametrize("kept", [("*.safetensors",), ("*.safetensors", "*config.json")])
def test_weights_without_a_tokenizer_or_without_any_file_take_the_base_s(folders, kept):
    own, base = folders
    wanted = {path for pattern in kept for path in own.glob(pattern)} - {own / "tokenizer_config.json"}
    for path in set(own.iterdir()) - wanted:
        path.unlink()
    assert answers_by_files_of(own, base)


def test_settings_that_are_no_json_are_compared_as_they_are(folders):
    own, base = folders
    (own / "config.json").write_bytes(b"\xff")
    assert not answers_by_files_of(own, base)
    (base / "config.json").write_bytes(b"\xff")
    assert answers_by_files_of(own, base)


def test_another_spelling_of_the_same_settings_moves_no_answer(folders):
    """As transformers 5 writes what version 4 wrote as `rope_theta`."""
    for folder, spelling in zip(
        folders,
        ({"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}}, {"rope_theta": 500.0}),
        strict=True,
    ):
        document = json.loads((folder / "config.json").read_text())
        for name in ("rope_theta", "rope_scaling", "rope_parameters"):
            document.pop(name, None)
        (folder / "config.json").write_text(json.dumps(document | spelling))
    assert answers_by_files_of(*folders)
    change(folders[1] / "config.json", rope_theta=400.0)
    assert not answers_by_files_of(*folders)


def test_weights_without_a_tokenizer_take_the_base_s(folders, tmp_path):
    own, base = folders
    (tmp_path / "place").mkdir()
    assert with_tokenizer_of(base, own, tmp_path / "place") == own
    for path in own.glob("tokenizer*"):
        path.unlink()
    place = with_tokenizer_of(base, own, tmp_path / "place")
    assert (place / "tokenizer_config.json").resolve() == (base / "tokenizer_config.json").resolve()
    for name in ("config.json", "model.safetensors", "chat_template.jinja"):
        assert (place / name).resolve() == (own / name).resolve()
