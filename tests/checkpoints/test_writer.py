"""The writer: the base's files over again with other values, there when complete and not before."""

from __future__ import annotations

import pytest
import torch
from checkpoint_samples import random_tensors, write_checkpoint, write_in_order

from mergebench_core.checkpoints import writer as writer_module
from mergebench_core.checkpoints.checkpoint import INDEX, Checkpoint, pieces
from mergebench_core.checkpoints.digest import weights_sha256
from mergebench_core.checkpoints.writer import CheckpointWriter


def write_values(writer: CheckpointWriter, source: Checkpoint, names=None, chunk_numel: int = 7) -> None:
    for name in names or source.names:
        for piece in pieces(source.entry(name), chunk_numel):
            writer.write(name, piece.offset, source.read(name, piece.offset, piece.numel))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("num_shards", [1, 3])
def test_layout_is_the_bases_byte_for_byte(tmp_path, num_shards, dtype):
    base = write_checkpoint(tmp_path / "base", random_tensors(0, dtype), num_shards=num_shards)
    other = write_checkpoint(tmp_path / "other", random_tensors(1, dtype))
    (base.path / "config.json").write_text('{"of": "the base"}')
    (base.path / "training_args.bin").write_bytes(b"pickle")
    writer = CheckpointWriter(base, tmp_path / "out")
    write_values(writer, other, reversed(base.names))
    digest = writer.finish()
    written = Checkpoint(tmp_path / "out")
    assert digest == weights_sha256(written) == weights_sha256(other)
    assert {name: header.raw for name, header in written.headers.items()} == {
        name: header.raw for name, header in base.headers.items()
    }
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {*base.headers, "config.json", *([INDEX] if num_shards > 1 else [])}
    for name in files - set(base.headers):
        assert (tmp_path / "out" / name).read_bytes() == (base.path / name).read_bytes()


def test_same_values_give_the_same_files(tmp_path):
    base = write_in_order(tmp_path / "base", dict(reversed(random_tensors(0).items())))
    writer = CheckpointWriter(base, tmp_path / "out")
    for entry in base.entries.values():
        writer.copy_from_base(entry)
    writer.finish()
    file = "model.safetensors"
    assert (tmp_path / "out" / file).read_bytes() == (base.path / file).read_bytes()


def test_digest_counts_tensors_without_elements(tmp_path):
    base = write_checkpoint(tmp_path / "base", {"a": torch.ones(3), "empty": torch.empty(0, 4)})
    writer = CheckpointWriter(base, tmp_path / "out")
    write_values(writer, base)
    assert writer.finish() == weights_sha256(base)


def test_nothing_under_the_final_name_before_it_is_finished(tmp_path):
    base = write_checkpoint(tmp_path / "base", random_tensors(0))
    writer = CheckpointWriter(base, tmp_path / "out")
    write_values(writer, base)
    assert not (tmp_path / "out").exists()
    writer.finish()
    assert {path.name for path in tmp_path.iterdir()} == {"base", "out"}


@pytest.mark.parametrize("num_tensors", [0, 3, 8])
def test_abort_leaves_nothing(tmp_path, num_tensors):
    base = write_checkpoint(tmp_path / "base", random_tensors(0))
    writer = CheckpointWriter(base, tmp_path / "out")
    write_values(writer, base, list(base.names)[:num_tensors] or base.names[:1])
    writer.abort()
    writer.abort()
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_a_paused_writer_goes_on(tmp_path):
    """What is complete and unharmed is kept, up to the first tensor that is not."""
    base = write_checkpoint(tmp_path / "base", random_tensors(0))
    other = write_checkpoint(tmp_path / "other", random_tensors(1))
    finished: dict[str, str] = {}
    first = CheckpointWriter(base, tmp_path / "out", on_finished=finished.__setitem__)
    write_values(first, other, base.names[:4])
    first.pause()
    assert list(finished) == list(base.names[:4])
    harmed = {**finished, base.names[2]: "0" * 64}
    again = CheckpointWriter(base, tmp_path / "out", finished=harmed)
    assert again.num_kept == 2
    write_values(again, other, base.names[2:4])
    again.pause()
    last = CheckpointWriter(base, tmp_path / "out", finished=finished)
    assert last.num_kept == 4
    write_values(last, other, base.names[4:])
    assert last.finish() == weights_sha256(other) == weights_sha256(Checkpoint(tmp_path / "out"))


def test_an_error_of_an_early_flush_is_told(tmp_path, monkeypatch):
    """The system reports a failed write once: to the flush on the way, not to the last one."""
    base = write_checkpoint(tmp_path / "base", random_tensors(0))
    answers = [OSError(5, "Input/output error")]

    def fsync(descriptor: int) -> None:
        if answers:
            raise answers.pop()

    monkeypatch.setattr(writer_module, "FLUSH_BYTES", 1)
    monkeypatch.setattr(writer_module.os, "fsync", fsync)
    writer = CheckpointWriter(base, tmp_path / "out")
    with pytest.raises(OSError, match="Input/output error"):  # noqa: PT012 (either call may be the first to know)
        write_values(writer, base)
        writer.finish()
    writer.abort()
    assert not (tmp_path / "out").exists()


def test_abort_after_finish_keeps_the_checkpoint(tmp_path):
    base = write_checkpoint(tmp_path / "base", random_tensors(0))
    writer = CheckpointWriter(base, tmp_path / "out")
    write_values(writer, base)
    writer.finish()
    writer.abort()
    assert weights_sha256(Checkpoint(tmp_path / "out")) == weights_sha256(base)


def test_left_over_of_a_killed_writer_and_older_result_are_replaced(tmp_path):
    base = write_checkpoint(tmp_path / "base", random_tensors(0))
    write_checkpoint(tmp_path / "out", random_tensors(5), num_shards=2)
    write_values(CheckpointWriter(base, tmp_path / "out"), base, base.names[:2])
    assert len(Checkpoint(tmp_path / "out").headers) == 2
    writer = CheckpointWriter(base, tmp_path / "out")
    write_values(writer, base)
    assert writer.finish() == weights_sha256(Checkpoint(tmp_path / "out"))
    assert {path.name for path in tmp_path.iterdir()} == {"base", "out"}


def test_unfinished_tensor_or_gap_is_our_bug(tmp_path):
    base = write_checkpoint(tmp_path / "base", random_tensors(0))
    writer = CheckpointWriter(base, tmp_path / "out")
    with pytest.raises(AssertionError):
        writer.write(base.names[0], 1, base.read(base.names[0], 1, 1))
    write_values(writer, base, base.names[1:])
    with pytest.raises(AssertionError, match="0 elements written"):
        writer.finish()
    writer.abort()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_loads_it(tmp_path, tied):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "base", max_shard_size="1KB")
    base = Checkpoint(tmp_path / "base")
    assert len(base.headers) > 1
    assert ("lm_head.weight" in base.names) is not tied
    writer = CheckpointWriter(base, tmp_path / "out")
    for name, entry in base.entries.items():
        writer.write(name, 0, base.read(name, 0, entry.numel) * 2)
    writer.finish()
    weights = LlamaForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").state_dict()
    for name in base.names:
        assert torch.equal(weights[name], base.tensor(name) * 2)
    head, embedding = weights["lm_head.weight"], weights["model.embed_tokens.weight"]
    assert (head.data_ptr() == embedding.data_ptr()) is tied
