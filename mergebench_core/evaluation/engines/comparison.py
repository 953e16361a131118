"""Does an engine that took weights in place answer as a fresh one does? Asked once per base and engine.

An engine that keeps an old tensor, an old prefix or an old file would score one model under another's name.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergebench_core.tracks.world import EngineName

NUM_TOKENS = 16
"""Tokens that each prompt is continued with."""
TOLERANCES: Mapping[EngineName, float] = {"hf": 1e-3, "vllm": 1e-2}
"""Nats by which the log-probability of a continuation may differ.

Requests go one at a time, so that both engines compute the same shapes. In transformers nothing else moves a bit;
vLLM may choose other kernels when it starts anew, and a bfloat16 logit of 16 has steps of 0.06.
"""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A plain prompt, and a continuation that every language model gives some probability."""

    text: str
    continuation: str


PROMPTS = (
    Prompt(text="The capital of France is", continuation=" Paris, in the north."),
    Prompt(text="Question: What is 7 + 5?\nAnswer:", continuation=" The answer is 12."),
    Prompt(text="def double(x):\n    return", continuation=" 2 * x\n"),
    Prompt(text="Das Wetter ist heute", continuation=" sehr schön und warm."),
    Prompt(text="List three colours.\n1.", continuation=" Red\n2. Green\n3. Blue"),
    Prompt(text="Once upon a time there was", continuation=" a house near a forest."),
)


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """How a model answers a few prompts."""

    texts: tuple[str, ...]
    """Greedy continuations."""
    log_probabilities: tuple[float, ...]
    """Of the fixed continuations, in nats."""


def fingerprint(language_model: Any, prompts: Sequence[Prompt] = PROMPTS) -> Fingerprint:
    """Return how an lm-eval model answers, asked through the calls that scoring uses.

    Args:
        language_model: lm-eval's `LM`, as an engine's `language_model()` gives it.
        prompts: what to ask.
    """
    arguments = {"until": [], "do_sample": False, "temperature": 0.0, "max_gen_toks": NUM_TOKENS}
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars
        return Fingerprint(
            texts=tuple(
                _ask(language_model, "generate_until", (prompt.text, dict(arguments))) for prompt in prompts
            ),
            log_probabilities=tuple(
                float(_ask(language_model, "loglikelihood", (prompt.text, prompt.continuation))[0])
                for prompt in prompts
            ),
        )


def differences(in_place: Fingerprint, fresh: Fingerprint, tolerance: float) -> list[str]:
    """Return what differs between a model loaded in place and the same one loaded anew; empty if nothing does.

    Args:
        in_place: fingerprint of the engine that replaced its weights.
        fresh: fingerprint of an engine that started with them, asked the same prompts.
        tolerance: nats by which log-probabilities may differ; see `TOLERANCES`.
    """
    found = []
    for number, (ours, theirs) in enumerate(zip(in_place.texts, fresh.texts, strict=True), 1):
        if ours != theirs:
            found.append(f"prompt {number} is continued with {ours!r} in place and {theirs!r} when loaded anew")
    pairs = zip(in_place.log_probabilities, fresh.log_probabilities, strict=True)
    for number, (value, other) in enumerate(pairs, 1):
        # written so that what is no number is a difference
        if not math.isclose(value, other, rel_tol=0.0, abs_tol=tolerance):
            found.append(f"prompt {number} has log-probability {value:.4f} in place, {other:.4f} when loaded anew")
    return found


def _ask(language_model: Any, kind: str, arguments: tuple[Any, ...]) -> Any:
    from lm_eval.api.instance import Instance

    request = Instance(request_type=kind, doc={}, arguments=arguments, idx=0)
    return getattr(language_model, kind)([request], disable_tqdm=True)[0]
