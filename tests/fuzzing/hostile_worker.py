"""A worker that has written everything it will ever say before the host asks, and the host's outcome of it."""

from __future__ import annotations

import contextlib
import json
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
from checkpoint_samples import DOMAINS, SampleModels
from worker_samples import assembly_for

from mergebench_core.checkpoints.policy import merge_plan
from mergebench_core.errors import BudgetError, MergebenchError
from mergebench_core.merging.samples import MergeServices, SampleFile
from mergebench_core.worker import host
from mergebench_core.worker.channel import MAX_MESSAGE_BYTES, Channel
from mergebench_core.worker.host import MethodWorker
from mergebench_core.worker.window import Window, create_descriptor

BASE_ROLES = frozenset({"embedding", "head"})
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
REQUESTS = ("load", "prepare", "merge")


def framed(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def message(document: object) -> bytes:
    """Frame a document as the most careless of senders would: NaN, lone surrogates and all."""
    return framed(json.dumps(document).encode())


class Script:
    """A connection: the other end's words are fixed, and after `patience` messages it has gone."""

    def __init__(self, said: bytes, patience: int = 1 << 30) -> None:
        self._said = said
        self.num_read = 0
        self._patience = patience
        self.heard: list[bytes] = []
        self.is_gone = False

    def recv(self, count: int) -> bytes:
        part = self._said[self.num_read : self.num_read + count]
        self.num_read += len(part)
        return part

    def sendall(self, data: bytes) -> None:
        if len(self.heard) >= self._patience:
            self.is_gone = True
            raise BrokenPipeError
        self.heard.append(bytes(data))

    def close(self) -> None:
        self._patience = 0

    def answers(self) -> list[dict]:
        """Return what the host said; every message is whole and one JSON object."""
        for data in self.heard:
            assert struct.unpack(">I", data[:4]) == (len(data) - 4,)
            assert len(data) - 4 <= MAX_MESSAGE_BYTES
        return [json.loads(data[4:]) for data in self.heard]


class Obliging:
    """Does nothing, whatever is asked of it, and has overrun no limit."""

    overrun = None

    def __init__(self, *, has_gpu: bool = False) -> None:
        self.isolation = SimpleNamespace(has_devices=has_gpu)
        self.gpu = SimpleNamespace(sample=lambda: None)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class FakeWorker:
    """Stands in for a worker process."""

    def __init__(self, script: Script, window: Window, *, has_gpu: bool) -> None:
        self.connection = script
        self.channel = Channel(script)
        self.window = window
        self.process = SimpleNamespace(poll=lambda: None)
        self.sandbox = self.output = Obliging(has_gpu=has_gpu)

    def stop(self) -> None:
        self.connection.close()

    def ending(self) -> str:
        return "ended somehow"


class PieceSink:
    """Checks that pieces come in order, and counts them and their elements."""

    def __init__(self) -> None:
        self.numels: dict[str, int] = {}
        self.num_pieces = 0

    def write(self, name: str, offset: int, values: torch.Tensor) -> None:
        assert offset == self.numels.get(name, 0)
        assert values.numel() > 0
        self.numels[name] = offset + values.numel()
        self.num_pieces += 1


@dataclass
class HostileServices:
    """Answers like a merge's services, takes candidates, and notes what came of them."""

    models: SampleModels
    max_validations: int = 3
    logged: list[str] = field(default_factory=list)
    candidates: list[PieceSink] = field(default_factory=list)
    validated: list[PieceSink] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows = [{"prompt": f"ü{number}", "completion": "x" * 500} for number in range(20)]
        file = SampleFile(rows=rows, sha256="")
        self._merge = MergeServices(method="m", samples_by_domain=dict.fromkeys(DOMAINS, file), progress=str)

    def samples(self, domain: str, start: int, count: int) -> list[dict[str, str]]:
        if domain in DOMAINS and count > 20:
            raise BudgetError(f"asked for more than 20 samples of domain '{domain}'")
        return self._merge.samples(domain, start, count)

    def candidate(self, domains: list[str] | None):
        if set(domains or ()) - set(DOMAINS):
            raise MergebenchError(f"validate names domains {domains}")
        if len(self.candidates) == self.max_validations:
            raise BudgetError("no more validations")
        self.candidates.append(PieceSink())
        return assembly_for(self.models, BASE_ROLES, self.candidates[-1], None)

    def validate(self) -> dict[str, float]:
        self.validated.append(self.candidates[-1])
        return dict.fromkeys(DOMAINS, 0.5)

    def log(self, text: str) -> None:
        self.logged.append(text)


@dataclass(frozen=True)
class Outcome:
    """What a request came to."""

    error: MergebenchError | None
    sink: PieceSink
    services: HostileServices
    script: Script


class Theatre:
    """Where hostile workers meet the host. One window serves all of them."""

    def __init__(self, models: SampleModels, folder: Path) -> None:
        self.models = models
        self.log_file = folder / "worker.log"
        self._folder = folder / "work"
        self._window = Window(create_descriptor())
        self.expected = {entry.name: entry.numel for entry in merge_plan(models.base, BASE_ROLES).merged}

    def play(
        self, said: bytes, request: str = "merge", patience: int = 1 << 30, *, has_gpu: bool = False
    ) -> Outcome:
        """Let the host make a request of a worker that says `said`; whatever leaves is a MergebenchError.

        With a GPU the host asks for its memory, too, before it goes on.
        """
        script, sink, services = Script(said, patience), PieceSink(), HostileServices(self.models)
        error: MergebenchError | None = None
        self.log_file.unlink(missing_ok=True)
        with self._start(script, has_gpu), self._worker(services) as worker:
            try:
                self._request(worker, request, sink)
            except MergebenchError as found:
                error = found
        return Outcome(error, sink, services, script)

    def _request(self, worker: MethodWorker, request: str, sink: PieceSink) -> None:
        if request == "load":
            worker.load([])
        elif request == "prepare":
            worker.prepare({})
        else:
            worker.merge({}, assembly_for(self.models, BASE_ROLES, sink, None))

    def _worker(self, services: HostileServices) -> MethodWorker:
        return MethodWorker(num_threads=1, log_file=self.log_file, folder=self._folder, services=services)

    @contextlib.contextmanager
    def _start(self, script: Script, has_gpu: bool) -> Iterator[None]:
        worker = FakeWorker(script, self._window, has_gpu=has_gpu)
        with mock.patch.object(host, "start_worker", return_value=worker):
            yield

    def check(self, outcome: Outcome, request: str) -> None:
        """Check what must hold whatever was said."""
        services, answers = outcome.services, outcome.script.answers()
        if outcome.error is not None:
            check_shown(str(outcome.error))
        elif request == "merge":
            assert outcome.sink.numels == self.expected
        for line in services.logged:
            check_shown(line)
        for sink in (outcome.sink, *services.candidates):
            assert all(numel <= self.expected[name] for name, numel in sink.numels.items())
        assert all(sink.numels == self.expected for sink in services.validated)
        taken = outcome.sink.num_pieces + sum(sink.num_pieces for sink in services.candidates)
        assert taken - sum("ack" in answer for answer in answers) in (0, outcome.script.is_gone)
        if self.log_file.exists():
            text = self.log_file.read_text(encoding="utf-8")
            assert not CONTROL.search(text.replace("\n", ""))


def check_shown(text: str) -> None:
    """Check that a text moves no cursor, reorders nothing, is one line, and can be read to its end."""
    assert not CONTROL.search(text)
    assert len(text) < 3200
    text.encode()


def pieces_of(numels: Mapping[str, int]) -> list[dict]:
    """Return the messages of a worker that does as it should."""
    return [{"chunk": name, "offset": 0, "numel": numel, "slot": 0} for name, numel in numels.items()]
