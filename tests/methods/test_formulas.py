"""Each method's formula on numbers worked by hand: base 1, specialists 2 and 4."""

from __future__ import annotations

import pytest
import torch
from checkpoint_samples import EMBED, write_models

from mergebench_core.checkpoints.checkpoint import Checkpoint

WEIGHT = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def merged(bench, tmp_path):
    """Merge one-row weights and return the merged row."""

    def merge(method: str, config, base, *specialists, dtype=torch.float32) -> list[float]:
        def tensors(values):
            return {WEIGHT: torch.tensor([values], dtype=dtype), EMBED: torch.tensor([values], dtype=dtype)}

        named = {f"domain{number}": tensors(values) for number, values in enumerate(specialists)}
        models = write_models(tmp_path, tensors(base), named)
        bench.merge(models, method, config, tmp_path / "out")
        checkpoint = Checkpoint(tmp_path / "out")
        assert torch.equal(checkpoint.tensor(EMBED), models.base.tensor(EMBED))
        return checkpoint.tensor(WEIGHT).flatten().tolist()

    return merge


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_model_soup_is_the_mean(merged, dtype):
    assert merged("model_soup", {}, [1.0, -1.0], [2.0, -2.0], [4.0, 6.0], dtype=dtype) == [3.0, 2.0]


@pytest.mark.parametrize(
    ("coefficient", "expected"), [(0.5, [3.0, 1.5]), (1.0, [5.0, 4.0]), (0.0, [1.0, -1.0]), (-0.25, [0.0, -2.25])]
)
def test_task_arithmetic_scales_the_sum(merged, coefficient, expected):
    config = {"scaling_coefficient": coefficient}
    assert merged("task_arithmetic", config, [1.0, -1.0], [2.0, -2.0], [4.0, 5.0]) == expected


TIES = {
    "agreeing signs are averaged": ([1.0], [[2.0], [4.0]], 1.0, 1.0, [3.0]),
    "coefficient scales the mean": ([1.0], [[2.0], [4.0]], 1.0, 0.5, [2.0]),
    "the larger side wins": ([1.0], [[2.0], [-3.0]], 1.0, 1.0, [-3.0]),
    "only the winning side counts in the mean": ([0.0], [[2.0], [4.0], [-5.0]], 1.0, 1.0, [3.0]),
    "two small beat one large": ([0.0], [[3.0], [3.0], [-5.0]], 1.0, 1.0, [3.0]),
    "exact zero sum leaves the base": ([1.0], [[3.0], [-1.0]], 1.0, 1.0, [1.0]),
    "zeros do not count in the mean": ([1.0, 1.0], [[1.0, 2.0], [4.0, 2.0]], 1.0, 1.0, [4.0, 2.0]),
    "half is trimmed": ([0.0] * 4, [[4.0, 1.0, 0.0, -3.0], [1.0, 2.0, 4.0, 0.0]], 0.5, 1.0, [4.0, 2.0, 4.0, -3.0]),
    "ties at the threshold are kept": ([0.0] * 4, [[2.0, 2.0, -2.0, 1.0]], 0.25, 1.0, [2.0, 2.0, -2.0, 0.0]),
    "at least one is kept": ([0.0] * 4, [[1.0, 2.0, 5.0, 3.0]], 0.01, 1.0, [0.0, 0.0, 5.0, 0.0]),
    "a specialist that is the base": ([1.0, 1.0], [[1.0, 1.0], [3.0, 2.0]], 0.5, 1.0, [3.0, 1.0]),
}


@pytest.mark.parametrize("case", TIES)
def test_ties_by_hand(merged, case):
    base, specialists, density, coefficient, expected = TIES[case]
    config = {"density": density, "scaling_coefficient": coefficient}
    assert merged("ties", config, base, *specialists) == expected
