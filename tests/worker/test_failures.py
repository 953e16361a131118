"""Methods that fail: one line for the user, the worker's log for the rest, and nothing left behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from checkpoint_samples import random_models
from worker_samples import Bench, DictSink, SampleServices

from mergebench_core.checkpoints.assembly import NonFiniteMerge
from mergebench_core.errors import (
    BudgetError,
    CheckpointError,
    MergebenchError,
    MethodError,
    PluginError,
    RunError,
)
from mergebench_core.plugins import file_source

PLUGIN = Path(__file__).parent / "failing_plugin.py"


def line_of(text: str) -> int:
    """Return the number of the line of the failing plugin that holds `text`."""
    (number,) = (n for n, line in enumerate(PLUGIN.read_text().splitlines(), 1) if text in line)
    return number


def prepare_and_merge(bench, models, method: str, config) -> None:
    bench.worker.prepare(config)
    bench.worker.merge(config, bench.assembly(models, method, config, DictSink()))


def failure(bench, models, method: str, config=None) -> MergebenchError:
    """Return the error with which a merge fails."""
    bench.open(models, method)
    with pytest.raises(RunError) as error:
        prepare_and_merge(bench, models, method, config or {})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 2500
    return error.value


def test_exception_names_file_and_line_and_its_traceback_is_logged(bench, models):
    error = failure(bench, models, "raises")
    assert str(error).startswith("ValueError: something is wrong with model.layers.0")
    assert str(error).endswith(f"({PLUGIN}, line {line_of('raise ValueError')})")
    assert "Traceback (most recent call last)" in bench.log_file.read_text()


def test_very_long_message_is_cut(bench, models):
    error = failure(bench, models, "verbose")
    assert str(error).startswith("RuntimeError: xxx")
    assert str(error).endswith(f"({PLUGIN}, line {line_of('raise RuntimeError')})")


MESSAGES = {
    "wrong_shape": "update returned torch.float32 [3] for 'model.layers.0.input_layernorm.weight'; "
    "return torch.float32 [4]",
    "wrong_dtype": "update returned torch.float64 [4] for 'model.layers.0.input_layernorm.weight'; "
    "return torch.float32 [4]",
    "wrong_final_dtype": "merge_tensor returned torch.float32 [4] for 'model.layers.0.input_layernorm.weight'; "
    "return torch.bfloat16 [4]",
    "no_tensor": "update returned int for 'model.layers.0.input_layernorm.weight'; return a tensor",
    "wrong_prepare": "prepare returned dict; return Prepared(...)",
    "odd_prepare": "Prepared.data must hold finite JSON values only",
    "no_such_label": "prepare returned no tensor 'mask' for 'model.layers.0.input_layernorm.weight'",
    "unknown_tensor": "'model.connection.weight' comes with shape [2]; the base has no such tensor",
    "head_too": "a piece came for 'lm_head.weight', which the method's policy does not merge",
    "half": "the method gave 0 of ",
}


@pytest.mark.parametrize("method", [name for name in MESSAGES if name != "head_too"])
def test_what_a_method_returns_is_checked(bench, models, method):
    """All of these fail the run, which leaves a record; none is a mistake of the user's input."""
    assert MESSAGES[method] in str(failure(bench, models, method))


def test_worker_goes_on_after_a_failure(bench, models, tmp_path):
    before = bench.merge(models, "model_soup", {}, tmp_path / "before")
    failure(bench, models, "raises")
    failure(bench, models, "wrong_shape")
    assert bench.merge(models, "model_soup", {}, tmp_path / "after") == before
    assert {path.name for path in tmp_path.iterdir() if "home" not in path.name} == {"before", "after"}


def test_nan_fails_the_merge_and_leaves_no_checkpoint(bench, services, models, tmp_path):
    with pytest.raises(NonFiniteMerge, match=r"tensor 'model\.layers\.0.* holds NaN or infinity"):
        bench.merge(models, "alien", {}, tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


def test_environment_holds_nothing_of_the_hosts(bench, services, models, monkeypatch):
    bench.open(models, "alien")
    bench.worker.prepare({})
    (line,) = services.logged
    assert line.endswith(" True 1")
    for name in ("MERGEBENCH_HOME", "PYTEST_CURRENT_TEST", "PYTHONPATH"):
        assert name not in line


def test_prints_go_to_the_log(bench, models, tmp_path, capfd):
    bench.merge(models, "prints", {}, tmp_path / "out")
    failure(bench, models, "raises")  # its answer comes after all output
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
    assert "written by a method" in bench.log_file.read_text()


def test_broken_checkpoint_is_named(bench, tmp_path):
    broken = random_models(tmp_path)
    path = broken.specialists["math"].path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PluginError, match=r"math/model\.safetensors: truncated or too long"):
        bench.open(broken, "model_soup")
    with pytest.raises(CheckpointError):
        type(broken.base)(path.parent)


@pytest.fixture
def own_bench(tmp_path, models):
    """A worker that may be killed."""
    with Bench.started(tmp_path, [file_source(PLUGIN)], SampleServices(models=models)) as bench:
        yield bench
    assert bench.worker._worker.process.poll() is not None
    assert not bench.worker._folder.exists()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("dies", r"^the worker was ended by SIGKILL \(out of memory\?\); see .*worker\.log$"),
        ("exits", r"^the worker ended with exit code 7; see .*worker\.log$"),
    ],
)
def test_worker_that_dies(own_bench, models, method, message):
    error = failure(own_bench, models, method)
    assert isinstance(error, MethodError)
    assert re.match(message, str(error))
    with pytest.raises(MethodError, match="the worker"):
        own_bench.worker.prepare({})


def test_tensor_that_the_policy_leaves_out(own_bench, models):
    """The host cannot let that pass: it ends the conversation."""
    assert MESSAGES["head_too"] in str(failure(own_bench, models, "head_too"))


def test_used_up_budget_is_the_hosts_word(models, tmp_path):
    """It ends the run, whatever the method makes of it."""
    services = SampleServices(models=models, budget=10)
    with Bench.started(tmp_path, [file_source(PLUGIN.with_name("sample_plugin.py"))], services) as bench:
        bench.open(models, "reader")
        with pytest.raises(BudgetError, match="no more samples"):
            bench.worker.prepare({"num_samples": 60})
