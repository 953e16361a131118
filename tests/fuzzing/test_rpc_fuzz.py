"""Whatever a worker sends: one line for the user, never a crash, never a wait, never a tensor too many."""

from __future__ import annotations

import json
import math
import socket
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from checkpoint_samples import DOMAINS, NORM, random_models
from hostile_worker import REQUESTS, Script, Theatre, check_shown, framed, message, pieces_of
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from repeatable import fuzz

from mergebench_core.errors import BudgetError, MethodError, PluginError, ProtocolError
from mergebench_core.hyperparameters import Parameter, grid
from mergebench_core.methods import MergingMethod, MethodInfo
from mergebench_core.plugins import LoadedMethod, PluginSource
from mergebench_core.worker.channel import MAX_DEPTH, MAX_MESSAGE_BYTES, Channel, ConnectionLost, plain
from mergebench_core.worker.description import MAX_CONFIGURATIONS, MethodDescription, describe
from mergebench_core.worker.window import NUM_SLOTS

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def theatre(tmp_path_factory) -> Theatre:
    folder = tmp_path_factory.mktemp("theatre")
    return Theatre(random_models(folder / "models"), folder)


# ---------------------------------------------------------------------------------------------------- framing


def received(data: bytes) -> list[dict]:
    """Return the messages that come out of a stream of bytes, up to the first that is refused."""
    channel, found = Channel(Script(data)), []
    while True:
        try:
            found.append(channel.receive())
        except ProtocolError as error:
            check_shown(str(error))
            return found


def nested(depth: int) -> str:
    """Return an object with objects in it, `depth` of them all in all."""
    return '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)


BROKEN = {
    "nothing": b"",
    "half a length": b"\0\0",
    "length of nought": framed(b""),
    "4 GiB": b"\xff\xff\xff\xff" + b"{}",
    "one byte too long": (MAX_MESSAGE_BYTES + 1).to_bytes(4, "big") + b" " * (MAX_MESSAGE_BYTES + 1),
    "closed in the middle": framed(b'{"ok": null}')[:-1],
    "junk": framed(b"\x00\x01\x02{}"),
    "a second document": framed(b"{}{}"),
    "no object": framed(b"[{}]"),
    "list 200,000 deep": framed(b"[" * 200_000 + b"]" * 200_000),
    "object 200,000 deep": framed(b'{"":' * 200_000),
    "object 900 deep": framed(nested(900).encode()),
    "one too deep": framed(nested(MAX_DEPTH + 1).encode()),
    "not a number": framed(b'{"a": NaN}'),
    "infinity": framed(b'{"a": [-Infinity]}'),
    "a float beyond floats": framed(b'{"a": 1e999}'),
    "an integer beyond floats": framed(b'{"a": 1%s}' % (b"0" * 400)),
    "5000 digits": framed(b'{"a": %s}' % (b"9" * 5000)),
    "UTF-16": framed('{"ok": null}'.encode("utf-16-le")),
    "byte order mark": framed(b'\xef\xbb\xbf{"ok": null}'),
    "surrogate in UTF-8": framed(b'{"ok": "\xed\xa0\x80"}'),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_frame(case):
    before = framed(b'{"ok": 1}')
    assert received(before + BROKEN[case]) == [{"ok": 1}]


@pytest.mark.parametrize("length", [MAX_MESSAGE_BYTES + 1, 2**31, 2**32 - 1])
def test_announced_length_is_refused_before_anything_is_read(length):
    script = Script(length.to_bytes(4, "big") + b"x" * 100)
    with pytest.raises(ProtocolError, match=f"a message of {length} bytes was announced"):
        Channel(script).receive()
    assert script.num_read == 4


def test_deepest_message_and_largest():
    text = json.dumps({"a": "x" * (MAX_MESSAGE_BYTES - 9)})
    assert len(text) == MAX_MESSAGE_BYTES
    assert len(received(framed(nested(MAX_DEPTH).encode()) + framed(text.encode()))) == 2


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 30)
    | st.sampled_from([2**31, 2**63, -(2**63), 10**39, 1.0, 4.0, 1e300, -0.0])
    | st.text(max_size=5)
    | st.sampled_from(["\x1b[2J\x1b]0;owned\x07", "a\r\nb", "\u202egpj.exe", "x" * 5000, "\x9b31m", "\0"])
)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@fuzz(100)
@given(st.lists(st.dictionaries(st.text(max_size=3), DOCUMENTS, max_size=3), max_size=3))
def test_what_is_sent_is_what_comes(documents):
    script = Script(b"")
    for document in documents:
        Channel(script).send(document)
    assert received(b"".join(script.heard)) == documents


@fuzz(300)
@given(
    st.lists(
        st.binary(max_size=30)
        | st.binary(max_size=30).map(framed)
        | DOCUMENTS.map(message)
        | st.text(alphabet='{}[]":,0123456789.eE-+truefalsnNI ', max_size=20).map(
            lambda text: framed(text.encode())
        ),
        max_size=4,
    )
)
def test_whatever_comes_is_a_message_or_ends_the_conversation(parts):
    for found in received(b"".join(parts)):
        assert isinstance(found, dict)
        json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a [2Jb"),
        ("one\r\ntwo\u2028three", "one two three"),
        ("\x9b31m\x7f\0", " 31m "),
        ("a\u202eb\u2066c", "a b c"),
        ("\ud800é🙂", " é🙂"),
        (["\x1b"], "['\\x1b']"),
        (None, "None"),
        ("x" * 3000, "x" * 2000),
    ],
)
def test_plain_text(text, shown):
    assert plain(text) == shown


def test_plain_text_keeps_what_is_harmless():
    text = "Θ = θ₀ + λ·Σ τ; naïve — 日本語 🙂"
    assert plain(text) == text


# ----------------------------------------------------------------------------------------------- conversation


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("case", BROKEN)
def test_broken_frame_ends_the_request(theatre, case, request_name):
    outcome = theatre.play(BROKEN[case], request_name)
    assert isinstance(outcome.error, MethodError)
    theatre.check(outcome, request_name)


CHUNK = {"chunk": NORM, "offset": 0, "numel": 4, "slot": 0}
TEXTS = ("\x1b[2J\x1b]0;owned\x07", "line\r\nline", "\ud800", "\u202e", "x" * 100_000, "")
ODD = (None, True, False, -1, 0, 5, 2**64, 10**39, 1.0, 4.0, 0.5, "", "4", [], [0], {}, {"a": 1}, *TEXTS)
WRONG_FIELDS = [
    *({**CHUNK, name: value} for name, right in CHUNK.items() for value in ODD if repr(value) != repr(right)),
    *({"ask": "samples", "domain": value, "start": 0, "count": 1} for value in ODD),
    *({"ask": "samples", "domain": "math", "start": value, "count": 1} for value in ODD if value != 0),
    *({"ask": "samples", "domain": "math", "start": 0, "count": value} for value in ODD if value != 0),
    *({"ask": "candidate", "domains": [value]} for value in ODD),
    *({"ask": "candidate", "domains": value} for value in ODD if value is not None),
    *({"ask": value} for value in ODD),
    *({"ack": value} for value in ODD),
    *({"error": value} for value in ODD),
    *({"error": {"message": value, "is_input": value, "traceback": value}} for value in ODD),
    {"ask": "candidate", "domains": ["math", "math"]},
    {"ask": "candidate", "domains": ["x"] * 100_000},
    {"ask": "validate"},
    {"ask": "validate", "domains": None},
    {"error": {}},
    {"ok": None, "error": {"message": "both"}},
    {"ok": None, "chunk": NORM},
    {"chunk": NORM, "offset": 0, "numel": 4, "slot": 0, "ask": "log", "message": "both"},
    {},
]


@pytest.mark.parametrize("request_name", REQUESTS)
def test_message_with_one_thing_wrong(theatre, request_name):
    """None of them completes anything: the request goes on to wait for the next message, or has failed."""
    for document in WRONG_FIELDS:
        outcome = theatre.play(message(document), request_name)
        assert outcome.error is not None, document
        assert outcome.sink.num_pieces == 0, document
        theatre.check(outcome, request_name)


ANSWERS = {"load": [], "prepare": None}
"""The last word of a request before memory of the GPU is asked for."""


@pytest.mark.parametrize("request_name", ANSWERS)
def test_nothing_but_an_answer_releases_memory(theatre, request_name):
    """Nothing can be had meanwhile, and what was answered before does not count."""
    answer = message({"ok": ANSWERS[request_name]})
    assert theatre.play(answer + message({"ok": None}), request_name, has_gpu=True).error is None
    asked = [
        {"ask": "log", "message": "x"},
        {"ask": "samples", "domain": "math", "start": 0, "count": 1},
        {"ask": "candidate", "domains": None},
        CHUNK,
    ]
    wrong = [*WRONG_FIELDS, *asked, *({"ok": value} for value in ODD if value is not None)]
    for said in [*map(message, wrong), *BROKEN.values()]:
        outcome = theatre.play(answer + said, request_name, has_gpu=True)
        assert isinstance(outcome.error, MethodError), said
        assert [heard["request"] for heard in outcome.script.answers()] == [request_name, "release"]
        assert outcome.services.logged == outcome.services.candidates == []
        theatre.check(outcome, request_name)


TWO_KINDS = [
    {"ok": None, "error": {"message": "both"}},
    {"ok": None, "chunk": NORM, "offset": 0, "numel": 4, "slot": 0},
    {"ok": None, "ask": "log", "message": "both"},
    {"error": {"message": "both"}, "ask": "log"},
    {**CHUNK, "ask": "log", "message": "both"},
]


@pytest.mark.parametrize("document", TWO_KINDS)
def test_message_of_two_kinds_is_none(theatre, document):
    said = b"".join(map(message, pieces_of(theatre.expected)[:-1]))
    outcome = theatre.play(said + message(document))
    assert isinstance(outcome.error, MethodError)
    assert "broke the protocol" in str(outcome.error)
    assert outcome.services.logged == []


@pytest.mark.parametrize("text", TEXTS)
def test_what_a_worker_reports_is_shown_plainly(theatre, text):
    error = {"message": f"it broke {text}", "traceback": f"Traceback\n  {text}\nend", "is_input": True}
    outcome = theatre.play(message({"error": error}), "load")
    assert isinstance(outcome.error, PluginError)
    assert str(outcome.error).startswith("it broke")
    assert theatre.log_file.read_text(encoding="utf-8").startswith("Traceback\n  ")
    theatre.check(outcome, "load")


@pytest.mark.parametrize("text", TEXTS)
def test_what_a_worker_logs_is_shown_plainly(theatre, text):
    outcome = theatre.play(message({"ask": "log", "message": f"log {text}"}) + message({"ok": None}), "prepare")
    assert outcome.error is None
    assert len(outcome.services.logged) == 1
    theatre.check(outcome, "prepare")


def test_flood_of_log_lines_ends(theatre):
    outcome = theatre.play(message({"ask": "log", "message": "flood"}) * 30_000, "prepare")
    assert isinstance(outcome.error, BudgetError)
    assert 1000 <= len(outcome.services.logged) < 20_000


def test_answers_before_any_question(theatre):
    """The first is taken as the answer to the first request; what comes of it is checked all the same."""
    outcome = theatre.play(message({"ok": None}) * 3)
    assert "the method gave 0 of" in str(outcome.error)


def test_acknowledgements_that_nobody_waits_for(theatre):
    pieces = [message(piece) for piece in pieces_of(theatre.expected)]
    outcome = theatre.play(pieces[0] + message({"ack": 0}) + b"".join(pieces[1:]) + message({"ok": None}))
    assert "which is not to be had" in str(outcome.error)
    assert outcome.sink.num_pieces == 1


@pytest.mark.parametrize("patience", range(10))
def test_worker_that_stops_listening(theatre, patience):
    said = b"".join(map(message, pieces_of(theatre.expected))) + message({"ok": None})
    outcome = theatre.play(said, patience=patience)
    theatre.check(outcome, "merge")
    assert (outcome.error is None) == (patience > len(theatre.expected))


def test_every_truncation_of_a_conversation(theatre):
    parts = [message(piece) for piece in pieces_of(theatre.expected)] + [message({"ok": None})]
    said = b"".join(parts)
    assert theatre.play(said).error is None
    for size in [*range(120), *range(len(said) - 120, len(said))]:
        outcome = theatre.play(said[:size])
        assert isinstance(outcome.error, MethodError)
        assert "ended somehow" in str(outcome.error)
        theatre.check(outcome, "merge")


NUMBERS = st.sampled_from(ODD) | st.integers(-1, 50)
WORDS = st.sampled_from([*DOMAINS, NORM, "lm_head.weight", *TEXTS]) | DOCUMENTS
ASKED = st.one_of(
    st.fixed_dictionaries({"ask": st.just("log"), "message": WORDS}),
    st.fixed_dictionaries(
        {"ask": st.just("samples"), "domain": st.sampled_from(DOMAINS), "start": NUMBERS, "count": NUMBERS}
    ),
    st.fixed_dictionaries(
        {"ask": st.just("samples"), "domain": st.just("math"), "start": st.just(0), "count": st.integers(1, 50)}
    ),
    st.fixed_dictionaries({"ask": st.just("candidate"), "domains": st.none() | st.lists(WORDS, max_size=2)}),
    st.just({"ask": "validate"}),
)
HONEST_REPORTS = st.fixed_dictionaries({"message": st.text(), "traceback": st.text(), "is_input": st.booleans()})
REPORTS = st.fixed_dictionaries({"message": WORDS, "traceback": WORDS, "is_input": NUMBERS})
LAST = st.one_of(
    st.just({"ok": None}),
    st.fixed_dictionaries({"error": HONEST_REPORTS}),
    st.fixed_dictionaries({"error": REPORTS | DOCUMENTS}),
    st.fixed_dictionaries({"ok": DOCUMENTS}),
)


@st.composite
def conversations(draw, expected: dict[str, int]):
    """Draw a request and what a worker says to it: in a merge a candidate or none and all tensors in pieces, and
    to every request questions in between and at most one message with something wrong in it. Draw, too, whether
    it has a GPU, to be released."""
    request, has_gpu = draw(st.sampled_from((*REQUESTS, "merge", "merge", "merge"))), draw(st.booleans())
    said, released = [], [{"ok": None}] * has_gpu
    if request == "merge" and draw(st.integers(0, 2)):
        candidate = [{"ask": "candidate", "domains": ["math"]}, *draw(tensors(expected)), {"ask": "validate"}]
        said += [*candidate, *released]
    if request == "merge" or draw(st.integers(0, 9)) == 0:
        said += draw(tensors(expected))
    for question in draw(st.lists(ASKED, max_size=2)):
        said.insert(draw(st.integers(0, len(said))), question)
    said += [draw(LAST), *released]
    if draw(st.booleans()):
        index = draw(st.integers(0, len(said) - 1))
        names = st.sampled_from(["ok", "error", "chunk", "offset", "numel", "slot", "ask", "domains", "ack"])
        said[index] = {**said[index], draw(names | st.sampled_from(sorted(said[index]))): draw(NUMBERS | WORDS)}
    return request, said, has_gpu


@st.composite
def tensors(draw, expected: dict[str, int]):
    """Draw an order of the tensors, the first of them in two pieces."""
    first, *rest = draw(st.permutations(pieces_of(expected)))
    cut, slot = draw(st.integers(1, first["numel"] - 1)), draw(st.integers(0, NUM_SLOTS - 1))
    halves = [{**first, "numel": cut}, {**first, "offset": cut, "numel": first["numel"] - cut, "slot": slot}]
    return [*halves, *rest]


def test_any_conversation(theatre):
    outcomes: Counter = Counter()

    @fuzz(500)
    @given(conversations(theatre.expected), st.binary(max_size=8))
    def run(conversation, junk):
        request, said, has_gpu = conversation
        outcome = theatre.play(b"".join(map(message, said)) + junk, request, has_gpu=has_gpu)
        theatre.check(outcome, request)
        outcomes[type(outcome.error).__name__] += 1
        outcomes["validated"] += len(outcome.services.validated)
        outcomes["released"] += sum(heard.get("request") == "release" for heard in outcome.script.answers())

    run()
    assert min(outcomes["NoneType"], outcomes["MethodError"], outcomes["validated"], outcomes["released"]) > 30
    assert min(outcomes["PluginError"], outcomes["BudgetError"]) > 0


# ------------------------------------------------------------------------------------------------ description


PARAMETER = {
    "default": 0.5, "meaning": "m", "low": 0.0, "high": 1.0, "is_low_open": False, "is_high_open": False,
    "choices": [], "is_per_domain": False,
}  # fmt: skip
DESCRIPTION = {
    "name": "method", "title": "T", "paper_url": "", "version": "1", "summary": "", "needs": ["validation"],
    "depth": "elementwise", "determinism": "exact", "is_stochastic": False, "base_roles": ["head"],
    "variant_of": "", "builds_on": [], "formula": "", "cost": "", "fidelity": "",
    "memory_bytes_per_parameter": 8.0, "disk_bytes_per_parameter": None,
    "hyperparameters": {"a": PARAMETER}, "linear_in": "a", "prepare_uses": [], "gives_final_values": False,
    "stages": [{"parameters": {"a": [0.1, 0.2]}, "domains": None, "candidate": {}}],
    "plugin": "p", "plugin_path": "", "reader_path": "",
}  # fmt: skip
PATHS = ("plugin_path", "reader_path")
"""These are compared with the paths of known plugins, not shown."""


def usable(document: object) -> MethodDescription | None:
    """Return a description, all of which can be used, or None if it is refused."""
    try:
        found = MethodDescription.model_validate(document)
    except ValidationError:
        return None
    assert found.search_space.num_configurations >= 0
    assert found.search_space.cost(5) >= 0
    for name, parameter in found.parameters.items():
        assert parameter.problem(parameter.default) is None
        parameter.allowed()
        check_texts(name)
    config = {name: parameter.default for name, parameter in found.parameters.items()}
    for stage in found.search_space.stages:
        for candidate in stage.configurations()[:3]:
            factor = found.coefficient({**config, **stage.candidate, **candidate})
            assert factor is None or math.isfinite(factor)
    values = found.model_dump(mode="json", exclude=set(PATHS))
    check_texts(json.dumps(values, allow_nan=False, ensure_ascii=False))
    return found


def check_texts(text: str) -> None:
    text.encode()
    assert all(letter.isprintable() or letter in "\n\t\xa0" or not letter.isascii() for letter in text)
    assert not {"\x9b", "\u202e", "\u2028"} & set(text)


CANNOT_BE = {
    "name of a path": {"name": "../../x"},
    "name with a newline": {"name": "method\n"},
    "no name": {"name": ""},
    "title that clears the screen": {"title": "\x1b[2J"},
    "title with a lone surrogate": {"title": "\ud800"},
    "title that reads backwards": {"title": "\u202egpj"},
    "title of a MiB": {"title": "x" * 1_000_000},
    "parameter with escape": {"hyperparameters": {"\x1b[2J": PARAMETER}, "linear_in": None, "stages": []},
    "default beyond floats": {"hyperparameters": {"a": {**PARAMETER, "default": 10**400, "high": None}}},
    "default not a number": {"hyperparameters": {"a": {**PARAMETER, "default": math.nan}}},
    "low not a number": {"hyperparameters": {"a": {**PARAMETER, "low": math.nan}}},
    "low infinite": {"hyperparameters": {"a": {**PARAMETER, "low": -math.inf}}},
    "default out of range": {"hyperparameters": {"a": {**PARAMETER, "default": 2.0}}},
    "default among too many choices": {
        "hyperparameters": {"a": {**PARAMETER, "default": "x", "choices": [f"c{i}\n" for i in range(50_000)]}}
    },
    "memory not a number": {"memory_bytes_per_parameter": math.nan},
    "memory below nothing": {"memory_bytes_per_parameter": -1.0},
    "disk beyond all disks": {"disk_bytes_per_parameter": 1e300},
    "linear in a text": {"hyperparameters": {"a": {**PARAMETER, "default": "x", "low": None, "high": None}}},
    "linear in nothing": {"linear_in": "b"},
    "linear in true": {"stages": [{"parameters": {"a": [True]}, "domains": None, "candidate": {}}]},
    "linear in a candidate's text": {"stages": [{"parameters": {}, "domains": None, "candidate": {"a": "x"}}]},
    "stage without values": {"stages": [{"parameters": {"a": []}, "domains": None, "candidate": {}}]},
    "stage with infinity": {"stages": [{"parameters": {"a": [math.inf]}, "domains": None, "candidate": {}}]},
    "stage with a huge integer": {"stages": [{"parameters": {"a": [10**400]}, "domains": None, "candidate": {}}]},
    "more configurations than anybody can list": {
        "stages": [
            {"parameters": {f"p{i}": list(range(100)) for i in range(10)}, "domains": None, "candidate": {}}
        ]
    },
    "more parameters than anybody can read": {
        "hyperparameters": {f"p{i}": PARAMETER for i in range(1001)},
        "linear_in": None,
        "stages": [],
    },
    "more wrong parameters": {"hyperparameters": {f"p{i}": 1 for i in range(100_000)}},
    "more wrong values than anybody can read": {
        "stages": [{"parameters": {"a": [None] * 200_000}, "domains": None, "candidate": {}}]
    },
    "further field": {"x": 1},
    "unknown need": {"needs": ["network"]},
}


@pytest.mark.parametrize("case", CANNOT_BE)
def test_description_that_cannot_be(theatre, case):
    assert usable(DESCRIPTION) is not None
    assert usable({**DESCRIPTION, **CANNOT_BE[case]}) is None
    said = message({"ok": [DESCRIPTION, {**DESCRIPTION, **CANNOT_BE[case]}]})
    outcome = theatre.play(said, "load")
    assert outcome.error is not None
    theatre.check(outcome, "load")


def test_two_descriptions_of_one_name(theatre):
    outcome = theatre.play(message({"ok": [DESCRIPTION, {**DESCRIPTION, "title": "Another"}]}), "load")
    assert isinstance(outcome.error, PluginError)
    assert theatre.play(message({"ok": [DESCRIPTION]}), "load").error is None


def test_largest_search_space():
    parameters = {"b": list(range(MAX_CONFIGURATIONS // 2)), "a": [0.1, 0.2]}
    step = {"parameters": parameters, "domains": None, "candidate": {}}
    assert usable({**DESCRIPTION, "stages": [step]}).search_space.num_configurations == MAX_CONFIGURATIONS
    parameters["b"].append(0)
    assert usable({**DESCRIPTION, "stages": [step]}) is None


VALUES = DOCUMENTS | st.sampled_from([0, 1, 0.5, "a", "method", [], {}, [0.5], {"a": [1]}, {"a": PARAMETER}])
ALIKE = {str: st.text(max_size=5), float: st.floats(0, 1), bool: st.booleans()}


@st.composite
def descriptions(draw):
    """Draw a description with up to two values, anywhere in it, put in place of others."""
    document = json.loads(json.dumps(DESCRIPTION))
    for _ in range(draw(st.integers(1, 2))):
        place, key = document, draw(st.sampled_from(sorted(document)))
        while isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        place[key] = draw(ALIKE.get(type(place[key]), VALUES) if draw(st.integers(0, 9)) else VALUES)
    return document


def test_any_description():
    outcomes: Counter = Counter()

    @fuzz(400)
    @given(descriptions())
    def run(document):
        outcomes[usable(document) is None] += 1

    run()
    assert min(outcomes[True], outcomes[False]) > 60


def described(info: MethodInfo, parameters=None, space=None) -> dict:
    """Describe a method as its worker would."""

    class Method(MergingMethod):
        """Made up."""

    method = Method()
    method.info = info
    method.hyperparameters = parameters or {}
    method.search_space = space or grid()
    source = PluginSource(name="p", module=None, path=Path("p.py"), distribution="file")
    return describe(LoadedMethod(method=method, source=source))


def test_an_honest_plugin_is_told_what_is_wrong():
    info = MethodInfo(name="method", title="T\x07", paper_url="")
    with pytest.raises(PluginError, match=r"^method 'method' cannot be described: title: .*cannot be shown$"):
        described(info)
    space = grid(**{f"p{number}": range(100) for number in range(5)})
    with pytest.raises(PluginError, match=r"a stage has more than 100000 configurations$"):
        described(MethodInfo(name="method", title="T", paper_url=""), space=space)


def test_an_honest_plugin_may_use_any_script_and_several_lines():
    info = MethodInfo(name="method", title="Mérge 日本語 🙂", paper_url="", fidelity="one\n\ttwo\xa0three")
    parameters = {"λ": Parameter(default=0.5, meaning="größer als\nzuvor")}
    assert MethodDescription.model_validate(described(info, parameters)).title == info.title


def test_real_connection_behaves_like_the_script():
    """The fuzzing above rests on a stand-in for a socket."""
    for said in (message({"ok": 1}), framed(b"{"), b"\0\0", b""):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(said)
            theirs.close()
            real, script = Channel(ours), Channel(Script(said))
            assert outcome_of(real) == outcome_of(script)


def outcome_of(channel: Channel) -> SimpleNamespace:
    try:
        return SimpleNamespace(message=channel.receive())
    except ConnectionLost:
        return SimpleNamespace(message="lost")
    except ProtocolError as error:
        return SimpleNamespace(message=str(error))
