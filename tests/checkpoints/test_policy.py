"""What a merge touches, and which misfits are refused: only those where the policy merges."""

from __future__ import annotations

import pytest
import torch
from checkpoint_samples import EMBED, HEAD, MERGED, NORM, UP, random_tensors, write_checkpoint

from mergebench_core.checkpoints.policy import check_compatible, check_specialists, merge_plan
from mergebench_core.checkpoints.roles import layer_of, role_of
from mergebench_core.errors import CheckpointError
from mergebench_core.kernels.weights import is_finite

BASE_ROLES = frozenset({"embedding", "head"})


def check(tmp_path, change, roles=BASE_ROLES, change_base=lambda t: None) -> None:
    base, specialist = random_tensors(0), random_tensors(1)
    change_base(base)
    change(specialist)
    good = write_checkpoint(tmp_path / "good", base)
    check_specialists(
        write_checkpoint(tmp_path / "base", base),
        {"coding": good, "math": write_checkpoint(tmp_path / "math", specialist)},
        roles,
    )


def set_value(name: str, value: float):
    return lambda tensors: tensors[name].view(-1)[-1:].fill_(value)


MISFITS = {
    "missing": (lambda t: t.pop(NORM), f"tensor '{NORM}' is missing"),
    "extra": (lambda t: t.update({"model.extra.weight": t[NORM].clone()}), "has tensor 'model.extra.weight'"),
    "shape": (lambda t: t.update({UP: t[UP].view(4, 6).clone()}), r"has shape [4, 6], the base has [6, 4]"),
    "double": (lambda t: t.update({UP: t[UP].double()}), "is F64, the base is BF16"),
    "quantised": (lambda t: t.update({UP: t[UP].to(torch.int8)}), "is I8, the base is BF16; give the model in"),
    "nan": (set_value(UP, float("nan")), f"tensor '{UP}' holds NaN or infinity"),
    "inf": (set_value(NORM, float("-inf")), f"tensor '{NORM}' holds NaN or infinity"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_misfit_names_specialist_folder_and_tensor(tmp_path, case):
    change, message = MISFITS[case]
    with pytest.raises(CheckpointError) as error:
        check(tmp_path, change)
    assert str(error.value).startswith(f"specialist 'math' ({tmp_path / 'math'}): ")
    assert message in str(error.value)


OUTSIDE = {
    "larger vocabulary": lambda t: t.update({n: torch.cat([t[n], t[n][:2]]) for n in (EMBED, HEAD)}),
    "tied head": lambda t: t.pop(HEAD),
    "no embedding": lambda t: t.pop(EMBED),
    "other dtype": lambda t: t.update({EMBED: t[EMBED].double()}),
    "nan": set_value(HEAD, float("nan")),
    "same": lambda t: None,
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_anything_goes_where_the_base_stays(tmp_path, case):
    check(tmp_path, OUTSIDE[case])


BUFFERS = {
    "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2),
    "model.embeddings.position_ids": torch.arange(3),
    "transformer.h.0.attn.bias": torch.ones(1, 1, 4, 4),
    "transformer.h.0.attn.masked_bias": torch.tensor(-1e4),
    "model.num_steps": torch.tensor([3]),
}
FITS = {
    "fp32 specialist": lambda t: t.update({name: tensor.float() for name, tensor in t.items()}),
    "fp16 tensor": lambda t: t.update({UP: t[UP].half()}),
    "extra buffers": lambda t: t.update(BUFFERS),
}


@pytest.mark.parametrize("roles", [BASE_ROLES, frozenset()])
@pytest.mark.parametrize("case", FITS)
def test_other_precision_and_buffers_fit(tmp_path, case, roles):
    check(tmp_path, FITS[case], roles=roles)


def test_buffers_of_the_base_stay_and_may_be_missing(tmp_path):
    check(tmp_path, lambda t: None, roles=frozenset(), change_base=lambda t: t.update(BUFFERS))
    base = write_checkpoint(tmp_path / "other", {**random_tensors(0), **BUFFERS})
    assert {entry.name for entry in merge_plan(base, frozenset()).left_out} == set(BUFFERS)


def test_a_bias_that_the_base_lacks_is_no_buffer(tmp_path):
    with pytest.raises(CheckpointError, match="which the base does not have"):
        check(tmp_path, lambda t: t.update({"model.layers.0.self_attn.bias": torch.ones(4)}))


def test_a_missing_head_that_is_merged_names_the_remedy(tmp_path):
    with pytest.raises(CheckpointError, match=r"tied to the embeddings.*save it untied"):
        check(tmp_path, lambda t: t.pop(HEAD), roles=frozenset())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_one_bad_value_is_found_wherever_it_stands(dtype, bad):
    for numel in (1, 7, 8, 33, 1000):
        good = torch.randn(numel, generator=torch.Generator().manual_seed(numel)).to(dtype)
        assert is_finite(good)
        for place in {0, numel // 2, numel - 1}:
            values = good.clone()
            values[place] = bad
            assert not is_finite(values)
    assert is_finite(torch.empty(0, dtype=dtype))


@pytest.mark.parametrize("case", [case for case in OUTSIDE if case != "same"])
def test_nothing_goes_where_the_method_merges_all(tmp_path, case):
    with pytest.raises(CheckpointError, match="specialist 'math'"):
        check(tmp_path, OUTSIDE[case], roles=frozenset())


def test_untied_specialists_of_a_tied_base(tmp_path):
    check(tmp_path, lambda t: None, change_base=lambda t: t.pop(HEAD))
    with pytest.raises(CheckpointError, match=f"has tensor '{HEAD}', which the base does not have"):
        check(tmp_path, lambda t: None, roles=frozenset(), change_base=lambda t: t.pop(HEAD))


def test_plan_splits_by_role_and_keeps_file_order(tmp_path):
    tensors = {**random_tensors(0), "model.layers.0.counts": torch.arange(3), "model.f64": torch.zeros(2).double()}
    base = write_checkpoint(tmp_path, tensors)
    plan = merge_plan(base, BASE_ROLES)
    left_out = {EMBED, HEAD, "model.layers.0.counts", "model.f64"}
    assert {entry.name for entry in plan.left_out} == left_out
    assert [entry.name for entry in plan.merged] == [name for name in base.names if name in MERGED]
    assert {entry.name for entry in merge_plan(base, frozenset({"norm"})).left_out} == {
        NORM,
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.counts",
        "model.f64",
    }


def test_whole_models_must_match_everywhere(tmp_path):
    base = write_checkpoint(tmp_path / "base", random_tensors(0))
    check_compatible(base, base, "model")
    changes = [*(c for c, _ in MISFITS.values()), *list(OUTSIDE.values())[:-1], *FITS.values()]
    for number, change in enumerate(changes):
        tensors = random_tensors(1)
        change(tensors)
        with pytest.raises(CheckpointError, match=r"^model: "):
            check_compatible(base, write_checkpoint(tmp_path / str(number), tensors), "model")


@pytest.mark.parametrize(
    ("name", "shape", "role"),
    [
        ("model.layers.0.mlp.up_proj.weight", (6, 4), "linear"),
        ("model.layers.0.self_attn.q_proj.bias", (4,), "bias"),
        ("model.layers.0.self_attn.q_norm.weight", (4,), "norm"),
        ("model.layers.3.post_feedforward_layernorm.weight", (4,), "norm"),
        ("model.norm.weight", (4,), "norm"),
        ("transformer.ln_f.bias", (4,), "norm"),
        ("model.embed_tokens.weight", (9, 4), "embedding"),
        ("transformer.wte.weight", (9, 4), "embedding"),
        ("lm_head.weight", (9, 4), "head"),
        ("model.layers.0.mlp.experts.gate_up_proj", (2, 3, 4), "other"),
        ("model.rotary_emb.inv_freq", (4,), "other"),
        ("weight", (4, 4), "linear"),
    ],
)
def test_roles(name, shape, role):
    assert role_of(name, shape) == role


def test_layers():
    assert layer_of("model.layers.12.mlp.up_proj.weight") == 12
    assert layer_of("transformer.h.3.ln_1.weight") == 3
    assert layer_of("model.norm.weight") is None
