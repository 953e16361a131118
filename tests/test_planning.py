"""What a run would cost, against numbers worked out by hand."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from record_samples import sample_record

from mergebench_core.cli.planning import ask
from mergebench_core.errors import InputError
from mergebench_core.planning.estimates import disk_bytes, estimate_s, gpu_bytes, memory_bytes, model_bytes
from mergebench_core.planning.jobs import Planner, total
from mergebench_core.planning.measured import measured, run_records
from mergebench_core.tracks.mergebench_v1 import costs
from mergebench_core.tracks.mergebench_v1.lock import Lock, LockedFile, LockedRepo
from mergebench_core.tracks.registry import load_track
from mergebench_core.tracks.world import WorldOptions
from mergebench_core.worker.catalog import find_method

TRACK = load_track("mergebench-v1")
BASE = "llama-3.2-3b"


@pytest.fixture(autouse=True)
def nothing_cached(monkeypatch):
    from mergebench_core import hub

    monkeypatch.setattr(hub, "cached", lambda repo, revision: None)


def test_time_is_tokens_by_speed():
    task = next(task for task in TRACK.tasks if task.name == "ifeval")
    speed = costs.SPEEDS["hf"]["3B"]
    expected = 541 * (60 / speed.prompt_tokens_per_s + 600 / speed.answer_tokens_per_s)
    assert estimate_s(TRACK, TRACK.base(BASE), [task]) == pytest.approx(expected)


def planner(track=TRACK, records=(), home=Path("/nowhere"), lock=None, **others) -> Planner:
    return Planner(track=track, records=list(records), home=home, lock=lock or Lock(), **others)


def world(**options):
    return load_track("mergebench-v1", WorldOptions(**options))


def of_hub(record, **changes):
    """Return a record as a run on the Hub's track leaves it."""
    track = {"name": TRACK.name, "judge": "wildguard@" + "1" * 40} | changes.pop("track", {})
    return record.model_copy(update={"track": record.track.model_copy(update=track), "base_model": BASE} | changes)


def test_every_task_has_its_tokens():
    for protocol in ("standard", "paper"):
        assert {task.name for task in world(protocol=protocol).tasks} <= set(costs.TOKENS)


def test_references_come_first_and_are_counted_once(catalog):
    methods = [find_method(catalog, name) for name in ("task_arithmetic", "ties", "model_soup")]
    jobs = planner().jobs([BASE], methods)
    assert [(job.kind, job.method) for job in jobs] == [
        ("references", None), ("merge", "task_arithmetic"), ("merge", "ties"), ("merge", "model_soup"),
    ]  # fmt: skip
    assert [job.num_evaluations for job in jobs] == [6, 1, 1, 1]
    assert [job.num_validations for job in jobs] == [0, 10, 30, 0]
    evaluation_s = estimate_s(TRACK, TRACK.base(BASE), TRACK.tasks_for("test", "generalization")) + 10
    assert jobs[0].hours == pytest.approx(6 * evaluation_s / 3600)
    validation_s = estimate_s(TRACK, TRACK.base(BASE), TRACK.tasks_for("surrogate"))
    assert jobs[1].hours == pytest.approx((10 * validation_s + evaluation_s) / 3600)
    assert total(jobs)["num_validations"] == 40
    assert not any(job.is_measured or job.is_done for job in jobs)


def test_models_of_each_base_data_and_judge_once():
    """Of Gemma-2-2b, published in float32, the base takes twice what a specialist takes."""
    llama, gemma = 6 * 2 * 3_212_749_824, (4 + 5 * 2) * 2_614_341_888
    shared = costs.DATA_BYTES + costs.JUDGE_BYTES
    jobs = planner().jobs([BASE, "gemma-2-2b"], [])
    assert [job.download_bytes for job in jobs] == [llama + shared, gemma]
    assert model_bytes(TRACK.base("gemma-2-2b")) == 4 * 2_614_341_888
    jobs = planner(world(judge="refusal_phrases")).jobs([BASE], [])
    assert jobs[0].download_bytes == llama + costs.DATA_BYTES


def test_prepared_data_are_not_fetched_again(tmp_path):
    (tmp_path / "tracks" / "mergebench-v1" / "0123" / "calibration").mkdir(parents=True)
    jobs = planner(world(judge="refusal_phrases"), home=tmp_path).jobs([BASE], [])
    assert (jobs[0].download_bytes, jobs[0].disk_bytes) == (6 * 2 * 3_212_749_824, 0)


def test_a_lock_says_sizes_to_the_byte():
    file = LockedFile(num_bytes=1000, sha256=None)
    repo = LockedRepo(kind="model", revision="0" * 40, files={"model.safetensors": file, "original/x.pth": file})
    lock = Lock(repos={"meta-llama/Llama-3.2-3B": repo})
    jobs = planner(world(judge="refusal_phrases"), lock=lock).jobs([BASE], [])
    assert jobs[0].download_bytes == 1000 + 5 * 2 * 3_212_749_824 + costs.DATA_BYTES


def test_gpu_memory_is_weights_cache_and_judge():
    """64 answers of 1,280 tokens to prompts of 60; 28 layers of 8 heads of 128, keys and values in two bytes."""
    cache = 28 * 8 * 128 * 2 * 2 * 64 * (60 + 1280)
    base = TRACK.base(BASE)
    assert gpu_bytes(world(judge="refusal_phrases"), base) == 2 * 3_212_749_824 + cache + 4 * 2**30
    assert gpu_bytes(TRACK, base) - gpu_bytes(world(judge="refusal_phrases"), base) == costs.JUDGE_BYTES
    assert gpu_bytes(world(judge="refusal_phrases", engine="vllm"), base) == 2 * 3_212_749_824 + 4 * 2**30


def test_memory_and_disk_are_the_methods(catalog):
    base, num = TRACK.base(BASE), 3_212_749_824
    stream = 2 * num + 2 * 2**30
    described = {name: find_method(catalog, name).description for name in ("ties", "fisher", "mergekit_ties")}
    assert memory_bytes(base, described["ties"]) == memory_bytes(base, None) == stream
    assert memory_bytes(base, described["fisher"]) == stream + int(12.1 * num)
    assert memory_bytes(base, described["mergekit_ties"]) is None  # sees the whole model, and does not say
    assert disk_bytes(TRACK, base, described["ties"]) == 2 * num
    assert disk_bytes(TRACK, base, described["fisher"]) == 2 * num + 20 * num
    assert disk_bytes(world(engine="vllm"), base, described["ties"]) == 3 * 2 * num


def test_an_embedded_base_has_no_hours_before_it_ran(catalog):
    jobs = planner(load_track("mini-v1")).jobs(["mini-llama"], [find_method(catalog, "model_soup")])
    assert [job.hours for job in jobs] == [None, None]
    assert total(jobs)["hours"] == 0


def test_own_runs_replace_the_table(catalog):
    """A record of this home counts if it is of the same track, suite, engine, judge and base."""
    mini, record = load_track("mini-v1"), sample_record()
    found = measured([record], mini, "mini-llama")
    assert (found.evaluation_s, found.validation_s) == (4.0, 1.5)
    assert measured([record], mini, "mini-gemma").evaluation_s is None
    for other in ({"suite": "lite"}, {"protocol": "paper"}, {"engine": "vllm"}, {"judge": "refusal_phrases"}):
        assert measured([record], dataclasses.replace(mini, **other), "mini-llama").evaluation_s is None
    jobs = planner(mini, [record]).jobs(["mini-llama"], [find_method(catalog, "model_soup")])
    assert [job.hours for job in jobs] == [pytest.approx(7 * 4.0 / 3600), pytest.approx(4.0 / 3600)]
    assert all(job.is_measured for job in jobs)
    tuned = planner(mini, [record]).jobs(["mini-llama"], [find_method(catalog, "dare")])[1]
    assert tuned.hours == pytest.approx((30 * 1.5 + 4.0) / 3600)


def test_a_methods_own_runs_say_most(catalog):
    """Its validations, its algorithm's time and its memory, whatever other methods took."""
    mini, other = load_track("mini-v1"), sample_record()
    slow = [part.model_copy(update={"runtime_s": 10.0}) for part in other.configurations]
    own = other.method.model_copy(update={"name": "dare"})
    record = other.model_copy(update={"method": own, "configurations": tuple(slow)})
    job = planner(mini, [other, record]).jobs(["mini-llama"], [find_method(catalog, "dare")])[1]
    assert job.hours == pytest.approx((30 * 10.0 + 4.0 + 1.0) / 3600)
    assert job.peak_memory_bytes == 300 * 2**20


def test_a_strange_run_spoils_no_estimate():
    """The median of runs on the hardware of the latest."""

    def run(seconds, when, hardware="GPU"):
        record = sample_record(created_at=when)
        runtime = record.runtime.model_copy(update={"evaluation_runtime_s": seconds})
        place = record.environment.model_copy(update={"hardware_class": hardware})
        return record.model_copy(update={"runtime": runtime, "environment": place})

    mini = load_track("mini-v1")
    runs = [run(5.0, "2026-01-03"), run(6.0, "2026-01-04"), run(900.0, "2026-01-05")]
    assert measured(runs, mini, "mini-llama").evaluation_s == 6.0
    elsewhere = run(10_000.0, "2026-01-02", "CPU")
    assert measured([*runs, elsewhere], mini, "mini-llama").evaluation_s == 6.0


def test_what_is_done_costs_nothing(catalog):
    mini, method = load_track("mini-v1"), find_method(catalog, "model_soup")
    record = sample_record(track={"name": "mini-v1", "digest": mini.digest})
    own = record.method.model_copy(update={"name": "model_soup", "source_sha256": method.source_sha256})
    record = record.model_copy(update={"method": own})

    def merge(records, **others):
        return planner(mini, records, **others).jobs(["mini-llama"], [method])[1]

    done = merge([record])
    assert (done.hours, done.num_evaluations, done.disk_bytes, done.is_done) == (0, 0, 0, True)
    assert not merge([record.model_copy(update={"status": "failed"})]).is_done
    assert not merge([record], seed=1).is_done
    older = record.track.model_copy(update={"digest": "b" * 64})
    assert not merge([record.model_copy(update={"track": older})]).is_done


def test_another_judge_is_another_job(catalog):
    """On the Hub's track names decide, as the data may not be here; of several worlds the fullest counts."""
    method = find_method(catalog, "model_soup")
    record = sample_record()
    own = record.method.model_copy(update={"name": "model_soup", "source_sha256": method.source_sha256})
    merge = of_hub(record.model_copy(update={"method": own}))
    scored = [
        of_hub(sample_record(model=name), kind="reference", track={"digest": digest})
        for digest, names in (("a" * 64, ("base", "specialist:math")), ("b" * 64, ("base", "specialist:coding")))
        for name in names
    ]
    jobs = planner(records=[merge, *scored]).jobs([BASE], [method])
    assert (jobs[0].num_evaluations, jobs[1].is_done) == (4, True)
    moved = [of_hub(record, track={"digest": "a" * 64, "models_sha256": "c" * 64}) for record in scored[2:]]
    assert planner(records=[*scored[:2], *moved]).jobs([BASE], [])[0].num_evaluations == 4
    jobs = planner(world(judge="refusal_phrases"), [merge, *scored]).jobs([BASE], [method])
    assert (jobs[0].num_evaluations, jobs[1].is_done) == (6, False)


def test_a_checkpoint_is_scored_once():
    job = planner().evaluation(BASE)
    assert (job.kind, job.num_evaluations, job.num_validations) == ("evaluation", 1, 0)
    assert job.hours == pytest.approx(planner().jobs([BASE], [])[0].hours / 6)


def test_damaged_records_are_left_out(tmp_path):
    record = sample_record()
    for name, text in ((record.job_id, record.to_json()), ("0" * 16, "{")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "record.json").write_text(text)
    assert run_records(tmp_path) == [record]


def test_long_runs_and_large_downloads_are_asked_for(monkeypatch):
    jobs = planner().jobs([BASE], [])
    small = dataclasses.replace(jobs[0], hours=1.0, download_bytes=20 * 2**30)
    for stdin in (io.StringIO("y\n"), None):  # nobody is there
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(InputError, match=r"53 GiB to fetch.*about 8\.\d GPU hours.*give --yes"):
            ask(jobs, is_sure=False)
        with pytest.raises(InputError, match="give --yes"):
            ask([dataclasses.replace(small, hours=1.1)], is_sure=False)
        with pytest.raises(InputError, match="give --yes"):
            ask([dataclasses.replace(small, download_bytes=21 * 2**30)], is_sure=False)
        ask([small], is_sure=False)
        ask(jobs, is_sure=True)
