"""The transformers engine on a GPU: python benchmarks/gpu_engine.py [llama-3.2-3b ...]

Random weights at the sizes of the paper's models: speeds do not depend on what the weights are. Prints seconds
for loading, replacing all weights in place, parking and waking, tokens per second for comparing choices and for
generating, and peak memory; then the scores of the embedded track on CPU and GPU.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.evaluation.engines.hf import HfEngine
from mergebench_core.evaluation.harness import Harness
from mergebench_core.tracks.registry import load_track
from mergebench_core.tracks.track import EvaluationSettings

LLAMA = {
    "vocab_size": 128256, "num_key_value_heads": 8, "max_position_embeddings": 8192, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
CONFIGS = {
    "llama-3.2-3b": lambda: LlamaConfig(
        hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24, head_dim=128,
        tie_word_embeddings=True, **LLAMA,
    ),
    "llama-3.1-8b": lambda: LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, head_dim=128,
        **LLAMA,
    ),
    "gemma-2-2b": lambda: Gemma2Config(
        vocab_size=256000, hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8,
        num_key_value_heads=4, head_dim=256, max_position_embeddings=8192, bos_token_id=1, eos_token_id=2,
        pad_token_id=0,
    ),
}  # fmt: skip
SETTINGS = EvaluationSettings(
    batch_size=8, generation_batch_size=64, max_length=4096, num_threads=1, dtype="bfloat16", device="auto",
    truncates=True,
)  # fmt: skip
MINI = load_track("mini-v1").base("mini-llama")
PROMPT = "The quick brown fox jumps over the lazy dog. " * 12
NUM_CHOICES, NUM_ANSWERS, ANSWER_TOKENS = 128, 64, 128


def timed(function: Callable[[], object]) -> float:
    """Return the seconds that a call takes, with all work on the GPU done."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def write_model(name: str, folder: Path) -> None:
    """Write a random model of that size with the embedded track's tokenizer, whose ids all fit."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        model = AutoModelForCausalLM.from_config(CONFIGS[name]())
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    for path in MINI.path.glob("tokenizer*"):
        (folder / path.name).write_bytes(path.read_bytes())
    del model
    torch.cuda.empty_cache()


def requests(kind: str, count: int, *arguments: object) -> list[Instance]:
    """Return requests to a language model, each with a prompt of its own."""
    return [
        Instance(request_type=kind, doc={}, arguments=(f"{index} {PROMPT}", *arguments), idx=0)
        for index in range(count)
    ]


def measure(name: str) -> dict[str, float]:
    """Measure one model."""
    torch.cuda.reset_peak_memory_stats()
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_model(name, folder)
        started = time.perf_counter()
        engine = HfEngine(folder, SETTINGS)
        model = engine.language_model()
        found["load_s"] = time.perf_counter() - started
        checkpoint = Checkpoint(folder)
        engine.load(checkpoint)
        found["replace_s"] = timed(lambda: engine.load(checkpoint))
        num_tokens = len(engine.tokenizer(f"0 {PROMPT}")["input_ids"])
        engine.set_batch_size(8)
        model.loglikelihood(requests("loglikelihood", 8, " a b"))
        seconds = timed(lambda: model.loglikelihood(requests("loglikelihood", NUM_CHOICES, " a b")))
        found["prompt_tokens"] = num_tokens
        found["prompt_tokens_per_s"] = NUM_CHOICES * num_tokens / seconds
        engine.set_batch_size(64)
        settings = {
            "until": ["never in a random text"],
            "max_gen_toks": ANSWER_TOKENS,
            "do_sample": False,
            "min_new_tokens": ANSWER_TOKENS,
        }
        model.generate_until(requests("generate_until", 2, settings | {"max_gen_toks": 4, "min_new_tokens": 4}))
        seconds = timed(lambda: model.generate_until(requests("generate_until", NUM_ANSWERS, settings)))
        found["answer_tokens_per_s"] = NUM_ANSWERS * ANSWER_TOKENS / seconds
        found["park_s"] = timed(engine.park)
        found["parked_gib"] = torch.cuda.memory_allocated() / 2**30
        found["wake_s"] = timed(engine.language_model)
        found["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        engine.close()
    return found


def compare_devices() -> None:
    """Score the embedded track's base and math specialist on both devices."""
    import dataclasses

    track = load_track("mini-v1")
    on_gpu = dataclasses.replace(track, evaluation=dataclasses.replace(track.evaluation, device="auto"))
    engines = [HfEngine(MINI.path, world.evaluation) for world in (track, on_gpu)]
    harnesses = [Harness(world, engine) for world, engine in zip((track, on_gpu), engines, strict=True)]
    sys.stdout.write("\n| model | task | CPU | GPU | items that differ |\n|---|---|---|---|---|\n")
    for path in (MINI.path, MINI.specialists["math"]):
        for engine in engines:
            engine.load(Checkpoint(path))
        for task in track.tasks_for("test", "generalization"):
            if task.domain == "coding":
                continue  # programs run in a sandbox, whatever the device
            cpu, gpu = (harness.score(task) for harness in harnesses)
            differing = sum(a.score != b.score for a, b in zip(cpu.rows, gpu.rows, strict=True))
            sys.stdout.write(f"| {path.name} | {task.name} | {cpu.score:.4f} | {gpu.score:.4f} | {differing} |\n")
            sys.stdout.flush()


def main() -> None:
    sys.stdout.write(f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}\n")
    for name in sys.argv[1:] or ["llama-3.2-3b"]:
        found = {key: round(value, 2) for key, value in measure(name).items()}
        sys.stdout.write(f"{name}: {json.dumps(found)}\n")
        sys.stdout.flush()
    compare_devices()


if __name__ == "__main__":
    main()
