"""What a run would cost, against numbers worked out by hand."""

from __future__ import annotations

import dataclasses
import io

import pytest
from record_samples import sample_record

from mergebench_core.cli.planning import ask
from mergebench_core.errors import InputError
from mergebench_core.planning import (
    estimate_s,
    measured_times,
    model_bytes,
    plan_jobs,
    run_records,
    total,
)
from mergebench_core.tracks.mergebench_v1 import costs
from mergebench_core.tracks.registry import load_track
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


def test_references_come_first_and_are_counted_once(catalog):
    methods = [find_method(catalog, name) for name in ("task_arithmetic", "ties", "model_soup")]
    jobs = plan_jobs(TRACK, [BASE], methods, [])
    assert [(job.kind, job.method) for job in jobs] == [
        ("references", None), ("merge", "task_arithmetic"), ("merge", "ties"), ("merge", "model_soup"),
    ]  # fmt: skip
    assert [job.num_evaluations for job in jobs] == [6, 1, 1, 1]
    assert [job.num_validations for job in jobs] == [0, 10, 30, 0]
    evaluation_s = estimate_s(TRACK, TRACK.base(BASE), TRACK.tasks_for("test", "generalization")) + 10
    assert jobs[0].hours == pytest.approx(6 * evaluation_s / 3600)
    validation_s = estimate_s(TRACK, TRACK.base(BASE), TRACK.tasks_for("surrogate"))
    assert jobs[1].hours == pytest.approx((10 * validation_s + evaluation_s) / 3600)
    assert model_bytes(TRACK.base(BASE)) == 2 * 3_212_749_824
    assert jobs[0].download_bytes == 6 * 2 * 3_212_749_824 + costs.JUDGE_BYTES
    assert total(jobs)["num_validations"] == 40
    assert not any(job.is_measured or job.is_done for job in jobs)


def test_own_runs_replace_the_table(catalog):
    """A record of this home counts if it is of the same track, suite, engine and base."""
    mini, record = load_track("mini-v1"), sample_record()
    found = measured_times([record], mini, "mini-llama")
    assert (found.evaluation_s, found.validation_s) == (4.0, 1.5)
    assert measured_times([record], mini, "mini-gemma").evaluation_s is None
    assert measured_times([record], dataclasses.replace(mini, suite="lite"), "mini-llama").evaluation_s is None
    jobs = plan_jobs(mini, ["mini-llama"], [find_method(catalog, "model_soup")], [record])
    assert [job.hours for job in jobs] == [pytest.approx(7 * 4.0 / 3600), pytest.approx(4.0 / 3600)]
    assert all(job.is_measured for job in jobs)
    tuned = plan_jobs(mini, ["mini-llama"], [find_method(catalog, "dare")], [record])[1]
    assert tuned.hours == pytest.approx((30 * 1.5 + 4.0) / 3600)


def test_what_is_done_costs_nothing(catalog):
    mini, method = load_track("mini-v1"), find_method(catalog, "model_soup")
    record = sample_record()
    own = record.method.model_copy(update={"name": "model_soup", "source_sha256": method.source_sha256})
    done = plan_jobs(mini, ["mini-llama"], [method], [record.model_copy(update={"method": own})])[1]
    assert (done.hours, done.num_evaluations, done.disk_bytes, done.is_done) == (0, 0, 0, True)
    failed = record.model_copy(update={"method": own, "status": "failed"})
    assert not plan_jobs(mini, ["mini-llama"], [method], [failed])[1].is_done


def test_damaged_records_are_left_out(tmp_path):
    record = sample_record()
    for name, text in ((record.job_id, record.to_json()), ("0" * 16, "{")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "record.json").write_text(text)
    assert run_records(tmp_path) == [record]


def test_long_runs_are_asked_for(monkeypatch):
    jobs = plan_jobs(TRACK, [BASE], [], [])
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # nobody is there
    with pytest.raises(InputError, match=r"about 8\.\d GPU hours.*give --yes"):
        ask(jobs, is_sure=False)
    ask(jobs, is_sure=True)
    ask([dataclasses.replace(jobs[0], hours=1.0)], is_sure=False)
