"""What a job costs before it was ever run: tokens by task, speeds by engine, bytes by model.

The token counts are rough guesses for the published sets; the speeds are those of one H100 in bfloat16, measured
with random weights (benchmarks/RESULTS.md) where it says so, else assumed. Real runs replace them (`planning`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TaskTokens:
    """Tokens of one item."""

    prompt: int
    """Tokens read for one answer, or for all choices together."""
    answer: int = 0
    """Tokens generated for all its answers."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast an engine is with models of one size."""

    prompt_tokens_per_s: float
    answer_tokens_per_s: float
    load_s: float
    is_measured: bool
    """Whether on a GPU, or assumed."""


HF = {
    "3B": Speed(prompt_tokens_per_s=38_000, answer_tokens_per_s=1_700, load_s=10, is_measured=True),
    "8B": Speed(prompt_tokens_per_s=23_000, answer_tokens_per_s=1_550, load_s=20, is_measured=True),
    "2B": Speed(prompt_tokens_per_s=41_000, answer_tokens_per_s=1_380, load_s=10, is_measured=True),
    "9B": Speed(prompt_tokens_per_s=18_000, answer_tokens_per_s=1_000, load_s=20, is_measured=False),
}
VLLM = {
    "3B": Speed(prompt_tokens_per_s=60_000, answer_tokens_per_s=8_000, load_s=60, is_measured=False),
    "8B": Speed(prompt_tokens_per_s=30_000, answer_tokens_per_s=5_000, load_s=60, is_measured=False),
    "2B": Speed(prompt_tokens_per_s=60_000, answer_tokens_per_s=8_000, load_s=60, is_measured=False),
    "9B": Speed(prompt_tokens_per_s=25_000, answer_tokens_per_s=4_000, load_s=60, is_measured=False),
}
SPEEDS: Mapping[Literal["hf", "vllm"], Mapping[str, Speed]] = {"hf": HF, "vllm": VLLM}
"""By engine and size of the base."""
TOKENS: Mapping[str, TaskTokens] = {
    "ifeval": TaskTokens(prompt=60, answer=600),
    "gsm8k": TaskTokens(prompt=900, answer=150),
    "math": TaskTokens(prompt=120, answer=500),
    "m_mmlu": TaskTokens(prompt=600),
    "m_arc": TaskTokens(prompt=250),
    "m_hellaswag": TaskTokens(prompt=600),
    "humaneval_plus": TaskTokens(prompt=180, answer=2_500),
    "mbpp_plus": TaskTokens(prompt=130, answer=2_000),
    "wildguardtest": TaskTokens(prompt=150, answer=300),
    "harmbench": TaskTokens(prompt=150, answer=400),
    "do_anything_now": TaskTokens(prompt=700, answer=300),
    "xstest": TaskTokens(prompt=40, answer=200),
    "ifeval_like": TaskTokens(prompt=60, answer=600),
    "mmlu_stem": TaskTokens(prompt=500),
    "lambada": TaskTokens(prompt=90),
    "conala": TaskTokens(prompt=200, answer=40),
    "wildjailbreak": TaskTokens(prompt=200, answer=300),
    "mmlu": TaskTokens(prompt=500),
    "triviaqa": TaskTokens(prompt=30, answer=20),
    "squadv2": TaskTokens(prompt=220, answer=20),
    "coqa": TaskTokens(prompt=500, answer=20),
    "pubmedqa": TaskTokens(prompt=1_000),
    "wmt14_fr_en": TaskTokens(prompt=60, answer=50),
    "ifeval_tuned_on": TaskTokens(prompt=60, answer=600),
    "mmlu_stem_test": TaskTokens(prompt=500),
    "wildjailbreak_harmful": TaskTokens(prompt=200, answer=300),
}
CACHE_BYTES_PER_TOKEN = {"2B": 106_496, "3B": 114_688, "8B": 131_072, "9B": 344_064}
"""Keys and values of one token in bfloat16, by size of the base: 2 * 2 * layers * key-value heads * head size."""
RESIDENT_BYTES_PER_PARAMETER = 2
"""bfloat16, in which models are scored."""
ACTIVATION_BYTES = 4 * 2**30
JUDGE_BYTES = 15 * 10**9
"""A judge of 7 billion parameters."""
DATA_BYTES = 3 * 10**9
"""All data sets of the track, fetched and prepared: a guess."""
