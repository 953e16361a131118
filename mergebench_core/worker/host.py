"""The host's side of the conversation: asks a worker to describe, prepare and merge; answers what it may ask."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from pydantic import ValidationError

from mergebench_core.checkpoints.assembly import Assembly
from mergebench_core.checkpoints.checkpoint import CHUNK_NUMEL
from mergebench_core.errors import (
    BudgetError,
    EngineError,
    MergebenchError,
    MethodError,
    PluginError,
    ProtocolError,
)
from mergebench_core.hyperparameters import Hyperparameter
from mergebench_core.isolation.policy import MethodLimits
from mergebench_core.isolation.watch import WorkClock
from mergebench_core.plugins import PluginSource
from mergebench_core.records import IsolationPart
from mergebench_core.worker.channel import MAX_MESSAGE_BYTES, ConnectionLost, Message, plain
from mergebench_core.worker.description import MethodDescription
from mergebench_core.worker.launcher import Visible, WorkerProcess, start_worker

MAX_DESCRIPTIONS = 10_000
MAX_ERROR_CHARACTERS = 3000
MAX_LOG_LINES = 10_000
"""In one request."""
KINDS = ("ok", "error", "chunk", "ask")
"""A message is of one kind."""


class Services(Protocol):
    """What a worker may ask of the host while it prepares or merges. Refusals are MergebenchErrors."""

    def samples(self, domain: str, start: int, count: int) -> list[dict[str, str]]:
        """Return calibration samples, metered."""

    def candidate(self, domains: list[str] | None) -> Assembly:
        """Return where the tensors of a candidate go that is to be validated on `domains`."""

    def validate(self) -> dict[str, float]:
        """Score the candidate handed over last."""

    def log(self, message: str) -> None:
        """Show a line of the method's."""


class NoServices:
    """Refuses everything: for describing methods."""

    def samples(self, domain: str, start: int, count: int) -> list[dict[str, str]]:
        raise MethodError("no samples here")

    def candidate(self, domains: list[str] | None) -> Assembly:
        raise MethodError("no validation here")

    def validate(self) -> dict[str, float]:
        raise MethodError("no validation here")

    def log(self, message: str) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker is opened on."""

    method: str
    base: Path
    specialists: Mapping[str, Path]
    seed: int
    num_threads: int
    chunk_numel: int = CHUNK_NUMEL


class MethodWorker:
    """A worker process with one conversation. Use it as a context manager: it never outlives the block."""

    def __init__(
        self,
        *,
        num_threads: int,
        log_file: Path,
        folder: Path | None = None,
        services: Services | None = None,
        sources: Sequence[PluginSource] = (),
        models: Sequence[Path] = (),
        limits: MethodLimits | None = None,
        is_warm: bool = False,
        ceiling: int = 3,
    ) -> None:
        """Start the worker in `folder`, by default a temporary one; it is emptied first and removed at the end.

        It can read the files of `sources` and the folders `models`, and nothing else that is not Python's.
        `is_warm` lets it load torch while the host is busy with other things; `ceiling` bounds the isolation.

        Raises:
            IsolationError: no sandbox as strong as the user demands can be made.
        """
        self.services: Services = services or NoServices()
        self._log_file = log_file
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder or Path(tempfile.mkdtemp(prefix="mergebench-worker-"))  # nobody else may read it
        self._folder.mkdir(parents=True, exist_ok=True)
        given = limits or MethodLimits()
        self._limits = given.on(self._folder)
        self._clock = WorkClock(given.time_s)
        visible = Visible(sources=sources, models=models)
        try:
            self._worker: WorkerProcess = start_worker(
                self._folder, num_threads, log_file, visible, self._limits, is_warm=is_warm, ceiling=ceiling
            )
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._worker.sandbox.watch(self._clock)

    def __enter__(self) -> MethodWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def load(self, sources: Sequence[PluginSource]) -> list[MethodDescription]:
        """Load plugins and return the descriptions of their methods.

        Raises:
            PluginError: what the loader found wrong, or a description that cannot be right.
        """
        answer = self._request({"request": "load", "sources": [source.to_dict() for source in sources]})
        try:
            if not isinstance(answer, list) or len(answer) > MAX_DESCRIPTIONS:
                raise PluginError("the worker gave no list of methods")
            descriptions = [MethodDescription.model_validate(description) for description in answer]
            if len({description.name for description in descriptions}) < len(descriptions):
                raise PluginError("the worker described two methods of one name")
            return descriptions
        except ValidationError as error:
            problem = plain(error.errors()[0]["msg"])
            raise PluginError(f"the worker described a method wrongly: {problem}") from None

    def open(self, job: Job) -> None:
        """Let the worker open the models for one method."""
        self._request(
            {
                "request": "open",
                "method": job.method,
                "base": str(job.base),
                "specialists": {domain: str(path) for domain, path in job.specialists.items()},
                "seed": job.seed,
                "num_threads": job.num_threads,
                "chunk_numel": job.chunk_numel,
                "work_folder": str(self._folder),
            }
        )

    def prepare(self, config: Mapping[str, Hyperparameter], *, is_fresh: bool = False) -> None:
        """Let the method prepare for a configuration; `is_fresh` forbids reusing an earlier state."""
        self._request({"request": "prepare", "config": dict(config), "is_fresh": is_fresh})

    def merge(self, config: Mapping[str, Hyperparameter], assembly: Assembly, *, num_done: int = 0) -> None:
        """Let the method merge; what it computes goes into `assembly`, which has no first `num_done` tensors."""
        self._request({"request": "merge", "config": dict(config), "num_done": num_done}, assembly)
        assembly.finish()

    @property
    def isolation(self) -> IsolationPart:
        """How the worker is isolated."""
        return self._worker.sandbox.isolation

    def peak_rss_bytes(self) -> int | None:
        """Return the worker's peak resident memory so far."""
        return self._worker.sandbox.peak_memory_bytes()

    def peak_gpu_bytes(self) -> int | None:
        """Return the worker's peak GPU memory so far, as sampled; None if it is unknown: see `GpuMeter`."""
        return self._worker.sandbox.gpu.peak_bytes()

    def _request(self, message: Message, assembly: Assembly | None = None) -> Any:
        """Ask for something and answer what comes until it is done; the worker stands still before and after."""
        sandbox = self._worker.sandbox
        try:
            self._go_on()
            self._worker.channel.send(message)
            answer = self._converse(message["request"], assembly)
            self._hand_over()
            return answer
        except ProtocolError as error:
            if used := sandbox.overrun or self._memory_overrun():
                raise BudgetError(f"the worker used {used} and was ended; see {self._log_file}") from None
            if self._worker.process.poll() is not None or isinstance(error, ConnectionLost):
                raise MethodError(f"the worker {self._worker.ending()}; see {self._log_file}") from None
            raise MethodError(f"the worker broke the protocol: {plain(error)}") from None
        finally:
            self._clock.stop()
            self._worker.output.collect()

    def _go_on(self) -> None:
        self._clock.start()
        self._worker.sandbox.thaw()

    def _stand_still(self) -> None:
        """Stop clock and worker: what a method computes while it waits would be free of charge."""
        self._clock.stop()
        self._worker.sandbox.freeze()

    def _hand_over(self) -> None:
        """End the worker's turn on the machine. Of a GPU's memory it keeps what holds values, and no reserve.

        That reserve stands until here, so what is measured now is nearly the peak.
        """
        self._stand_still()
        sandbox = self._worker.sandbox
        if sandbox.isolation.has_devices:
            sandbox.gpu.sample()
            self._go_on()
            self._release()
            self._stand_still()

    def _release(self) -> None:
        self._worker.channel.send({"request": "release"})
        message = self._receive()
        if "error" in message:
            raise self._error("release", message["error"])
        if message != {"ok": None}:
            raise ProtocolError("it did not answer 'release'")

    def _memory_overrun(self) -> str | None:
        is_over = self._worker.sandbox.is_out_of_memory()
        return f"more than {self._limits.memory_bytes} bytes of memory" if is_over else None

    def _converse(self, request: str, assembly: Assembly | None) -> Any:
        """Answer the worker until it has answered the request."""
        candidate: Assembly | None = None
        self._num_logged = 0
        while True:
            message = self._receive()
            if "ok" in message:
                return message["ok"]
            if "error" in message:
                raise self._error(request, message["error"])
            if "chunk" in message:
                self._take(message, candidate or assembly)
            elif message.get("ask") == "candidate":
                self._hand_over()  # the host may load its model
                candidate = self._reply(partial(self._candidate, message), hides_result=True)
                self._go_on()
            elif message.get("ask") == "validate" and candidate is not None:
                finished, candidate = candidate, None
                self._hand_over()
                self._reply(partial(self._validate, finished))
                self._go_on()
            else:
                self._reply(partial(self._answer, message))

    def _receive(self) -> Message:
        message = self._worker.channel.receive()
        if sum(kind in message for kind in KINDS) > 1:
            raise ProtocolError("a message is of two kinds")
        return message

    def _take(self, message: Message, assembly: Assembly | None) -> None:
        name, offset, numel = message["chunk"], message.get("offset"), message.get("numel")
        if assembly is None:
            raise ProtocolError("a tensor came that nobody asked for")
        assembly.expect(name, offset, numel)
        dtype = assembly.dtype(name)
        window, slot = self._worker.window, _slot(message, dtype.itemsize)
        values = (window.view if assembly.copies else window.take)(slot, int(message["numel"]), dtype)
        assembly.add(name, int(message["offset"]), values)
        self._worker.channel.send({"ack": message["slot"]})

    def _candidate(self, message: Message) -> Assembly:
        domains = message.get("domains")
        if domains is not None and not (isinstance(domains, list) and all(isinstance(d, str) for d in domains)):
            raise ProtocolError("validate names no list of domains")
        return self.services.candidate(domains)

    def _validate(self, candidate: Assembly) -> dict[str, float]:
        candidate.finish()
        return self.services.validate()

    def _answer(self, message: Message) -> Any:
        kind = message.get("ask")
        if kind == "samples":
            domain, start, count = message.get("domain"), message.get("start"), message.get("count")
            if not isinstance(domain, str) or type(start) is not int or type(count) is not int:
                raise ProtocolError("a request for samples is malformed")
            return _fitting(self.services.samples(domain, start, count))
        if kind == "log":
            self._num_logged += 1
            if self._num_logged > MAX_LOG_LINES:
                raise BudgetError(f"the method logged more than {MAX_LOG_LINES} lines in one request")
            return self.services.log(plain(message.get("message")))
        raise ProtocolError(f"the worker asked for '{plain(kind, 100)}', which is not to be had")

    def _reply(self, answer: Callable[[], Any], *, hides_result: bool = False) -> Any:
        """Send the answer or the refusal; a used-up budget ends the run, whatever the method makes of it."""
        try:
            result = answer()
        except (ProtocolError, BudgetError, EngineError):
            raise
        except MergebenchError as error:
            self._worker.channel.send({"refused": str(error)})
            return None
        self._worker.channel.send({"ok": None if hides_result else result})
        return result

    def _error(self, request: str, error: Any) -> MergebenchError:
        """Return what the worker reports; once models are open it is the method's failure, which gets a record."""
        if not isinstance(error, dict):
            raise ProtocolError("an error is malformed")
        with self._log_file.open("a", encoding="utf-8") as log:
            log.write("\n".join(plain(line) for line in str(error.get("traceback", "")).split("\n")))
        message = plain(error.get("message", "failed without saying why"), MAX_ERROR_CHARACTERS)
        is_input = error.get("is_input") is True and request in ("load", "open")
        return PluginError(message) if is_input else MethodError(message)


def _fitting(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return as many of the first rows as fit into one message, at least one."""
    room = MAX_MESSAGE_BYTES - 1000
    for number, row in enumerate(rows):
        room -= len(json.dumps(row)) + 2
        if room < 0:
            return rows[: max(number, 1)]
    return rows


def _slot(message: Message, item_bytes: int) -> int:
    from mergebench_core.worker.window import NUM_SLOTS, SLOT_BYTES

    slot, numel = message.get("slot"), message["numel"]
    if type(slot) is not int or not 0 <= slot < NUM_SLOTS or numel * item_bytes > SLOT_BYTES:
        raise ProtocolError("a piece lies outside the window")
    return slot
