"""The trained model as files: names, dtypes, shards and rights."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from training_requests import request_of, weights
from training_rows import small_base

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.errors import CheckpointError, RunError
from mergebench_core.training.export import export
from mergebench_core.training.runs import train


class Trained:
    """What `export` needs of a trainer."""

    is_fsdp_enabled = False
    accelerator = SimpleNamespace(wait_for_everyone=lambda: None)

    def __init__(self, shards, ties=None, parameters=()):
        self.shards = shards
        self.model = SimpleNamespace(
            all_tied_weights_keys=ties or {}, named_parameters=lambda: [(name, None) for name in parameters]
        )

    def save_model(self, folder):
        Path(folder).mkdir(parents=True)
        names = {}
        for number, tensors in enumerate(self.shards, 1):
            file = f"model-{number:05d}-of-{len(self.shards):05d}.safetensors"
            save_file(tensors, Path(folder) / file)
            names.update(dict.fromkeys(tensors, file))
        index = {"metadata": {"total_size": 0}, "weight_map": names}
        (Path(folder) / "model.safetensors.index.json").write_text(json.dumps(index))

    def is_world_process_zero(self):
        return True


def trained(base):
    """Weights in float32, as training leaves them, in two shards."""
    tensors = {name: values.float() + 0.001 for name, values in weights(base.folder).items()}
    names = sorted(tensors)
    return [{name: tensors[name] for name in part} for part in (names[:9], names[9:])]


def test_shards_are_rounded_to_the_base(base, tmp_path):
    export(Trained(trained(base)), base.folder, tmp_path / "out")
    written = Checkpoint(tmp_path / "out")
    assert len(written.headers) == 2
    for name, values in weights(base.folder).items():
        assert written.tensor(name).equal((values.float() + 0.001).to(torch.bfloat16))
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(values.nbytes for values in weights(base.folder).values())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda shards: [], "the weights were not gathered"),
        (
            lambda shards: [{name: values[:0] for name, values in shards[0].items()}],
            "has shape .*, but the base's",
        ),
        (lambda shards: [{name: values / 0 for name, values in shards[0].items()}], "training diverged: tensor"),
    ],
)
def test_bad_weights_are_one_line(base, tmp_path, spoil, message):
    with pytest.raises(RunError, match=message):
        export(Trained(spoil(trained(base))), base.folder, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.safetensors"))


HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"


def modes(folder):
    return {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize(("mask", "mode"), [(0o022, "0o644"), (0o027, "0o640")])
def test_files_have_the_rights_of_new_files(base, tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        partial = tmp_path / "out" / ".model-00001-of-00002.safetensors.partial"
        partial.parent.mkdir()
        partial.touch(mode=0o600)  # of an export that was killed
        export(Trained(trained(base)), base.folder, tmp_path / "out")
    finally:
        os.umask(before)
    written = modes(tmp_path / "out")
    assert {"config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"} <= written.keys()
    assert set(written.values()) == {mode}


@pytest.mark.usefixtures("small_recipes")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_head_that_the_base_stores_though_tied_is_written(tmp_path, hub, dtype):
    base = small_base(tmp_path / "base", dtype=dtype, is_tied=True)
    stored = weights(base.folder)
    assert HEAD not in stored
    stored[HEAD] = stored[EMBEDDINGS].clone()
    save_file(stored, base.folder / "model.safetensors", metadata={"format": "pt"})
    result = train(request_of(base, tmp_path / "out", num_steps=2), lambda _: None)
    written = weights(result.folder)
    assert written.keys() == stored.keys()
    assert written[HEAD].equal(written[EMBEDDINGS])
    assert not written[HEAD].equal(stored[HEAD])


def test_tied_tensors_lie_in_the_shard_of_what_they_are_tied_to(base, tmp_path):
    shards = trained(base)
    head = shards[0].pop(HEAD) if HEAD in shards[0] else shards[1].pop(HEAD)
    assert head is not None
    export(Trained(shards, ties={HEAD: EMBEDDINGS}), base.folder, tmp_path / "out")
    written = Checkpoint(tmp_path / "out")
    assert set(written.names) == set(weights(base.folder))
    assert written.tensor(HEAD).equal(written.tensor(EMBEDDINGS))
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == weights(base.folder).keys()
    assert index["weight_map"][HEAD] == index["weight_map"][EMBEDDINGS]
    assert index["metadata"]["total_size"] == sum(values.nbytes for values in weights(base.folder).values())


def test_a_base_that_stores_only_the_head_of_the_tie(base, tmp_path):
    shards = trained(base)
    stored = weights(base.folder)
    del stored[EMBEDDINGS]
    save_file(stored, base.folder / "model.safetensors", metadata={"format": "pt"})
    for shard in shards:
        shard.pop(HEAD, None)
    export(Trained(shards, ties={HEAD: EMBEDDINGS}), base.folder, tmp_path / "out")
    assert set(Checkpoint(tmp_path / "out").names) == stored.keys()


def test_what_is_no_part_of_the_model_stays_the_bases(base, tmp_path):
    stored = {**weights(base.folder), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.tensor([1.0, 0.5])}
    save_file(stored, base.folder / "model.safetensors", metadata={"format": "pt"})
    shards = trained(base)
    for shard in shards:
        shard.pop("model.layers.0.self_attn.rotary_emb.inv_freq", None)
    export(Trained(shards), base.folder, tmp_path / "out")
    written = Checkpoint(tmp_path / "out")
    assert set(written.names) == stored.keys()
    assert written.tensor("model.layers.0.self_attn.rotary_emb.inv_freq").equal(torch.tensor([1.0, 0.5]))


def test_a_trained_tensor_that_was_not_gathered_is_one_line(base, tmp_path):
    shards = trained(base)
    name = shards[1].popitem()[0]
    with pytest.raises(RunError, match=f"^[^\n]*'{name}' was not gathered[^\n]*$"):
        export(Trained(shards, parameters=[name]), base.folder, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_a_tensor_that_the_base_has_not_is_one_line(base, tmp_path):
    shards = trained(base)
    shards[0]["adapter.weight"] = torch.zeros(2)
    with pytest.raises(CheckpointError, match=r"has no tensor 'adapter\.weight'"):
        export(Trained(shards), base.folder, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.safetensors"))
