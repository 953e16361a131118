"""The host against a worker that sends what it should not: always one line, never a crash, never a stray byte."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from checkpoint_samples import MERGED, NORM
from worker_samples import DictSink, SampleServices, assembly_for

from mergebench_core.errors import MergebenchError, MethodError, PluginError
from mergebench_core.worker import host, serve
from mergebench_core.worker.channel import Channel
from mergebench_core.worker.host import MethodWorker, NoServices
from mergebench_core.worker.serve import WorkerChannel
from mergebench_core.worker.window import NUM_SLOTS, SLOT_BYTES, Window, create_descriptor


class FakeSandbox:
    """Notes what the host does with it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.overrun: str | None = None
        self.isolation = SimpleNamespace(has_devices=False)
        self.gpu = SimpleNamespace(sample=lambda: self.calls.append("sample"), peak_bytes=lambda: 7)

    def freeze(self) -> None:
        self.calls.append("freeze")

    def thaw(self) -> None:
        self.calls.append("thaw")

    def watch(self, *checks) -> None:
        self.checks = checks

    def is_out_of_memory(self) -> bool:
        return False


class FakeWorker:
    """Stands in for a worker process: its end of the socket is played by a thread."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.settimeout(10)
        self.connection, self.channel = ours, Channel(ours)
        self.window = Window(create_descriptor())
        self.process = SimpleNamespace(poll=lambda: None)
        self.sandbox = FakeSandbox()
        self.output = SimpleNamespace(collect=lambda: True)
        self.received: list[dict] = []

    def stop(self) -> None:
        self.connection.close()
        self.theirs.close()
        self.window.close()

    def ending(self) -> str:
        return "ended somehow"


@pytest.fixture
def fake(monkeypatch):
    worker = FakeWorker()
    monkeypatch.setattr(host, "start_worker", lambda *_, **__: worker)
    yield worker
    worker.stop()


@pytest.fixture
def services(models) -> SampleServices:
    return SampleServices(models=models)


@pytest.fixture
def request_with(fake, services, tmp_path) -> Callable:
    """Make a request of the host while the worker answers with the given messages; return sink and answer."""

    def run(*messages, request="merge"):
        channel = WorkerChannel(fake.theirs)

        def play() -> None:
            channel.receive()
            for message in messages:
                if message is CLOSE:
                    fake.theirs.shutdown(socket.SHUT_RDWR)
                    return
                if isinstance(message, bytes):
                    fake.theirs.sendall(message)
                    continue
                channel.send(message)
                if "chunk" in message or "ask" in message:
                    try:
                        fake.received.append(channel.receive())
                    except MergebenchError:
                        return
            if fake.sandbox.isolation.has_devices:
                with contextlib.suppress(MergebenchError):
                    channel.receive()
            with contextlib.suppress(OSError):  # the host may have closed it already
                fake.theirs.shutdown(socket.SHUT_WR)

        player = threading.Thread(target=play)
        player.start()
        sink = DictSink()
        try:
            with MethodWorker(num_threads=1, log_file=tmp_path / "worker.log", services=services) as worker:
                if request == "merge":
                    worker.merge({}, assembly_for(services.models, frozenset({"embedding", "head"}), sink, None))
                else:
                    getattr(worker, request)(*([[]] if request == "load" else [{}]))
        finally:
            player.join()
        return sink

    return run


CLOSE = object()
OK = {"ok": None}
CHUNK = {"chunk": NORM, "offset": 0, "numel": 4, "slot": 0}
MALFORMED = {
    "unknown tensor": ({**CHUNK, "chunk": "nope"}, "policy does not merge"),
    "tensor no name": ({**CHUNK, "chunk": {"a": 1}}, "policy does not merge"),
    "tensor of the base's": ({**CHUNK, "chunk": "lm_head.weight"}, "policy does not merge"),
    "name with connection in it": ({**CHUNK, "chunk": "skip_connection.weight"}, "policy does not merge"),
    "offset": ({**CHUNK, "offset": 2}, "out of order"),
    "offset missing": ({"chunk": NORM, "numel": 4, "slot": 0}, "out of order"),
    "numel": ({**CHUNK, "numel": 5}, "runs over its end"),
    "numel text": ({**CHUNK, "numel": "4"}, "out of order"),
    "numel missing": ({"chunk": NORM, "offset": 0, "slot": 0}, "out of order"),
    "slot beyond": ({**CHUNK, "slot": NUM_SLOTS}, "outside the window"),
    "slot negative": ({**CHUNK, "slot": -1}, "outside the window"),
    "slot boolean": ({**CHUNK, "slot": True}, "outside the window"),
    "slot missing": ({"chunk": NORM, "offset": 0, "numel": 4}, "outside the window"),
    "unknown question": ({"ask": "test_items"}, "asked for 'test_items', which is not to be had"),
    "no question": ({"hello": 1}, "asked for 'None', which is not to be had"),
    "validate without candidate": ({"ask": "validate"}, "asked for 'validate', which is not to be had"),
    "samples of a number": (
        {"ask": "samples", "domain": 3, "start": 0, "count": 1},
        "request for samples is malformed",
    ),
    "samples from a float": (
        {"ask": "samples", "domain": "math", "start": 0.0, "count": 1},
        "request for samples is malformed",
    ),
    "samples without count": (
        {"ask": "samples", "domain": "math", "start": 0},
        "request for samples is malformed",
    ),
    "domains a text": ({"ask": "candidate", "domains": "math"}, "validate names no list of domains"),
    "domains numbers": ({"ask": "candidate", "domains": [1]}, "validate names no list of domains"),
    "error a text": ({"error": "oops"}, "an error is malformed"),
    "error a list": ({"error": []}, "an error is malformed"),
    "no JSON": (struct.pack(">I", 3) + b"{{{", "a message is not JSON"),
    "huge": (b"\x7f\xff\xff\xff", "bytes was announced"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_message_breaks_the_protocol(request_with, case):
    message, text = MALFORMED[case]
    with pytest.raises(MethodError) as error:
        request_with(message)
    assert str(error.value).startswith("the worker broke the protocol: ")
    assert text in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("messages", [(CLOSE,), (struct.pack(">I", 10) + b"{", CLOSE), (CHUNK, CLOSE)])
def test_worker_that_goes_away(request_with, messages):
    with pytest.raises(MethodError, match=r"^the worker ended somehow; see .*worker\.log$"):
        request_with(*messages)


def test_tensor_that_nobody_asked_for(request_with):
    with pytest.raises(MethodError, match="a tensor came that nobody asked for"):
        request_with(CHUNK, request="prepare")


def test_done_before_everything_came(request_with):
    with pytest.raises(MergebenchError, match="the method gave 0 of 4 elements"):
        request_with(CHUNK, OK)


def test_pieces_are_acknowledged_and_copied(request_with, fake, models):
    numels = {name: models.base.entry(name).numel for name in MERGED}
    fake.window.put(2, torch.arange(30.0).bfloat16())
    messages = [{"chunk": name, "offset": 0, "numel": numel, "slot": 2} for name, numel in numels.items()]
    sink = request_with(*messages, OK)
    assert fake.received == [{"ack": 2}] * len(messages)
    for name, numel in numels.items():
        assert torch.equal(sink.values[name][0], torch.arange(float(numel)).bfloat16())


def test_piece_larger_than_a_slot(fake, request_with, tmp_path, services):
    from checkpoint_samples import SampleModels, write_checkpoint

    base = write_checkpoint(tmp_path / "big", {"w": torch.zeros(SLOT_BYTES // 4 + 1)})
    services.models = SampleModels(base=base, specialists={})
    with pytest.raises(MethodError, match="a piece lies outside the window"):
        request_with({"chunk": "w", "offset": 0, "numel": SLOT_BYTES // 4 + 1, "slot": 0})


def whole(models) -> list[dict]:
    """Return the messages that hand over all that is merged."""
    return [{"chunk": n, "offset": 0, "numel": models.base.entry(n).numel, "slot": 0} for n in MERGED]


def test_questions_are_answered(request_with, fake, services):
    rest = whole(services.models)
    fake.window.put(0, torch.ones(30).bfloat16())
    request_with(
        {"ask": "log", "message": "x" * 5000},
        {"ask": "samples", "domain": "math", "start": 99, "count": 3},
        {"ask": "candidate", "domains": ["math"]},
        *rest,
        {"ask": "validate"},
        *rest,
        OK,
    )
    answers = [message for message in fake.received if "ack" not in message]
    sample = {"prompt": "math 99", "completion": ""}
    assert answers == [{"ok": None}, {"ok": [sample]}, {"ok": None}, {"ok": {"math": 4.0}}]
    assert services.logged == ["x" * 2000]


def test_the_worker_stands_still_while_the_host_loads_and_scores(request_with, fake, services):
    """And when it has answered: what it computes in the meantime would cost it nothing."""
    rest = whole(services.models)
    validate, candidate = services.validate, services.candidate

    def loaded(domains):
        fake.sandbox.calls.append("load")
        return candidate(domains)

    def noted():
        fake.sandbox.calls.append("score")
        return validate()

    services.validate, services.candidate = noted, loaded
    request_with({"ask": "candidate", "domains": ["math"]}, *rest, {"ask": "validate"}, *rest, OK)
    assert fake.sandbox.calls == ["thaw", "freeze", "load", "thaw", "freeze", "score", "thaw", "freeze"]


@pytest.fixture
def release(fake, monkeypatch) -> Callable[[Callable[[], None]], None]:
    """Give the worker a GPU, whose memory it releases by what is given."""

    def give(act) -> None:
        fake.sandbox.isolation.has_devices = True
        monkeypatch.setattr(serve, "release_gpu", lambda: (fake.sandbox.calls.append("release"), act()))

    return give


def test_gpu_memory_is_measured_and_then_released_before_the_host_goes_on(request_with, fake, services, release):
    release(lambda: None)
    rest = whole(services.models)
    services.validate = lambda: fake.sandbox.calls.append("score") or {"math": 4.0}
    request_with({"ask": "candidate", "domains": ["math"]}, *rest, {"ask": "validate"}, *rest, OK)
    handed_over = ["freeze", "sample", "thaw", "release", "freeze"]
    assert fake.sandbox.calls == ["thaw", *handed_over, "thaw", *handed_over, "score", "thaw", *handed_over]
    assert {"ok": {"math": 4.0}} in fake.received


@pytest.mark.parametrize("request_name", ["prepare", "merge"])
def test_gpu_that_failed_fails_the_method(request_with, services, release, request_name):
    def fail() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")

    release(fail)
    candidate = [{"ask": "candidate", "domains": ["math"]}, *whole(services.models), {"ask": "validate"}]
    with pytest.raises(MethodError, match=r"^RuntimeError: CUDA error: an illegal memory access [^\n]* and more$"):
        request_with(*(candidate if request_name == "merge" else [OK]), request=request_name)


@pytest.mark.parametrize(
    "message",
    [
        {"ok": 1}, {"ok": None, "more": 1}, {}, {"chunk": NORM, "offset": 0, "numel": 4, "slot": 0},
        {"ask": "samples", "domain": "math", "start": 0, "count": 1}, {"ask": "candidate", "domains": None},
        {"ok": None, "error": {}},
    ],
)  # fmt: skip
def test_nothing_can_be_asked_for_while_memory_is_released(fake, services, tmp_path, message):
    fake.sandbox.isolation.has_devices = True
    for said in (OK, message):
        Channel(fake.theirs).send(said)
    with (
        MethodWorker(num_threads=1, log_file=tmp_path / "worker.log", services=services) as worker,
        pytest.raises(MethodError, match="the worker broke the protocol: "),
    ):
        worker.prepare({})
    assert services.asked == []


def test_refusals_are_messages(request_with, fake, services):
    fake.window.put(0, torch.full((30,), float("nan")).bfloat16())
    rest = whole(services.models)
    request_with(
        {"ask": "candidate", "domains": ["safety"]},
        {"ask": "candidate", "domains": ["math"]},
        *rest,
        {"ask": "validate"},
        OK,
        request="prepare",
    )
    refused = [message["refused"] for message in fake.received if "refused" in message]
    assert refused[0] == "there is no domain safety"
    assert "holds NaN or infinity" in refused[1]


@pytest.mark.parametrize(
    ("request_name", "kind"), [("load", PluginError), ("prepare", MethodError), ("merge", MethodError)]
)
def test_only_loading_can_be_the_users_mistake(request_with, tmp_path, request_name, kind):
    error = {"is_input": True, "message": "it is wrong", "traceback": "Traceback of it"}
    with pytest.raises(kind, match=r"^it is wrong$"):
        request_with({"error": error}, request=request_name)
    assert (tmp_path / "worker.log").read_text() == "Traceback of it"


@pytest.mark.parametrize("answer", [None, {}, "methods", [3], [{}], [{"name": "a"}], [None] * 10_001])
def test_malformed_descriptions(request_with, answer):
    with pytest.raises(PluginError, match=r"the worker (gave no list of methods|described a method wrongly)"):
        request_with({"ok": answer}, request="load")


def test_describing_offers_no_services():
    for call in (lambda s: s.samples("math", 0, 1), lambda s: s.candidate(None), lambda s: s.validate()):
        with pytest.raises(MethodError):
            call(NoServices())
    NoServices().log("anything")
