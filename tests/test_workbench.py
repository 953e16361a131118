"""The bench: what its resident model stands for, when engines are compared, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from mergebench_core import api, demo
from mergebench_core.checkpoints.checkpoint import Checkpoint
from mergebench_core.errors import EngineError
from mergebench_core.evaluation.engines import in_place
from mergebench_core.evaluation.engines.hf import HfEngine
from mergebench_core.jobs import JobFolder
from mergebench_core.records import read_record
from mergebench_core.reference import run_references
from mergebench_core.runner import run_method
from mergebench_core.tracks.track import HubModel
from mergebench_core.workbench import Workbench
from mergebench_core.worker.catalog import find_method

BASE = "toy-untied"
HUB_MODEL = HubModel(repo="owner/base", licence="mit", is_gated=False, num_parameters=1)
COMPARING = "comparing weights taken in place with the same weights loaded anew"


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """Names of the folders that engines were opened on."""
    found: list[str] = []
    begin = HfEngine.__init__

    def note(self, path, settings):
        found.append(path.name)
        begin(self, path, settings)

    monkeypatch.setattr(HfEngine, "__init__", note)
    return found


@pytest.fixture
def hub_track(toy_track, tmp_path):
    """The toy track as if its base came from the Hub, with files of its own; one domain is scored."""
    base = toy_track.bases[BASE]
    models = tmp_path / "models"
    shutil.copytree(base.path.parent, models)
    moved = dataclasses.replace(
        base,
        path=models / "base",
        specialists={domain: models / domain for domain in base.specialists},
        references={},
        hub_models={"base": HUB_MODEL},
    )
    tasks = tuple(task for task in toy_track.tasks if task.purpose == "surrogate" or task.domain == "math")
    return dataclasses.replace(
        toy_track, bases={BASE: moved}, tasks=tasks, file_digests={}, revisions={HUB_MODEL.repo: "a1"}
    )


def bench_of(track, home: Path, lines: list[str]) -> Workbench:
    home.mkdir(exist_ok=True)
    return Workbench(track=track, base=BASE, home=home, progress=lines.append)


def change(file: Path, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def evaluate(bench: Workbench, path: Path, job: str) -> None:
    bench.evaluate(JobFolder(home=bench.home, job_id=job), Checkpoint(path), job)


def test_the_resident_model_has_the_base_s_files_whatever_was_scored_before(hub_track, own_home, lines, opened):
    """A specialist ends its answers elsewhere and has no chat template; neither may reach a candidate."""
    base = hub_track.bases[BASE]
    (base.path / "chat_template.jinja").write_text("{% for m in messages %}<s>{{ m['content'] }}{% endfor %}")
    change(base.specialists["math"] / "generation_config.json", eos_token_id=[2, 77])
    with bench_of(hub_track, own_home, lines) as bench:
        for name in ("math", "coding"):
            evaluate(bench, base.specialists[name], name)
        evaluate(bench, base.path, "base")
        settings = bench.resident.model.generation_config
        assert settings.eos_token_id == 2
        assert bench.resident.tokenizer.chat_template is not None
    assert opened == ["math", "coding", "compared", "base"]


def test_a_model_with_files_of_its_own_is_scored_with_them(hub_track, own_home, lines, monkeypatch):
    base = hub_track.bases[BASE]
    change(base.specialists["math"] / "generation_config.json", eos_token_id=[2, 77])
    change(base.specialists["coding"] / "config.json", transformers_version="4.0", use_cache=False)
    ends = {}
    score = Workbench._score_task

    def note(self, harness, folder, task, digest):
        ends[folder.job_id] = harness._engine.model.generation_config.eos_token_id
        return score(self, harness, folder, task, digest)

    monkeypatch.setattr(Workbench, "_score_task", note)
    with bench_of(hub_track, own_home, lines) as bench:
        for name in ("math", "coding"):
            evaluate(bench, base.specialists[name], name)
    assert ends == {"math": [2, 77], "coding": 2}


def test_an_engine_is_compared_before_anything_is_scored_and_once(hub_track, own_home, lines, opened):
    with bench_of(hub_track, own_home, lines) as bench:
        run_references(bench)
    comparing, first_score = lines.index(COMPARING), next(i for i, line in enumerate(lines) if line[:4] == "task")
    assert comparing < first_score
    assert opened == ["compared", "base"]
    shutil.rmtree(own_home / "runs")
    with bench_of(hub_track, own_home, lines) as bench:
        run_references(bench)
    assert lines.count(COMPARING) == 1
    assert opened == ["compared", "base", "base"]


def test_an_upgrade_is_noticed_before_a_method_has_the_accelerator(
    hub_track, own_home, lines, catalog, monkeypatch
):
    with bench_of(hub_track, own_home, lines) as bench:
        run_references(bench)
    lines.clear()
    monkeypatch.setattr(in_place, "package_versions", lambda names: {"torch": "99"})
    method = find_method(catalog, "model_soup")

    def start(self):
        lines.append("method")
        raise KeyboardInterrupt

    monkeypatch.setattr("mergebench_core.runner.MethodRun.execute", start)
    with bench_of(hub_track, own_home, lines) as bench, pytest.raises(KeyboardInterrupt):
        run_method(bench, method)
    assert lines == [f"loading {BASE}", COMPARING, "method"]


def test_specialists_with_tokenizers_of_their_own_do_not_put_it_off(hub_track, own_home, lines, opened, catalog):
    for path in hub_track.bases[BASE].specialists.values():
        change(path / "tokenizer_config.json", clean_up_tokenization_spaces=True)
    with bench_of(hub_track, own_home, lines) as bench:
        run_method(bench, find_method(catalog, "model_soup"))
    assert opened[:2] == ["compared", "base"]
    assert set(opened[2:]) == {*hub_track.domains, "base"}
    assert lines.count(COMPARING) == 1


def test_nothing_is_compared_where_nothing_is_scored(hub_track, own_home, lines, opened, catalog, monkeypatch):
    method = find_method(catalog, "model_soup")
    with bench_of(hub_track, own_home, lines) as bench:
        run_method(bench, method)
    opened.clear()
    monkeypatch.setattr(in_place, "package_versions", lambda names: {"torch": "99"})
    with bench_of(hub_track, own_home, lines) as bench:
        run_method(bench, method)
    assert opened == []


def test_other_versions_and_devices_are_compared_again(hub_track, own_home, lines, monkeypatch):
    monkeypatch.setattr(in_place, "package_versions", lambda names: dict.fromkeys(names, "1"))
    changes = [
        lambda: None,
        lambda: monkeypatch.setattr(
            in_place, "package_versions", lambda names: {**dict.fromkeys(names, "1"), "vllm": "2"}
        ),
        lambda: monkeypatch.setattr(in_place, "cpu_model", lambda: "another"),
        lambda: None,
    ]
    counts = []
    for make_change in changes:
        make_change()
        with bench_of(hub_track, own_home, lines) as bench:
            assert bench.resident
        counts.append(lines.count(COMPARING))
    assert counts == [1, 2, 3, 3]


def test_models_of_the_package_are_not_compared(toy_track, own_home, lines, opened):
    with bench_of(toy_track, own_home, lines) as bench:
        assert bench.resident
    assert opened == ["base"]


def test_an_engine_that_differs_stops_the_run_without_a_record(hub_track, own_home, lines, catalog, monkeypatch):
    method = find_method(catalog, "model_soup")
    write = HfEngine.write
    with monkeypatch.context() as patch, bench_of(hub_track, own_home, lines) as bench:
        patch.setattr(HfEngine, "write", lambda self, name, *rest: "norm" in name or write(self, name, *rest))
        for _ in range(2):
            with pytest.raises(EngineError, match="engine hf does not take weights in place"):
                run_method(bench, method)
    assert list(own_home.glob("runs/*/record.json")) == []
    with bench_of(hub_track, own_home, lines) as bench:
        assert run_method(bench, method).status == "completed"


def test_a_failing_engine_is_not_the_method_s_failure(toy_track, own_home, lines, catalog, monkeypatch):
    """What was scored before stays, so that the same command goes on there."""
    method = find_method(catalog, "task_arithmetic")
    monkeypatch.setattr("mergebench_core.runner.run_references", lambda bench: [])
    score = Workbench.surrogate_scores
    scored = []

    def fail_once(self, domains):
        if len(scored) == 3:
            scored.append("failed")
            raise EngineError("vLLM failed while scoring (it died); run again to go on")
        scored.append("done")
        return score(self, domains)

    monkeypatch.setattr(Workbench, "surrogate_scores", fail_once)
    with bench_of(toy_track, own_home, lines) as bench:
        with pytest.raises(EngineError, match="run again to go on"):
            run_method(bench, method)
        assert list(own_home.glob("runs/*/record.json")) == []
        assert len(list(own_home.glob("runs/*/configurations/*.json"))) == 3
        assert run_method(bench, method).status == "completed"
    assert scored.count("done") == 10
    assert [read_record(path).status for path in own_home.glob("runs/*/record.json")] == ["completed"]


def test_parking_parks_the_judge_too(toy_track, own_home, lines):
    class Judge:
        name, revision = "j", "1"
        is_parked = False

        def judge(self, exchanges):
            return []

        def park(self):
            self.is_parked = True

    bench = bench_of(toy_track, own_home, lines)
    bench.judge = Judge()
    bench.park()
    assert bench.judge.is_parked
    bench.judge = type("Rules", (), {"judge": lambda self, exchanges: []})()
    bench.park()


def test_the_end_of_the_block_frees_the_model_and_the_work_folder(toy_track, own_home, lines):
    engines = []

    def work() -> None:
        with bench_of(toy_track, own_home, lines) as bench:
            engines.append(bench.resident)
            assert len(list((own_home / "work").iterdir())) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert engines[0].model is None
    assert list((own_home / "work").iterdir()) == []


def test_no_call_leaves_a_work_folder(toy_track, own_home, monkeypatch):
    tasks = tuple(task for task in toy_track.tasks if task.purpose == "surrogate" or task.domain == "math")
    track = dataclasses.replace(toy_track, tasks=tasks)
    monkeypatch.setattr(api, "load_track", lambda name, options=None: track)
    monkeypatch.setattr(demo, "METHODS", ("model_soup",))
    made = []
    close = Workbench.close
    monkeypatch.setattr(
        Workbench, "close", lambda self: (made.append("work_folder" in self.__dict__), close(self))
    )
    folder = api.run("model_soup", base=BASE).folder
    api.evaluate(folder / "weights", base=BASE)
    shutil.rmtree(own_home / "runs")
    api.reference(base=BASE)
    demo.run_demo_on(BASE, None, lambda line: None)
    assert made.count(True) >= 4
    assert list((own_home / "work").iterdir()) == []
