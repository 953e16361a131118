"""A stand-in for the package vllm 0.32: the calls that lm-eval's wrapper and our engine make, on a tiny model.

Its flaws are vLLM's: `reload_weights` reads safetensors from the folder it is given and keeps what a folder lacks;
a path that was read before gives what was read then; the prefix cache outlives the weights; level 2 of sleep loses
them; answers are sampled from one generator where a request brings no seed.
"""

from __future__ import annotations

import copy
import importlib.machinery
import json
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

ENGINES: list[LLM] = []
"""Every engine started, the dead ones too."""


@dataclass
class SamplingParams:
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: list[str] = field(default_factory=list)
    max_tokens: int | None = 16
    prompt_logprobs: int | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]


@dataclass
class RequestOutput:
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput]


class TokensPrompt(dict):  # type: ignore[type-arg]
    """A prompt as tokens."""


class LoRARequest:
    """Never made."""


class LLM:
    """The engine; see the module."""

    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        max_model_len: int | None = None,
        seed: int = 0,
        gpu_memory_utilization: float = 0.92,
        enable_sleep_mode: bool = False,
        enable_prefix_caching: bool = True,
        use_tqdm_on_load: bool = True,
        tokenizer: str | None = None,
        tokenizer_mode: str = "auto",
        tokenizer_revision: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        max_num_seqs: int | None = None,
        quantization: str | None = None,
        enable_lora: bool = False,
        max_lora_rank: int = 16,
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(tokenizer or model)
        self._max_model_len = max_model_len or self._model.config.max_position_embeddings
        if self._max_model_len > self._model.config.max_position_embeddings:
            raise ValueError("User-specified max_model_len is greater than the derived max_model_len")
        self.settings = {"dtype": dtype, "seed": seed, "gpu_memory_utilization": gpu_memory_utilization}
        self._has_sleep_mode = enable_sleep_mode
        self._asleep: set[str] = set()
        self._generator = torch.Generator().manual_seed(seed)
        self._is_caching = enable_prefix_caching
        self._prefixes: dict[tuple[int, ...], Any] = {}
        self._read: dict[str, dict[str, torch.Tensor]] = {}
        self.paths: list[str] = []
        self.is_alive = True
        core = types.SimpleNamespace(shutdown=self._shutdown)
        config = types.SimpleNamespace(max_model_len=self._max_model_len)
        self.llm_engine = types.SimpleNamespace(model_config=config, engine_core=core)
        ENGINES.append(self)

    def collective_rpc(self, method: str, timeout: Any = None, args: tuple = (), kwargs: Any = None) -> list[Any]:
        assert method == "reload_weights"
        assert self.is_alive
        self.reload_weights(*args, **(kwargs or {}))
        return [None]

    def reload_weights(self, weights_path: str) -> None:
        from safetensors.torch import load_file

        if "weights" in self._asleep:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if weights_path not in self._read:
            files = _weight_files(Path(weights_path))
            self._read[weights_path] = {name: value for file in files for name, value in load_file(file).items()}
        self.paths.append(weights_path)
        own = self._model.state_dict()
        for name, value in self._read[weights_path].items():
            own[name].copy_(value)

    def reset_prefix_cache(self, reset_running_requests: bool = False, reset_connector: bool = False) -> bool:
        self._prefixes.clear()
        return True

    def sleep(self, level: int = 1, mode: str = "abort") -> None:
        assert self._has_sleep_mode
        assert level == 2
        for value in self._model.state_dict().values():
            value.fill_(float("nan"))
        self._prefixes.clear()
        self._asleep = {"weights", "kv_cache"}

    def wake_up(self, tags: list[str] | None = None) -> bool:
        self._asleep -= set(tags or ("weights", "kv_cache"))
        return not self._asleep

    def generate(
        self,
        prompts: list[TokensPrompt],
        sampling_params: list[SamplingParams],
        *,
        use_tqdm: bool = True,
        lora_request: Any = None,
    ) -> list[RequestOutput]:
        assert self.is_alive
        if self._asleep:
            raise RuntimeError("the engine is asleep")
        pairs = zip(prompts, sampling_params, strict=True)
        with torch.no_grad():
            return [self._answer(list(prompt["prompt_token_ids"]), parameters) for prompt, parameters in pairs]

    def _shutdown(self, timeout: float | None = None) -> None:
        self.is_alive = False
        self._model = None

    def _answer(self, tokens: list[int], parameters: SamplingParams) -> RequestOutput:
        if len(tokens) + 1 > self._max_model_len:
            raise ValueError("The decoder prompt is longer than the maximum model length")
        told = None if parameters.prompt_logprobs is None else self._prompt_logprobs(tokens)
        answer = self._continue(tokens, parameters)
        return RequestOutput(prompt_token_ids=tokens, prompt_logprobs=told, outputs=[answer])

    def _prompt_logprobs(self, tokens: list[int]) -> list[dict[int, Logprob] | None]:
        """Requests for these do not read the prefix cache."""
        rows = self._model(torch.tensor([tokens])).logits[0].float().log_softmax(-1)
        found: list[dict[int, Logprob] | None] = [None]
        for row, token in zip(rows, tokens[1:], strict=False):
            best = int(row.argmax())
            found.append({number: Logprob(float(row[number])) for number in (token, best)})
        return found

    def _continue(self, tokens: list[int], parameters: SamplingParams) -> CompletionOutput:
        own = parameters.seed is not None
        generator = torch.Generator().manual_seed(parameters.seed) if own else self._generator
        past, row = self._prefilled(tokens)
        new: list[int] = []
        text = ""
        room = self._max_model_len - len(tokens)
        for _ in range(min(parameters.max_tokens or room, room)):
            token = _choose(row, parameters, generator)
            if token == self._tokenizer.eos_token_id:
                break
            new.append(token)
            text = self._tokenizer.decode(new, skip_special_tokens=parameters.skip_special_tokens)
            ends = [text.find(stop) for stop in parameters.stop if stop in text]
            if ends:
                text = text[: min(ends)]
                break
            row = self._model(torch.tensor([[token]]), past_key_values=past, use_cache=True).logits[0, -1]
        return CompletionOutput(index=0, text=text if parameters.detokenize else "", token_ids=new)

    def _prefilled(self, tokens: list[int]) -> tuple[Any, torch.Tensor]:
        """Return keys and values of all tokens (those of a known prefix as kept) and the logits after them."""
        from transformers import DynamicCache

        prefix = tuple(tokens[:-1])
        past = copy.deepcopy(self._prefixes[prefix]) if prefix in self._prefixes else None
        if past is None:
            past = DynamicCache()
            if prefix:
                self._model(torch.tensor([prefix]), past_key_values=past, use_cache=True)
            if self._is_caching:
                self._prefixes[prefix] = copy.deepcopy(past)
        return past, self._model(torch.tensor([tokens[-1:]]), past_key_values=past, use_cache=True).logits[0, -1]


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that vLLM reads: those of the index, where there is one, and all of those."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = {folder / name for name in json.loads(index.read_text())["weight_map"].values()}
        if named - set(files):
            raise FileNotFoundError(f"Weight files referenced in index but missing: {named - set(files)}")
        files = [file for file in files if file in named]
    if not files:
        raise RuntimeError(f"Cannot find any model weights with `{folder}`")
    return files


def _choose(row: torch.Tensor, parameters: SamplingParams, generator: torch.Generator) -> int:
    if parameters.temperature == 0:
        return int(row.argmax())
    chances = (row / parameters.temperature).softmax(-1)
    ordered, order = chances.sort(descending=True)
    ordered[(ordered.cumsum(-1) - ordered) > parameters.top_p] = 0
    return int(order[torch.multinomial(ordered, 1, generator=generator)])


def get_tokenizer(name: str, *, tokenizer_mode: str, trust_remote_code: bool, revision: Any, **others: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name, **others)


def resolve_chat_template(tokenizer: Any, chat_template: Any, tools: Any, *, model_config: Any) -> Any:
    return chat_template or tokenizer.chat_template


def modules() -> dict[str, types.ModuleType]:
    """Return the package's modules by name."""
    contents = {
        "vllm": {"LLM": LLM, "SamplingParams": SamplingParams, "TokensPrompt": TokensPrompt},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": LoRARequest},
        "vllm.renderers": {},
        "vllm.renderers.hf": {"resolve_chat_template": resolve_chat_template},
        "vllm.tokenizers": {"get_tokenizer": get_tokenizer},
    }
    return {name: _module(name, content) for name, content in contents.items()}


def write_metadata(folder: Path) -> None:
    """Write what tells the package's version; lm-eval asks for it."""
    (folder / "vllm-0.32.0.dist-info").mkdir(parents=True)
    (folder / "vllm-0.32.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0\n"
    )


def forget_wrapper() -> None:
    """Let lm-eval import its wrapper anew, with the vllm that is there then."""
    from lm_eval.api.registry import model_registry
    from lm_eval.models import MODEL_MAPPING

    sys.modules.pop("lm_eval.models.vllm_causallms", None)
    model_registry._objs["vllm"] = MODEL_MAPPING["vllm"]


def _module(name: str, content: dict[str, Any]) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    module.__dict__.update(content)
    return module
