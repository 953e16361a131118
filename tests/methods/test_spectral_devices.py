"""Methods that decompose matrices do it on a GPU where there is one: the update is nearly the CPU's."""

from __future__ import annotations

import pytest
import torch
from mergebench_frontier.iso_c import IsoC
from mergebench_frontier.iso_cts import IsoCts
from mergebench_frontier.tsv_merge import TsvMerge
from mergebench_frontier.wudi import Wudi
from mergebench_frontier.wudi_closed_form import WudiClosedForm
from spectral_samples import random_vectors, relative_error, update

METHODS = {method.info.name: method for method in (IsoC(), IsoCts(), TsvMerge(), Wudi(), WudiClosedForm())}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", METHODS)
def test_gpu_and_cpu_agree(monkeypatch, name):
    method = METHODS[name]
    config = {key: parameter.default for key, parameter in method.parameters.items()}
    vectors = random_vectors(5, (64, 96))
    on_gpu = update(method, vectors, config)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert relative_error(on_gpu, update(method, vectors, config)) < (1e-3 if name == "wudi" else 1e-5)
