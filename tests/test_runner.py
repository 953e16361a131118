"""One run on the toy track: what it records, that it repeats, resumes and fails honestly."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.checkpoints.digest import weights_sha256
from mergebench_core.errors import BudgetError, CheckpointError, EngineError, InputError, MethodError
from mergebench_core.evaluation.engines.hf import HfEngine
from mergebench_core.evaluation.items import read_rows
from mergebench_core.records import read_record
from mergebench_core.reference import run_references
from mergebench_core.runner import job_folder, run_method
from mergebench_core.store import open_board
from mergebench_core.tracks.digests import file_digest
from mergebench_core.workbench import Workbench
from mergebench_core.worker.catalog import find_method, load_catalog

PLUGIN = """
from mergebench_core import MergingMethod, MethodInfo, Prepared, grid, hookimpl

class Mine(MergingMethod):
    info = MethodInfo(name="mine", title="Mine", paper_url="", needs={needs})
    search_space = {space}
    linear_in = {linear_in}

    def prepare(self, context, config):
        {prepare}
        return Prepared()

    def update(self, tensor, config, prepared):
        return {update}

@hookimpl
def mergebench_register_methods(register):
    register(Mine())
"""


@pytest.fixture(scope="module")
def catalog():
    return load_catalog()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def bench(toy_track, own_home: Path, referenced_home: Path, lines: list[str]) -> Workbench:
    shutil.copytree(referenced_home, own_home)
    return make_bench(toy_track, own_home, lines)


@pytest.fixture(scope="module")
def referenced_home(toy_track, tmp_path_factory) -> Path:
    """A home in which the references of both bases are scored."""
    home = tmp_path_factory.mktemp("referenced")
    for base in toy_track.bases:
        run_references(Workbench(track=toy_track, base=base, home=home, progress=lambda line: None))
    return home


def make_bench(track, home: Path, lines: list[str], base: str = "toy-untied", num_threads: int = 1) -> Workbench:
    home.mkdir(exist_ok=True)
    return Workbench(track=track, base=base, home=home, progress=lines.append, num_threads=num_threads)


def write_plugin(folder: Path, **parts: str):
    defaults = {
        "needs": "{'validation'}",
        "space": "grid(scale=[0.5, 1.0])",
        "linear_in": "'scale'",
        "prepare": "pass",
        "update": "sum(tensor.task_vectors)",
    }
    path = folder / "mine.py"
    path.write_text(PLUGIN.format(**{**defaults, **parts}))
    return find_method(load_catalog(path), "mine")


def test_record_names_everything(bench, catalog):
    record = run_method(bench, find_method(catalog, "task_arithmetic"))
    assert record.status == "completed"
    assert len(record.configurations) == 10
    assert record.meters.validations == 10
    assert set(record.tasks) == {task.name for task in bench.track.tasks_for("test", "generalization")}
    assert record.left_out == ("lm_head.weight", "model.embed_tokens.weight")
    assert set(record.input_sha256) == {"base", *(f"specialist:{d}" for d in bench.track.domains)}
    assert record.meters.worker_peak_rss_bytes > 50_000_000
    best = max(record.configurations, key=lambda part: sum(part.validation_scores.values()))
    assert record.config == best.config
    folder = bench.home / "runs" / record.job_id
    assert read_record(folder / "record.json") == record
    for name, part in record.tasks.items():
        rows = read_rows(folder / part.items_file)
        assert file_digest(folder / part.items_file) == part.items_sha256
        assert sum(row.score for row in rows) / len(rows) == pytest.approx(part.score)
        assert rows[0].item_id == f"{name}-0"
        assert len(rows) == part.num_items


def test_weights_on_disk_are_those_recorded_and_load(bench, catalog):
    record = run_method(bench, find_method(catalog, "ties"))
    weights = bench.home / "runs" / record.job_id / "weights"
    assert weights_sha256(Checkpoint(weights)) == record.weights_sha256
    assert (
        HfEngine(weights, bench.track.evaluation).model.num_parameters() == bench.resident.model.num_parameters()
    )


def test_resident_and_file_are_the_same_model(bench, catalog):
    """The candidate scored in memory and the winner written to disk hold the same bits."""
    import torch

    record = run_method(bench, find_method(catalog, "task_arithmetic"))
    merged = Checkpoint(bench.home / "runs" / record.job_id / "weights")
    base, specialists = bench.base_checkpoint, bench.specialists
    coefficient = record.config["scaling_coefficient"]
    for name, entry in merged.entries.items():
        expected = base.tensor(name)
        if name not in record.left_out:
            vectors = [specialists[d].tensor(name) - base.tensor(name) for d in sorted(specialists)]
            expected = base.tensor(name) + coefficient * sum(vectors)
        assert torch.equal(merged.tensor(name), expected), entry


@pytest.mark.parametrize("base", ["toy-untied", "toy-tied"])
def test_repeats_to_the_byte_with_other_threads_and_chunks(toy_track, referenced_home, tmp_path, catalog, base):
    method = find_method(catalog, "ties")
    for home in ("a", "b"):
        shutil.copytree(referenced_home, tmp_path / home)
    first = run_method(make_bench(toy_track, tmp_path / "a", [], base), method)
    second = run_method(make_bench(toy_track, tmp_path / "b", [], base, num_threads=2), method, chunk_numel=77)
    assert first.weights_sha256 == second.weights_sha256
    assert {n: t.score for n, t in first.tasks.items()} == {n: t.score for n, t in second.tasks.items()}
    assert [c.validation_scores for c in first.configurations] == [
        c.validation_scores for c in second.configurations
    ]


def test_finished_job_is_not_run_again(bench, catalog, lines):
    record = run_method(bench, find_method(catalog, "model_soup"))
    lines.clear()
    assert run_method(bench, find_method(catalog, "model_soup")) == record
    assert lines == ["model_soup on toy-untied: done before, nothing to do"]


def test_resumes_without_repeating_configurations(toy_track, bench, own_home, catalog, lines, monkeypatch):
    method = find_method(catalog, "task_arithmetic")
    scored = []
    original = Workbench.surrogate_scores

    def interrupt_after_four(self, domains):
        if len(scored) == 4:
            raise KeyboardInterrupt
        scored.append(1)
        return original(self, domains)

    monkeypatch.setattr(Workbench, "surrogate_scores", interrupt_after_four)
    with pytest.raises(KeyboardInterrupt):
        run_method(make_bench(toy_track, own_home, lines), method)
    assert not list(own_home.glob("runs/*/weights"))
    counted = []
    monkeypatch.setattr(Workbench, "surrogate_scores", lambda s, d: counted.append(1) or original(s, d))
    record = run_method(make_bench(toy_track, own_home, lines), method)
    assert len(counted) == 6
    assert len(record.configurations) == 10
    assert record.meters.validations == 10


def test_interrupted_evaluation_goes_on_with_the_next_task(toy_track, own_home, catalog, monkeypatch):
    method = find_method(catalog, "model_soup")
    scored: list[str] = []
    original = Workbench._score_task

    def interrupt(self, harness, folder, task, digest):
        if len(scored) == 47:  # seven references of six tasks, then five tasks of the merge
            raise KeyboardInterrupt
        scored.append(task.name)
        return original(self, harness, folder, task, digest)

    monkeypatch.setattr(Workbench, "_score_task", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_method(make_bench(toy_track, own_home, []), method)

    def note(self, harness, folder, task, digest):
        scored.append(task.name)
        return original(self, harness, folder, task, digest)

    monkeypatch.setattr(Workbench, "_score_task", note)
    record = run_method(make_bench(toy_track, own_home, []), method)
    assert len(scored) == 48
    assert len(record.tasks) == 6


def test_failing_method_leaves_a_record(bench, tmp_path):
    method = write_plugin(tmp_path, update="tensor.base.no_such_attribute")
    with pytest.raises(MethodError, match=r"AttributeError: .*no_such_attribute.* \(.*mine\.py, line 14\)"):
        run_method(bench, method)
    records = [read_record(path) for path in bench.home.glob("runs/*/record.json")]
    failed = [record for record in records if record.kind == "merge"]
    assert [record.status for record in failed] == ["failed"]
    assert "no_such_attribute" in failed[0].reason
    assert failed[0].weights_sha256 is None
    connection = open_board(bench.home)
    assert connection.execute("select count(*) from runs where status = 'failed'").fetchone() == (1,)


def test_undeclared_calibration_is_refused(bench, tmp_path):
    method = write_plugin(tmp_path, prepare="list(context.calibration('math', 3))")
    with pytest.raises(
        MethodError, match=r"'mine' reads calibration samples without declaring it; add needs=.*mine\.py"
    ):
        run_method(bench, method)


def test_more_samples_than_the_budget_is_over_budget(bench, tmp_path):
    method = write_plugin(
        tmp_path, needs="{'validation', 'calibration'}", prepare="list(context.calibration('math', 21))"
    )
    with pytest.raises(BudgetError, match="more than 20 calibration samples"):
        run_method(bench, method)
    (record,) = (r for r in map(read_record, bench.home.glob("runs/*/record.json")) if r.kind == "merge")
    assert record.status == "over_budget"


def test_calibration_samples_are_counted(bench, tmp_path):
    method = write_plugin(
        tmp_path,
        needs="{'calibration'}",
        space="grid()",
        linear_in="None",
        prepare="assert len(list(context.calibration('math', 20))) == 20",
    )
    assert run_method(bench, method).meters.calibration_samples == {"math": 20}


def test_meters_survive_an_interruption_after_the_merge(bench, tmp_path, monkeypatch):
    """The merge is not repeated, so what it read must not be forgotten."""
    method = write_plugin(
        tmp_path, needs="{'validation', 'calibration'}", prepare="list(context.calibration('math', 20))"
    )

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Workbench, "evaluate", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_method(bench, method)
    monkeypatch.setattr("mergebench_core.runner.MethodRun._merge_winner", interrupt)
    record = run_method(bench, method)
    assert record.meters.calibration_samples == {"math": 20}
    assert record.meters.validations == 2


def test_search_space_over_the_cap_is_refused(bench, tmp_path):
    method = write_plugin(tmp_path, space="grid(scale=[i / 10 for i in range(36)])")
    with pytest.raises(InputError, match="36 validations; the track allows 35"):
        run_method(bench, method)


def test_configuration_that_overflows_fails_alone(bench, tmp_path):
    method = write_plugin(tmp_path, space="grid(scale=[1.0, 3e38])", update="100 * sum(tensor.task_vectors)")
    record = run_method(bench, method)
    assert [part.status for part in record.configurations] == ["completed", "failed"]
    assert "NaN or infinity" in record.configurations[1].reason
    assert record.config == {"scale": 1.0}


def change_specialist(toy_track, tmp_path: Path, change) -> Workbench:
    """Return a bench whose math specialist was saved again after `change` of its tensors."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "changed"
    base = toy_track.bases["toy-untied"]
    shutil.copytree(base.specialists["math"], folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    bases = {"toy-untied": dataclasses.replace(base, specialists={**base.specialists, "math": folder})}
    (tmp_path / "home").mkdir(exist_ok=True)
    track = dataclasses.replace(toy_track, bases=bases)
    return Workbench(track=track, base="toy-untied", home=tmp_path / "home", progress=lambda line: None)


NORM, EMBED = "model.norm.weight", "model.embed_tokens.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NORM), "tensor 'model.norm.weight' is missing"),
        (lambda t: t.update(extra=t[NORM].clone()), "has tensor 'extra', which the base does not have"),
        (lambda t: t.update({NORM: t[NORM][:3].clone()}), r"has shape \[3\], the base has \[16\]"),
        (lambda t: t.update({NORM: t[NORM].half()}), "is F16, the base is F32"),
        (lambda t: t[NORM].fill_(float("nan")), "holds NaN or infinity"),
    ],
)
def test_misfit_specialist_is_named(toy_track, tmp_path, catalog, change, message):
    bench = change_specialist(toy_track, tmp_path, change)
    with pytest.raises(CheckpointError, match=f"(?s)math.*{message}"):
        run_method(bench, find_method(catalog, "model_soup"))


def test_changed_track_file_is_named(toy_track, tmp_path, catalog):
    bench = change_specialist(toy_track, tmp_path, lambda t: t[NORM].add_(1))
    digests = {**toy_track.file_digests, "models/toy-untied/base/config.json": "0" * 64}
    bench.track = dataclasses.replace(bench.track, file_digests=digests)
    with pytest.raises(InputError, match=r"config\.json differs from its digest"):
        run_method(bench, find_method(catalog, "model_soup"))


def test_job_id_depends_on_source_and_seed(bench, tmp_path):
    first = write_plugin(tmp_path)
    second = write_plugin(tmp_path, update="2 * sum(tensor.task_vectors)")
    assert job_folder(bench, first, 0) != job_folder(bench, second, 0)
    assert job_folder(bench, first, 0) != job_folder(bench, first, 1)
    assert job_folder(bench, first, 0) == job_folder(bench, write_plugin(tmp_path), 0)


def test_record_holds_no_derived_number(bench, catalog):
    record = run_method(bench, find_method(catalog, "model_soup"))
    document = json.loads(record.to_json())
    assert next(iter(document)) == "schema_version"
    assert not {"headline", "normalized", "generalization"} & set(document)


SEARCHING = """
import torch
from mergebench_core import MergingMethod, MethodInfo, hookimpl

class Searching(MergingMethod):
    info = MethodInfo(
        name="searching", title="Searching", paper_url="", needs={"validation"}, depth="model",
        determinism="tolerance",
    )

    def merge(self, context, config):
        def candidate(weight):
            for chunk_name in context.base.names:
                if "embed" in chunk_name or "lm_head" in chunk_name:
                    continue
                base = context.base.tensor(chunk_name)
                yield chunk_name, base + weight * sum(s.tensor(chunk_name) - base for s in context.specialists)

        everywhere = context.validate(candidate(0.1), None)
        assert set(everywhere) == set(context.specialists.domains)
        assert all(round(score, 3) == score for score in everywhere.values())
        context.log(f"math alone: {context.validate(candidate(0.2), ['math'])}")
        yield from candidate(0.3)

@hookimpl
def mergebench_register_methods(register):
    register(Searching())
"""


def test_method_that_searches_by_itself_is_metered(bench, tmp_path, lines):
    import torch

    path = tmp_path / "searching.py"
    path.write_text(SEARCHING)
    record = run_method(bench, find_method(load_catalog(path), "searching"))
    assert record.meters.validations == pytest.approx(1.2)
    assert record.runtime.validation_runtime_s > 0
    assert any(line.startswith("searching: math alone: {'math': ") for line in lines)
    merged = Checkpoint(bench.home / "runs" / record.job_id / "weights")
    base = bench.base_checkpoint.tensor(NORM)
    expected = base + 0.3 * sum(s.tensor(NORM) - base for _, s in sorted(bench.specialists.items()))
    assert torch.equal(merged.tensor(NORM), expected)


def test_a_fault_of_the_engine_is_not_the_methods(bench, tmp_path, monkeypatch):
    """A method that is scored while it merges is not told of it, and has no failed record."""
    path = tmp_path / "searching.py"
    path.write_text(SEARCHING)
    method = find_method(load_catalog(path), "searching")

    def fail(*arguments):
        raise EngineError("vLLM failed; run again")

    monkeypatch.setattr(type(bench), "surrogate_scores", fail)
    with pytest.raises(EngineError):
        run_method(bench, method)
    assert not (job_folder(bench, method, 0).path / "record.json").exists()
