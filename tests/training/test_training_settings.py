"""The paper's recipes, the arithmetic of batches, and what is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergebench_core.errors import InputError
from mergebench_core.training.answers import answer_checker, answer_reward, last_boxed
from mergebench_core.training.bases import StartingModel, find_start
from mergebench_core.training.devices import Devices, find_devices
from mergebench_core.training.plan import TrainingRequest
from mergebench_core.training.runs import trainer_settings
from mergebench_core.training.settings import accumulation_steps, sft_recipe

BASE = StartingModel(given="llama-3.2-3b", repo="meta-llama/Llama-3.2-3B", size_b=3.2)
LARGE_BASE = StartingModel(given="llama-3.1-8b", repo="meta-llama/Llama-3.1-8B", size_b=8.0)


@pytest.mark.parametrize(
    ("size_b", "length", "rate"), [(2.6, 4096, 1e-5), (3.2, 4096, 1e-5), (8.0, 3072, 5e-5), (9.2, 3072, 5e-5)]
)
def test_recipe_of_each_size(size_b, length, rate):
    recipe = sft_recipe(size_b)
    assert (recipe.max_length, recipe.learning_rate) == (length, rate)
    assert (recipe.num_epochs, recipe.global_batch_size) == (2.0, 128)


@pytest.mark.parametrize(
    ("per_device", "processes", "steps"), [(1, 1, 128), (1, 8, 16), (4, 8, 4), (16, 8, 1), (2, 1, 64)]
)
def test_accumulation(per_device, processes, steps):
    assert accumulation_steps(128, per_device, processes) == steps


@pytest.mark.parametrize(("per_device", "processes"), [(3, 1), (1, 6), (32, 8)])
def test_batches_that_do_not_divide_are_refused(per_device, processes):
    wanted = f"128 is no multiple of {per_device} per device x {processes} processes"
    with pytest.raises(InputError, match=wanted):
        accumulation_steps(128, per_device, processes)


@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 64))
def test_global_batch_is_kept_or_refused(size, per_device, processes):
    try:
        assert accumulation_steps(size, per_device, processes) * per_device * processes == size
    except InputError:
        assert size % (per_device * processes)


def test_settings_on_a_node_of_gpus():
    request = TrainingRequest(base=LARGE_BASE, domain="coding", out=Path("x"), per_device_batch_size=2, seed=5)
    devices = Devices(num_processes=8, is_cpu=False, has_bf16=True, is_fsdp=True)
    settings = trainer_settings(request, request.recipe(8.0), devices)
    assert settings.num_accumulation_steps == 8
    assert (settings.schedule, settings.learning_rate, settings.seed) == ("cosine", 5e-5, 5)
    assert (settings.is_bf16, settings.is_on_cpu, settings.has_activation_checkpointing) == (True, False, False)


@pytest.mark.parametrize(
    ("base", "domain", "message"),
    [
        (LARGE_BASE, "coding", "for math only, not for 'coding'"),
        (LARGE_BASE, "all", "for math only, not for 'all'"),
        (BASE, "math", "on the 8B and 9B models only, not at 3.2B"),
        (LARGE_BASE, "math", "goes on from the SFT specialist; give its folder with --sft"),
    ],
)
def test_grpo_is_refused_where_the_paper_has_none(base, domain, message):
    with pytest.raises(InputError, match=message):
        TrainingRequest(base=base, domain=domain, method="grpo", out=Path("x"))


def test_grpo_wants_a_finished_training(tmp_path):
    with pytest.raises(InputError, match="no finished training there"):
        TrainingRequest(base=LARGE_BASE, domain="math", method="grpo", out=Path("x"), sft=tmp_path)
    (tmp_path / "training.json").write_text('{"method": "sft", "domain": "coding"}')
    with pytest.raises(InputError, match="domain is 'coding', not 'math'"):
        TrainingRequest(base=LARGE_BASE, domain="math", method="grpo", out=Path("x"), sft=tmp_path)


def test_wrong_words_are_one_line(tmp_path):
    with pytest.raises(InputError, match="unknown domain 'maths': did you mean 'math'"):
        TrainingRequest(base=BASE, domain="maths", out=tmp_path)
    with pytest.raises(InputError, match="unknown method of training 'dpo': did you mean 'grpo'"):
        TrainingRequest(base=BASE, domain="math", method="dpo", out=tmp_path)
    with pytest.raises(InputError, match="--save-steps 0: must be at least 1"):
        TrainingRequest(base=BASE, domain="math", out=tmp_path, num_steps_between_saves=0)
    with pytest.raises(InputError, match="goes with --method grpo only"):
        TrainingRequest(base=BASE, domain="math", out=tmp_path, sft=tmp_path)


def test_start_is_a_folder_a_repository_or_a_base():
    assert find_start("a/b@c", lambda _: BASE) == StartingModel(given="a/b@c", repo="a/b", revision="c")
    assert find_start("llama-3.2-3b", lambda _: BASE) is BASE


def test_processes_are_those_of_the_launcher(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    found = find_devices()
    assert (found.num_processes, found.is_main, found.is_fsdp) == (4, False, True)


def test_one_process_with_several_gpus_is_refused(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(InputError, match="4 GPUs and one process: start with `accelerate launch"):
        find_devices()


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"thus \boxed{3} or rather \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{4} and then \boxed{5", "4"),
        (r"\boxed{ }", None),
        ("the answer is 3", None),
        ("", None),
    ],
)
def test_last_boxed_answer(text, answer):
    assert last_boxed(text) == answer


@given(st.text(), st.text(alphabet="ab12{}+ "))
def test_boxed_answers_are_found_again(before, inside):
    if inside.strip() and inside.count("{") == inside.count("}") and "}" not in inside.split("{")[0]:
        found = last_boxed(before.replace("\\", "") + r"\boxed{" + inside + "}")
        assert found is None or inside.strip().startswith(found)


def test_reward_is_the_right_final_answer():
    reward = answer_reward(lambda gold, answer: gold == answer)
    completions = [r"\boxed{3}, no, \boxed{4}", r"\boxed{4}, no, \boxed{3}", "4", r"\boxed{4}"]
    solutions = [r"so \boxed{4}", r"so \boxed{4}", r"so \boxed{4}", "a proof"]
    assert reward(completions, solution=solutions, prompt=["?"] * 4) == [1.0, 0.0, 0.0, None]


def test_answers_are_compared_as_mathematics():
    pytest.importorskip("math_verify")
    is_same = answer_checker()
    assert is_same(r"\frac{1}{2}", "0.5")
    assert is_same(r"\{1,2\}", r"\{2, 1\}")
    assert is_same("1{,}000", "1000")
    assert not is_same("2", "3")
    assert not is_same("}", "2")


def test_without_math_verify_it_is_one_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(InputError, match=r"needs math-verify; install it with pip install 'mergebench\[train\]'"):
        answer_checker()
