"""A track of toys, for tests of the machinery: random models of a few thousand parameters, a handful of items."""

from __future__ import annotations

import json
from pathlib import Path

from mergebench_core.tracks.digests import file_digests
from mergebench_core.tracks.track import EvaluationSettings, Task, Track, TrackBase

DOMAINS = ("instruction", "math", "multilingual", "coding", "safety")
NUM_ITEMS = 8
LOADER = """
import json
from pathlib import Path


def load(items, **others):
    from datasets import Dataset

    lines = (Path(__file__).parent / f"{items}.jsonl").read_text().splitlines()
    return {"test": Dataset.from_list([json.loads(line) for line in lines])}
"""
YAML = """
task: {name}
custom_dataset: !function loader.load
dataset_kwargs: {{items: {name}}}
test_split: test
output_type: multiple_choice
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: label
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


def build_toy_track(folder: Path) -> Track:
    """Write a track with a tied and an untied base into `folder` and return it."""
    bases = {name: _write_base(folder, name, tied=name == "toy-tied") for name in ("toy-untied", "toy-tied")}
    tasks = [_write_task(folder, f"toy_{domain}", "test", domain) for domain in DOMAINS]
    tasks += [_write_task(folder, f"toy_{domain}_surrogate", "surrogate", domain) for domain in DOMAINS]
    tasks += [_write_task(folder, "toy_general", "generalization", None)]
    (folder / "tasks" / "loader.py").write_text(LOADER)
    (folder / "calibration").mkdir()
    for domain in DOMAINS:
        rows = [json.dumps({"prompt": f"{domain} {i}", "completion": str(i)}) for i in range(20)]
        (folder / "calibration" / f"{domain}.jsonl").write_text("\n".join(rows) + "\n")
    return Track(
        name="toy",
        title="Toy track",
        domains=DOMAINS,
        bases=bases,
        tasks=tuple(tasks),
        task_folder=folder / "tasks",
        calibration_folder=folder / "calibration",
        num_calibration_samples=20,
        max_validations=35,
        evaluation=EvaluationSettings(batch_size=8, max_length=64, num_threads=1),
        file_digests=file_digests(folder, ["models/**/*.*", "tasks/*", "calibration/*"]),
        folder=folder,
    )


def _write_base(folder: Path, name: str, *, tied: bool) -> TrackBase:
    import torch

    home = folder / "models" / name
    model, tokenizer = _random_llama(tied), _byte_tokenizer()
    base = {key: value.clone() for key, value in model.state_dict().items()}
    places = ["base", *DOMAINS, "multitask"]
    for seed, place in enumerate(places):
        generator = torch.Generator().manual_seed(seed)
        noise = 0.3 if seed else 0.0
        model.load_state_dict({k: v + noise * torch.randn(v.shape, generator=generator) for k, v in base.items()})
        if tied:
            model.tie_weights()
        model.save_pretrained(home / place)
        tokenizer.save_pretrained(home / place)
    return TrackBase(
        name=name,
        title=name,
        family="llama",
        path=home / "base",
        specialists={domain: home / domain for domain in DOMAINS},
        references={"multitask": home / "multitask"},
    )


def _random_llama(tied: bool):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=259,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.3,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            tie_word_embeddings=tied,
        )
    )


def _byte_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
        model_max_length=64,
    )


def _write_task(folder: Path, name: str, purpose, domain: str | None) -> Task:
    tasks = folder / "tasks"
    tasks.mkdir(exist_ok=True)
    (tasks / f"{name}.yaml").write_text(YAML.format(name=name))
    rows = [
        {
            "id": f"{name}-{i}",
            "prompt": f"{name[4:9]} {i}?",
            "choices": [f" {'abcd'[j]}{i}" for j in range(4)],
            "label": i % 4,
        }
        for i in range(NUM_ITEMS)
    ]
    (tasks / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Task(
        name=name,
        title=name,
        purpose=purpose,
        domain=domain,
        metric="acc,none",
        num_items=NUM_ITEMS,
        chance=0.25,
    )
