"""The contract of a method, search spaces, and what is refused before anything runs."""

from __future__ import annotations

import dataclasses
import math

import pytest

from mergebench_core import MergingMethod, MethodInfo, PerDomain, Stage, grid, stages
from mergebench_core.errors import PluginError
from mergebench_core.hyperparameters import SearchSpace
from mergebench_core.methods import check_method, overrides


def method(**attributes) -> MergingMethod:
    """Return a method that keeps the contract but for `attributes`; None takes an attribute away."""
    info = MethodInfo(name="sample", title="Sample", paper_url="", needs={"validation"})
    defaults = {
        "info": info,
        "search_space": grid(density=[0.2, 0.5], scale=[1, 2.0]),
        "linear_in": "scale",
        "prepare_uses": ("density",),
        "update": lambda self, tensor, config, prepared: tensor.base,
    }
    parts = {name: value for name, value in (defaults | attributes).items() if value is not None}
    return type("Sample", (MergingMethod,), parts)()


def info(**changes) -> MethodInfo:
    return MethodInfo(**{"name": "sample", "title": "Sample", "paper_url": ""} | changes)


def final(self, tensor, config, prepared):
    return tensor.base


def test_good_methods_pass():
    check_method(method())
    check_method(method(linear_in=None, prepare_uses=(), search_space=grid(), info=info()))
    check_method(method(update=None, merge_tensor=final, linear_in=None))
    check_method(
        method(
            update=None,
            merge=lambda self, c, d: iter(()),
            linear_in=None,
            info=info(depth="model", needs={"validation"}),
        )
    )


BAD = {
    "no info": ({"info": None}, "Sample has no `info = MethodInfo"),
    "info of another kind": ({"info": "sample"}, "Sample has no `info = MethodInfo"),
    "no update": ({"update": None}, "'sample' does not define `update`, which depth 'elementwise' needs"),
    "no merge": (
        {"info": info(depth="model", needs={"validation"}), "linear_in": None},
        "does not define `merge`",
    ),
    "undeclared validation": ({"info": info()}, 'add needs={"validation"} to its MethodInfo'),
    "space of another kind": ({"search_space": {"scale": [1]}}, "make it with grid"),
    "linear in nothing": ({"linear_in": "scal"}, "is linear_in 'scal', which is no hyper-parameter of it"),
    "linear and final": ({"merge_tensor": final}, "cannot be linear; remove linear_in"),
    "linear in text": ({"search_space": grid(density=[1], scale=[1, "2"])}, "whose value '2' is no number"),
    "linear in boolean": ({"search_space": grid(density=[1], scale=[True, 2])}, "whose value True is no number"),
    "prepare uses nothing": ({"prepare_uses": ("k",)}, r"has prepare_uses ['k'], which are no hyper-parameters"),
    "prepare uses linear": ({"prepare_uses": ("scale",)}, "both in linear_in and prepare_uses"),
}


@pytest.mark.parametrize("case", BAD)
def test_broken_contract_is_named(case):
    attributes, message = BAD[case]
    with pytest.raises(PluginError) as error:
        check_method(method(**attributes))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"memory_bytes_per_parameter": -1.0},
            "MethodInfo.memory_bytes_per_parameter is -1.0: allowed is 0 to 10000",
        ),
        ({"disk_bytes_per_parameter": float("nan")}, "MethodInfo.disk_bytes_per_parameter is nan"),
        ({"name": "Task Arithmetic"}, "MethodInfo.name is 'Task Arithmetic': use snake_case"),
        ({"name": "1st"}, "use snake_case"),
        ({"name": ""}, "use snake_case"),
        ({"name": "a" * 65}, "use snake_case"),
        ({"name": "a\n"}, "use snake_case"),
        ({"needs": {"data"}}, r"MethodInfo.needs has \['data'\]: allowed are validation, calibration"),
        ({"needs": "validation"}, "MethodInfo.needs has"),
        ({"depth": "deep"}, r"MethodInfo.depth has \['deep'\]"),
        ({"determinism": "bits"}, r"MethodInfo.determinism has \['bits'\]"),
        ({"base_roles": ["embed"]}, r"MethodInfo.base_roles has \['embed'\]"),
    ],
)
def test_bad_info(changes, message):
    with pytest.raises(PluginError, match=message):
        info(**changes)


def test_info_is_frozen_and_takes_any_collection():
    given = info(needs=["validation"], base_roles=())
    assert given.needs == {"validation"}
    assert given.base_roles == frozenset()
    with pytest.raises(dataclasses.FrozenInstanceError):
        given.name = "other"


def test_grid_varies_the_last_parameter_fastest():
    (stage,) = grid(a=[1, 2], b="xy", c=(True,)).stages
    assert [tuple(config.values()) for config in stage.configurations()] == [
        (1, "x", True),
        (1, "y", True),
        (2, "x", True),
        (2, "y", True),
    ]
    assert grid().stages[0].configurations() == [{}]


def test_tuned_means_something_to_choose():
    assert not grid().is_tuned
    assert not grid(a=[1], b=[2]).is_tuned
    assert grid(a=[1], b=[2, 3]).is_tuned
    assert stages(Stage(parameters={"a": (1,)}), Stage(parameters={"b": (1, 2)})).is_tuned
    assert not SearchSpace(stages=()).is_tuned


def test_cost_counts_domains_by_their_share():
    single = [Stage(parameters={f"mask_{d}": (1, 2, 3, 4, 5)}, domains=(d,)) for d in "abcde"]
    last = Stage(parameters={"scale": tuple(range(10))})
    assert stages(*single, last).cost(num_domains=5) == 15
    assert stages(*single, last).cost(num_domains=10) == 12.5
    assert grid().cost(5) == 0
    assert grid(a=[1]).cost(5) == 0
    assert grid(a=range(7), b=range(5)).cost(3) == 35


def test_cost_at_the_cap_is_exact():
    """Thirds and fifths that are added as fractions would end a hair above the cap."""
    for num_domains in (3, 5, 7, 10):
        steps = [Stage(parameters={f"p{i}": (1, 2)}, domains=("a",)) for i in range(num_domains * 10)]
        assert stages(*steps).cost(num_domains) == 20


def test_parameter_in_two_stages():
    with pytest.raises(PluginError, match="named in two stages"):
        stages(Stage(parameters={"a": (1,)}), Stage(parameters={"a": (2,)}))


@pytest.mark.parametrize("value", [None, math.nan, -math.inf, [1], 1j, object])
def test_value_that_no_record_can_hold(value):
    with pytest.raises(PluginError, match=r"a stage gives .* for scale; give numbers, strings or booleans"):
        grid(scale=[1.0, value])
    with pytest.raises(PluginError, match="for flag"):
        Stage(parameters={}, candidate={"flag": value})


def test_no_values():
    with pytest.raises(PluginError, match="gives no value for b, c"):
        grid(a=[1], b=[], c=())


def test_per_domain_is_paired_by_name_in_sorted_order():
    values = PerDomain({"math": 2, "coding": 1})
    assert values.domains == ("coding", "math")
    assert list(values) == [1, 2]
    assert list(values.items()) == [("coding", 1), ("math", 2)]
    assert (values["math"], len(values), sum(values)) == (2, 2, 3)
    with pytest.raises(KeyError):
        values["safety"]


def test_overrides_sees_inherited_definitions():
    child = type("Child", (type(method()),), {})()
    assert overrides(child, "update")
    assert not overrides(child, "merge")
