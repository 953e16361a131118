"""The engine on vLLM: a process of vLLM's on the GPU that takes new weights from a folder, in place."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.header import TensorEntry
from mergebench_core.errors import EngineError, InputError, MergebenchError
from mergebench_core.evaluation.engines.engine import TEMPLATE_VALUES
from mergebench_core.evaluation.engines.hf import load_tokenizer
from mergebench_core.evaluation.engines.lengths import refuse_long
from mergebench_core.evaluation.engines.weight_folders import WeightFolders
from mergebench_core.evaluation.engines.work_folder import ENGINE_LOG
from mergebench_core.evaluation.libraries import settle_libraries
from mergebench_core.tracks.track import EvaluationSettings

if TYPE_CHECKING:
    import torch

FRACTION_VARIABLE = "MERGEBENCH_GPU_MEMORY_FRACTION"
DEFAULT_FRACTION = 0.9
MAX_REASON = 300
_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
    # a process that was forked after torch has looked for GPUs cannot use them
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
_ERROR = re.compile(r"\b(\w*(?:Error|Exception): .+)")
UNTOLD = "Engine core initialization failed"
"""All that vLLM says where it started in a process of its own and failed there."""


class VllmEngine:
    """A vLLM engine that starts when it is first asked to score; see `Engine`.

    Weights go to a folder below the work folder as they come, without a copy in memory, and into vLLM before the
    next scoring: always all of them (vLLM fuses tensors, and does not load a part of one) and always under a new
    path (one that vLLM has read before may give the old tensors).
    """

    def __init__(self, path: Path, settings: EvaluationSettings, work_folder: Path) -> None:
        """Prepare for the model in folder `path`; nothing is loaded yet.

        Raises:
            CheckpointError: there is no model in safetensors.
            InputError: vLLM is not installed, there is no GPU, or its fraction to use is no fraction.
        """
        settle_libraries()
        require_vllm()
        self._fraction = gpu_memory_fraction()
        self._path = path
        self._settings = settings
        base = Checkpoint(path)
        self._folder = Path(tempfile.mkdtemp(prefix="vllm-", dir=work_folder))
        self._weights = WeightFolders(base, self._folder / "weights")
        self._model: Any = None
        self._is_current = False
        """Whether vLLM has the weights written so far."""
        self._is_asleep = False

    def write(self, name: str, offset: int, values: torch.Tensor) -> None:
        """Replace flat elements from `offset` on of one tensor."""
        self._is_current = False
        self._weights.write(name, offset, values)

    def copy(self, checkpoint: Checkpoint, entry: TensorEntry) -> None:
        """Replace one tensor by that of a checkpoint.

        Raises:
            CheckpointError: the model has no such tensor.
        """
        self._is_current = False
        self._weights.copy(checkpoint, entry)

    def load(self, checkpoint: Checkpoint) -> None:
        """Replace all weights by those of a checkpoint with the same names and shapes, read when next needed."""
        self._is_current = False
        self._weights.load(checkpoint)

    def language_model(self) -> Any:
        """Return lm-eval's wrapper of vLLM, with the weights written so far.

        Raises:
            InputError: vLLM cannot start here, or there is no room for the weights.
            EngineError: vLLM failed to take the weights.
        """
        if self._model is not None and self._model.has_failed:
            self._stop()
        if self._model is None:
            self._model = self._start()
            self._is_current = self._weights.is_untouched
        if not self._is_current:
            self._take_weights()
        return self._model

    def set_batch_size(self, batch_size: int) -> None:
        """Nothing: vLLM schedules by itself."""

    def park(self) -> None:
        """Let vLLM give the GPU's memory back, weights and all; it keeps what is quick to start again from."""
        if self._model is None or self._is_asleep:
            return
        try:
            self._model.model.sleep(level=2)
        except Exception:  # a vLLM that is dead or at odds with itself gives it back when it ends
            self._stop()
        else:
            self._is_asleep, self._is_current = True, False

    def close(self) -> None:
        """End vLLM's process and delete all files."""
        self._stop()
        self._weights.close()
        with contextlib.suppress(OSError):
            (self._folder / ENGINE_LOG).unlink(missing_ok=True)
            self._folder.rmdir()

    def _start(self) -> Any:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        log = self._folder / ENGINE_LOG
        try:
            with _output_to(log):
                return _language_model_class(self._settings.truncates)(
                    pretrained=str(self._path),
                    dtype=self._settings.dtype,
                    max_model_len=self._settings.max_length,
                    add_bos_token=True,
                    chat_template_args=dict(TEMPLATE_VALUES),
                    seed=0,
                    batch_size="auto",
                    gpu_memory_utilization=self._fraction,
                    enable_sleep_mode=True,
                    enable_prefix_caching=False,  # else the last bits of an answer depend on what was asked before
                    use_tqdm_on_load=False,
                )
        except ImportError as error:
            raise InputError(f"vLLM cannot be imported ({_text(error)}); {_INSTALL}") from None
        except Exception as error:
            raise self._no_start(error, log) from None

    def _no_start(self, error: Exception, log: Path) -> InputError:
        reason = _reason(error, log)
        advice = "try the engine hf"
        if "memory" in reason.lower():
            advice = f"free the GPU, or set {FRACTION_VARIABLE} (now {self._fraction:g}) to what is free of it"
        return InputError(f"{self._path}: vLLM does not start ({reason}); {advice}")

    def _take_weights(self) -> None:
        llm = self._model.model
        folder = self._weights.fresh_folder()
        try:
            if self._is_asleep:
                llm.wake_up(tags=["weights"])
            llm.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
            if self._is_asleep:
                llm.wake_up(tags=["kv_cache"])
            is_reset = llm.reset_prefix_cache()
        except Exception as error:
            self._stop()
            raise EngineError(f"vLLM did not take new weights ({_text(error)}); run again") from None
        if not is_reset:
            self._stop()
            raise EngineError("vLLM kept results of the weights before; run again")
        self._is_asleep, self._is_current = False, True
        self._weights.taken()

    def _stop(self) -> None:
        """End vLLM's process; the next scoring starts another one, from the base."""
        model, self._model = self._model, None
        self._is_asleep = self._is_current = False
        if model is not None:
            end_vllm(model.model)
            model.model = None


_INSTALL = "install it as docs/engines.md says (pip install -c constraints-gpu.txt vllm), or choose the engine hf"


def gpu_memory_fraction() -> float:
    """Return the fraction of the GPU's memory that vLLM may use, from the environment.

    Raises:
        InputError: it is no number above 0 and at most 1.
    """
    text = os.environ.get(FRACTION_VARIABLE) or str(DEFAULT_FRACTION)
    try:
        fraction = float(text)
    except ValueError:
        fraction = 0.0
    if not 0 < fraction <= 1:
        raise InputError(f"{FRACTION_VARIABLE} is '{text}'; give a number above 0 and at most 1")
    return fraction


def sampling_seed(tokens: Sequence[int], repeat: int) -> int:
    """Return the seed of a sampled answer: another one for each repeat, the same in each run."""
    text = f"{repeat}:{','.join(map(str, tokens))}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def end_vllm(llm: Any) -> None:
    """End the process behind a vLLM engine, which may be dead already."""
    with contextlib.suppress(Exception):
        llm.llm_engine.engine_core.shutdown()


def require_vllm() -> None:
    import torch

    if importlib.util.find_spec("vllm") is None:
        raise InputError(f"the engine vllm is not installed; {_INSTALL}")
    if not torch.cuda.is_available():
        raise InputError("the engine vllm needs a GPU and there is none that torch can use; choose the engine hf")


def _language_model_class(truncates: bool) -> Any:
    """Return lm-eval's wrapper of vLLM, with the tokens of the engine hf and a seed for each sampled answer."""
    from lm_eval.models.utils import configure_pad_token
    from lm_eval.models.vllm_causallms import VLLM

    class SeededVllm(VLLM):  # type: ignore[misc]
        """Without seeds of their own, answers would depend on all that the process sampled before."""

        def __init__(self, pretrained: str, **settings: Any) -> None:
            super().__init__(pretrained=pretrained, **settings)
            # its own reading of `add_bos_token` can add a token that the engine hf does not
            self.tokenizer = configure_pad_token(load_tokenizer(Path(pretrained)), model_config=self._config)
            self._num_asked: Counter[tuple[int, ...]] = Counter()
            self.has_failed = False

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
            self._num_asked.clear()
            return super().generate_until(requests, disable_tqdm=disable_tqdm)

        @staticmethod
        def modify_gen_kwargs(gen_kwargs: Any, *others: Any, **settings: Any) -> Any:
            if not gen_kwargs.get("do_sample"):  # greedy is left to vLLM's default, which is to sample
                gen_kwargs = {"temperature": 0.0, **gen_kwargs}
            return VLLM.modify_gen_kwargs(gen_kwargs, *others, **settings)

        def _model_generate(self, requests: Any, generate: bool = False, sampling_params: Any = None) -> Any:
            if generate and sampling_params is not None:
                for tokens, parameters in zip(requests, sampling_params, strict=True):
                    self._settle(tuple(tokens), parameters)
            try:
                return super()._model_generate(requests, generate=generate, sampling_params=sampling_params)
            except MergebenchError:
                raise
            except Exception as error:
                self.has_failed = True
                raise EngineError(f"vLLM failed while scoring ({_text(error)}); run again to go on") from None

        def _settle(self, tokens: tuple[int, ...], parameters: Any) -> None:
            parameters.skip_special_tokens = True  # as the engine hf does
            if parameters.temperature > 0:
                parameters.seed = sampling_seed(tokens, self._num_asked[tokens])
                self._num_asked[tokens] += 1

    return SeededVllm if truncates else refuse_long(SeededVllm)


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send what this process prints to a file, and what those that it starts here print as long as they live."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in enumerate(saved, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _reason(error: Exception, log: Path) -> str:
    """Return why vLLM did not start: its process tells only its log."""
    reason = _text(error)
    if UNTOLD in reason:
        told = [line for line in _ERROR.findall(log.read_text(errors="replace")) if UNTOLD not in line]
        reason = " ".join(told[-1].split())[:MAX_REASON] if told else reason
    return reason


def _text(error: Exception) -> str:
    return " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
