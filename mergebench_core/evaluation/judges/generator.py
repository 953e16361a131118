"""What runs a judge's model: transformers, or vLLM. Both are greedy and see the same tokens."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from mergebench_core.errors import CheckpointError, InputError, MergebenchError
from mergebench_core.evaluation.engines.vllm import UNTOLD, end_vllm
from mergebench_core.evaluation.libraries import settle_libraries

BATCH_TOKENS = 16_384
"""Tokens of a batch at most, padding included; a longer prompt is a batch of its own."""
DEFAULT_CONTEXT_TOKENS = 2048
"""Where a model's configuration names no context length."""


class Generator(Protocol):
    """A language model that continues prompts greedily."""

    @property
    def context_tokens(self) -> int:
        """Tokens that prompt and continuation may have together."""

    def num_tokens(self, text: str) -> int:
        """Return the length of a prompt."""

    def cut(self, text: str, num_tokens: int) -> str:
        """Return the beginning of a text, up to `num_tokens` tokens of it."""

    def generate(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        """Return the continuation of each prompt, in order, without special tokens.

        Raises:
            MergebenchError: the model cannot be loaded here.
        """

    def park(self) -> None:
        """Free the accelerator's memory; the next prompts take it again."""


class Prompts:
    """Prompts as the tokens of a model."""

    def __init__(self, folder: Path) -> None:
        """Read tokenizer and context length of the model in `folder`.

        Raises:
            CheckpointError: transformers cannot read them.
        """
        settle_libraries()
        from transformers import AutoConfig, AutoTokenizer

        try:
            config: Any = AutoConfig.from_pretrained(folder, local_files_only=True)
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left", local_files_only=True)
        except (OSError, ValueError) as error:
            raise _unreadable(folder, error) from None
        self.context_tokens = int(getattr(config, "max_position_embeddings", None) or DEFAULT_CONTEXT_TOKENS)

    def encode(self, prompt: str) -> list[int]:
        """Return the tokens of a prompt; one that spells its first special token out gets no other."""
        has_start = bool(self.tokenizer.bos_token) and prompt.startswith(self.tokenizer.bos_token)
        return list(self.tokenizer(prompt, add_special_tokens=not has_start)["input_ids"])

    def cut(self, text: str, num_tokens: int) -> str:
        """Return the beginning of a text, up to `num_tokens` tokens of it."""
        if num_tokens <= 0:
            return ""
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        return text if len(offsets) <= num_tokens else text[: offsets[num_tokens - 1][1]]


class _Tokenized:
    """What both generators do alike."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def prompts(self) -> Prompts:
        """Tokenizer and context length, read when first needed."""
        return Prompts(self.folder)

    @property
    def context_tokens(self) -> int:
        """Tokens that prompt and continuation may have together."""
        return self.prompts.context_tokens

    def num_tokens(self, text: str) -> int:
        """Return the length of a prompt."""
        return len(self.prompts.encode(text))

    def cut(self, text: str, num_tokens: int) -> str:
        """Return the beginning of a text, up to `num_tokens` tokens of it."""
        return self.prompts.cut(text, num_tokens)


class TransformersGenerator(_Tokenized):
    """A model of transformers, loaded when it first generates. Prompts of like length share a batch."""

    def __init__(
        self,
        folder: Path,
        device: str | None = None,
        dtype: Literal["bfloat16", "float32"] | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        """Take the model in `folder`.

        Args:
            device: `cuda`, `cpu`, ...; None for a GPU if there is one.
            dtype: None for bfloat16 on a GPU and float32 on a CPU.
            batch_tokens: tokens of a batch at most, padding included.

        Raises:
            InputError: there is no such device here.
        """
        super().__init__(folder)
        self.device = find_device(device)
        self.dtype = dtype or ("float32" if self.device == "cpu" else "bfloat16")
        self.batch_tokens = batch_tokens

    @cached_property
    def model(self) -> Any:
        """The model on its device."""
        import torch
        from transformers import AutoModelForCausalLM, GenerationConfig
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(
                self.folder, dtype=getattr(torch, self.dtype), local_files_only=True
            )
            model.to(self.device)
        except (OSError, ValueError) as error:
            raise _unreadable(self.folder, error) from None
        except torch.OutOfMemoryError:
            raise _too_large(self.folder, self.device) from None
        # the model card's settings for sampling would be warned about, and are of no use here
        ends = model.generation_config.eos_token_id
        settings: Any = GenerationConfig
        model.generation_config = settings(eos_token_id=ends, pad_token_id=self._pad_token)
        return model.eval()

    @property
    def _pad_token(self) -> int:
        tokenizer = self.prompts.tokenizer
        padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        return int(padding or 0)

    def generate(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        """Return the continuation of each prompt, in order, without special tokens.

        Raises:
            MergebenchError: the model cannot be loaded here, or a batch does not fit in the memory.
        """
        import torch

        encoded = [self.prompts.encode(prompt) for prompt in prompts]
        texts = [""] * len(prompts)
        try:
            if prompts:
                self.model.to(self.device)
            for batch in batches([len(tokens) for tokens in encoded], max_tokens, self.batch_tokens):
                for index, text in zip(
                    batch, self._continue([encoded[i] for i in batch], max_tokens), strict=True
                ):
                    texts[index] = text
        except torch.OutOfMemoryError:
            raise _too_large(self.folder, self.device) from None
        return texts

    def park(self) -> None:
        """Move the model to main memory."""
        import torch

        if "model" in self.__dict__:
            self.model.to("cpu")
            if self.device != "cpu":
                torch.cuda.empty_cache()

    def _continue(self, rows: list[list[int]], max_tokens: int) -> list[str]:
        import torch

        length = max(map(len, rows))
        tokens = torch.tensor([[self._pad_token] * (length - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=tokens.to(self.device),
                attention_mask=mask.to(self.device),
                max_new_tokens=max_tokens,
                do_sample=False,
            )
        return list(self.prompts.tokenizer.batch_decode(output[:, length:], skip_special_tokens=True))


class VllmGenerator(_Tokenized):
    """A model that vLLM runs on a GPU, loaded when it first generates."""

    def __init__(self, folder: Path, gpu_memory_fraction: float = 0.9) -> None:
        """Take the model in `folder`; vLLM may use this fraction of the GPU's memory."""
        super().__init__(folder)
        self.gpu_memory_fraction = gpu_memory_fraction

    @cached_property
    def _vllm(self) -> Any:
        settle_libraries()
        try:
            return importlib.import_module("vllm")
        except ImportError:
            raise InputError("the engine vllm is not installed; install vllm, or choose the engine hf") from None

    @cached_property
    def model(self) -> Any:
        """The running engine."""
        try:
            return self._vllm.LLM(
                model=str(self.folder),
                dtype="bfloat16",
                seed=0,
                max_model_len=self.context_tokens,
                gpu_memory_utilization=self.gpu_memory_fraction,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise self._no_start(error) from None

    def _no_start(self, error: Exception) -> InputError:
        reason = " ".join(str(error).split())[:300]
        if "memory" not in reason.lower() and UNTOLD not in reason:
            return _unreadable(self.folder, error)
        return InputError(
            f"{self.folder}: the judge's model does not start ({reason}); free the GPU, or let vLLM have a "
            f"smaller fraction of it than {self.gpu_memory_fraction:g}"
        )

    def park(self) -> None:
        """End vLLM, which starts anew when it is needed."""
        if (model := self.__dict__.pop("model", None)) is not None:
            end_vllm(model)

    def generate(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        """Return the continuation of each prompt, in order, without special tokens.

        Raises:
            MergebenchError: vLLM is not installed or cannot run the model.
        """
        if not prompts:
            return []
        settings = self._vllm.SamplingParams(temperature=0.0, max_tokens=max_tokens, skip_special_tokens=True)
        tokens = [{"prompt_token_ids": self.prompts.encode(prompt)} for prompt in prompts]
        outputs = self.model.generate(tokens, settings, use_tqdm=False)
        return [str(output.outputs[0].text) for output in outputs]


def batches(lengths: Sequence[int], max_tokens: int, batch_tokens: int) -> Iterator[list[int]]:
    """Yield the indices of each batch, longest prompts first, so that too large a batch shows at once.

    A batch holds at most `batch_tokens` tokens, each row counted with the batch's longest prompt and `max_tokens`.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        longest = lengths[batch[0] if batch else index] + max_tokens
        if batch and (len(batch) + 1) * longest > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def find_device(device: str | None) -> str:
    """Return the device to use: the one named, else a GPU if there is one.

    Raises:
        InputError: it is none, or there is no such device here.
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device)
    except RuntimeError:
        raise InputError(f"device '{device}' is no device of torch; give cuda, cuda:<number> or cpu") from None
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device '{device}' is not there: torch sees {torch.cuda.device_count()} GPUs; give cpu")
    return device


def _unreadable(folder: Path, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:300]
    return CheckpointError(f"{folder}: the judge's model cannot be loaded ({reason}); fetch it again")


def _too_large(folder: Path, device: str) -> MergebenchError:
    return MergebenchError(
        f"{folder}: the judge's model does not fit in the memory of {device}; free some, or choose another device"
    )
