"""The worker's loop: load plugins, describe methods, prepare, merge. The only place where method code runs."""

from __future__ import annotations

import gc
import json
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.dtypes import torch_dtype
from mergebench_core.checkpoints.threads import map_in_order
from mergebench_core.errors import MergebenchError, PluginError, ProtocolError
from mergebench_core.hyperparameters import Config, declared_name
from mergebench_core.methods import Depth, MergingMethod, Prepared, overrides
from mergebench_core.plugins import LoadedMethod, PluginSource, load_methods
from mergebench_core.worker.channel import Channel, Message
from mergebench_core.worker.chunks import CheckpointChunk, Models, walk
from mergebench_core.worker.context import WorkerContext
from mergebench_core.worker.description import describe
from mergebench_core.worker.prepared import StoredPrepared, store_prepared
from mergebench_core.worker.stream import Stream
from mergebench_core.worker.window import SLOT_BYTES, Window

if TYPE_CHECKING:
    import torch

FP32_BYTES = 4
MAX_ERROR_CHARACTERS = 2000
"""An error may quote a whole tensor; the message must stay one that can be sent and read."""


class WorkerChannel(Channel):
    """The worker's end. It answers `release` by itself, also while a method waits for its scores."""

    def receive(self) -> Message:
        """Wait for the next message but `release`; see `Channel.receive`."""
        while (message := super().receive()).get("request") == "release":
            try:
                release_gpu()
                self.send({"ok": None})
            except RuntimeError as error:
                self.send({"error": _describe_error(error, {})})
        return message


def release_gpu() -> None:
    """Give back the GPU memory that torch's allocator keeps in reserve; nothing where CUDA was not used.

    Raises:
        RuntimeError: something that was computed on the GPU failed.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


class Server:
    """Answers the host's requests, one at a time, until `close`."""

    def __init__(self, channel: Channel, window: Window) -> None:
        self._channel = channel
        self._stream = Stream(channel, window)
        self._methods: dict[str, LoadedMethod] = {}
        self._session: Session | None = None

    def serve(self) -> None:
        """Answer requests until the host closes the conversation."""
        while True:
            request = self._channel.receive()
            if request["request"] == "close":
                return
            try:
                answer: Message = {"ok": self._answer(request)}
            except ProtocolError:
                raise
            except Exception as error:
                answer = {"error": _describe_error(error, self._methods)}
            self._stream.drain()
            self._channel.send(answer)

    def _answer(self, request: Message) -> Any:
        kind = request["request"]
        if kind == "load":
            self._methods = load_methods([PluginSource.from_dict(source) for source in request["sources"]])
            return [describe(loaded) for loaded in self._methods.values()]
        if kind == "open":
            self._session = Session(self._methods[request["method"]].method, request, self._stream)
            gc.freeze()  # hundreds of thousands of objects of torch, not to be looked through for every few chunks
            return None
        if self._session is None:
            raise ProtocolError(f"request '{kind}' before 'open'")
        if kind == "prepare":
            return self._session.prepare(request["config"], is_fresh=request["is_fresh"])
        if kind == "merge":
            return self._session.merge(request["config"], request["num_done"])
        raise ProtocolError(f"unknown request '{kind}'")


class Session:
    """One method on one set of models."""

    def __init__(self, method: MergingMethod, request: Message, stream: Stream) -> None:
        import torch

        torch.set_num_threads(request["num_threads"])
        self._method = method
        self._stream = stream
        self._folder = Path(request["work_folder"])
        self._models = Models(
            base=Checkpoint(Path(request["base"])),
            specialists={domain: Checkpoint(Path(path)) for domain, path in request["specialists"].items()},
            seed=request["seed"],
        )
        self._chunk_numel: int = request["chunk_numel"]
        self._context = WorkerContext(method, self._models, stream, self._folder / "scratch", self._chunk_numel)
        self._context.work_folder.mkdir(parents=True, exist_ok=True)
        self._prepared: dict[str, Path] = {}

    def prepare(self, config: dict[str, Any], *, is_fresh: bool) -> None:
        """Make the state for this configuration ready, reusing it unless `is_fresh`."""
        seen = self._seen_by_prepare(config)
        key = json.dumps(seen, sort_keys=True)
        if key in self._prepared and not is_fresh:
            return
        shutil.rmtree(self._context.work_folder)
        self._context.work_folder.mkdir()
        prepared = self._method.prepare(self._context, seen)
        if not isinstance(prepared, Prepared):
            raise PluginError(f"prepare returned {type(prepared).__name__}; return Prepared(...)")
        self._prepared[key] = store_prepared(prepared, self._folder)

    def merge(self, config: dict[str, Any], num_done: int) -> None:
        """Stream the update, or the final tensors, of this configuration to the host.

        The host has the first `num_done` tensors already; depth `model` starts from the beginning.
        """
        hidden = {name: value for name, value in config.items() if name != self._method.linear_in}
        if self._method.info.depth == "model":
            self._stream.send_tensors(self._method.merge(self._context, hidden), self._models.base)
            return
        try:
            for chunk, values in self._results(hidden, num_done):
                if chunk.slot:
                    self._stream.send_slot(chunk.slot, chunk.name, chunk.offset, values)
                else:
                    self._stream.send_piece(chunk.name, chunk.offset, values)
        finally:
            self._stream.release()

    def _results(self, config: Config, num_done: int) -> Iterator[tuple[CheckpointChunk, torch.Tensor]]:
        import torch

        key = json.dumps(self._seen_by_prepare(config), sort_keys=True)
        prepared = StoredPrepared(self._prepared[key])
        is_final = overrides(self._method, "merge_tensor")
        compute = self._method.merge_tensor if is_final else self._method.update
        depth: Depth = "tensor" if self._method.info.depth == "tensor" else "elementwise"
        dtype_of = {
            entry.name: torch_dtype(entry.dtype) if is_final else torch.float32
            for entry in self._context.plan.merged
        }

        def result(chunk: CheckpointChunk) -> tuple[CheckpointChunk, torch.Tensor]:
            with torch.no_grad():
                values = compute(chunk, config, prepared.view(chunk))
            _check_result(values, chunk, dtype_of[chunk.name], compute.__name__)
            return chunk, values.detach().cpu().contiguous().reshape(-1)

        chunks = walk(self._models, self._context.plan.merged[num_done:], depth, self._chunk_numel)
        if depth == "elementwise" and not is_final:
            chunks = map(self._with_slot, chunks)
        yield from map_in_order(result, chunks, 1 if depth == "tensor" else torch.get_num_threads())

    def _with_slot(self, chunk: CheckpointChunk) -> CheckpointChunk:
        if chunk.numel * FP32_BYTES <= SLOT_BYTES:
            chunk.reserve(self._stream.reserve())
        return chunk

    def _seen_by_prepare(self, config: Config) -> Config:
        uses, declared = self._method.prepare_uses, self._method.parameters
        return {
            name: value for name, value in config.items() if name in uses or declared_name(declared, name) in uses
        }


def _check_result(values: Any, chunk: CheckpointChunk, dtype: torch.dtype, function: str) -> None:
    import torch

    if not isinstance(values, torch.Tensor):
        raise PluginError(f"{function} returned {type(values).__name__} for '{chunk.name}'; return a tensor")
    if tuple(values.shape) != tuple(chunk.shape) or values.dtype != dtype:
        raise PluginError(
            f"{function} returned {values.dtype} {list(values.shape)} for '{chunk.name}'; "
            f"return {dtype} {list(chunk.shape)}"
        )


def _describe_error(error: Exception, methods: dict[str, LoadedMethod]) -> Message:
    """Return what the host needs to tell the user: the text, and the plugin's line at which it happened."""
    files = {loaded.source.path for loaded in methods.values()}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) in files]
    place = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    is_ours = isinstance(error, MergebenchError)
    text = " ".join(str(error).split())[:MAX_ERROR_CHARACTERS] or type(error).__name__
    return {
        "is_input": is_ours and not frames,
        "message": (text if is_ours else f"{type(error).__name__}: {text}") + (f" ({place})" if place else ""),
        "traceback": "".join(traceback.format_exception(error))[-20000:],
    }
