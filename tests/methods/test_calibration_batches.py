"""Samples as tokens and batches: what is cut, what counts, and that padding changes nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mergebench_methods.calibration_batches import (
    MAX_TOKENS,
    TOKENS_PER_BATCH,
    Sample,
    batch_of,
    batches,
    completion_logits,
    encode,
    load_model,
    load_tokenizer,
    read_samples,
)
from tiny_llama import byte_tokenizer, tiny_llama

from mergebench_core.errors import CheckpointError, InputError

CPU = torch.device("cpu")
EOS = 2


def sample(prompt: int, completion: int, start: int = 5) -> Sample:
    return Sample(tokens=tuple(range(start, start + prompt + completion)), num_prompt_tokens=prompt)


def test_a_sample_is_prompt_completion_and_end():
    found = encode({"prompt": "ab", "completion": "c"}, byte_tokenizer())
    assert found.num_prompt_tokens == 2
    assert byte_tokenizer().decode(found.tokens) == "abc</s>"


def word_tokenizer(before=(), after=()):
    """A tokenizer of numbers, with special tokens around a text."""

    def tokenize(text, add_special_tokens=True):
        words = [int(word) for word in text.split()]
        return {"input_ids": [*before, *words, *after] if add_special_tokens else words}

    tokenize.eos_token_id = EOS
    return tokenize


def test_special_tokens_stand_where_they_belong():
    found = encode({"prompt": "10 11", "completion": "12"}, word_tokenizer(before=[1], after=[EOS]))
    assert (found.tokens, found.num_prompt_tokens) == ((1, 10, 11, 12, EOS), 3)


@pytest.mark.parametrize(
    ("prompt", "completion", "kept_prompt", "kept_completion"),
    [(10, 5, 10, 6), (600, 5, 506, 6), (10, 600, 10, 502), (600, 600, 256, 256), (0, 600, 0, 512)],
)
def test_long_samples_keep_the_first_token_the_question_s_end_and_the_answer_s_start(
    prompt, completion, kept_prompt, kept_completion
):
    words = [
        " ".join(str(start + n) for n in range(count)) for start, count in ((1000, prompt), (5000, completion))
    ]
    found = encode({"prompt": words[0], "completion": words[1]}, word_tokenizer())
    assert found.num_prompt_tokens == kept_prompt
    assert len(found.tokens) == min(kept_prompt + kept_completion, MAX_TOKENS)
    if prompt:
        assert (found.tokens[0], found.tokens[kept_prompt - 1]) == (1000, 999 + prompt)
    assert found.tokens[kept_prompt] == 5000


def test_batch_by_hand():
    batch = batch_of([sample(2, 1), sample(0, 4), sample(3, 0)], CPU)
    assert batch.tokens.tolist() == [[5, 6, 7, 0], [5, 6, 7, 8], [5, 6, 7, 0]]
    assert batch.is_token.tolist() == [[True, True, True, False], [True] * 4, [True, True, True, False]]
    assert batch.is_completion.tolist() == [[False, False, True, False], [False, True, True, True], [False] * 4]


def test_batches_hold_every_sample_once_within_their_limit():
    samples = [sample(length, 1, start=100 * length) for length in (300, 3, 700, 3000, 4, 299, 1500)]
    found = list(batches(samples, CPU))
    assert all(batch.tokens.numel() <= TOKENS_PER_BATCH or len(batch.tokens) == 1 for batch in found)
    firsts = [int(row[0]) for batch in found for row in batch.tokens]
    assert sorted(firsts) == sorted(item.tokens[0] for item in samples)


def test_padding_changes_no_prediction():
    model = tiny_llama(0)
    samples = [sample(2, 2), sample(4, 9), sample(0, 5)]
    logits, tokens = completion_logits(model, batch_of(samples, CPU))
    alone = [completion_logits(model, batch_of([item], CPU)) for item in samples]
    assert torch.equal(tokens, torch.cat([part[1] for part in alone]))
    torch.testing.assert_close(logits, torch.cat([part[0] for part in alone]))
    full = model(input_ids=torch.tensor([samples[1].tokens])).logits
    torch.testing.assert_close(alone[1][0], full[0, 3:12])
    assert alone[1][1].tolist() == list(samples[1].tokens[4:])


def test_folders_without_a_model_or_tokenizer_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=f"{tmp_path}: holds no causal language model .* save it there"):
        load_model(tmp_path, CPU)
    with pytest.raises(CheckpointError, match=f"{tmp_path}: holds no tokenizer"):
        load_tokenizer(tmp_path)


def test_a_domain_without_samples_is_named():
    context = SimpleNamespace(calibration=lambda domain, num_samples: iter([]))
    with pytest.raises(InputError, match="domain 'math' has no calibration samples"):
        read_samples(context, "math", 3, byte_tokenizer())
