"""The comparison of weights loaded in place with weights loaded anew, on numbers written by hand."""

from __future__ import annotations

import math

import pytest

from mergebench_core.evaluation.engines.comparison import (
    PROMPTS,
    TOLERANCES,
    Fingerprint,
    differences,
    fingerprint,
)
from mergebench_core.evaluation.engines.engine import ENGINES

ONE = Fingerprint(texts=("a b", "c"), log_probabilities=(-10.0, -2.5))


def changed(**fields):
    return Fingerprint(**{"texts": ONE.texts, "log_probabilities": ONE.log_probabilities, **fields})


def test_the_same_is_no_difference():
    assert differences(ONE, changed(), 0.0) == []


def test_a_text_or_a_probability_that_differs_is_told_with_both():
    assert differences(ONE, changed(texts=("a b", "d")), 1.0) == [
        "prompt 2 is continued with 'c' in place and 'd' when loaded anew"
    ]
    assert differences(ONE, changed(log_probabilities=(-10.002, -2.5)), 1e-3) == [
        "prompt 1 has log-probability -10.0000 in place, -10.0020 when loaded anew"
    ]


@pytest.mark.parametrize(
    ("other", "num_found"), [(-10.0009, 0), (-9.9991, 0), (-10.0011, 1), (math.nan, 1), (-math.inf, 1)]
)
def test_the_tolerance_is_absolute_and_no_number_is_near_another(other, num_found):
    assert len(differences(ONE, changed(log_probabilities=(other, -2.5)), 1e-3)) == num_found
    assert len(differences(changed(log_probabilities=(other, -2.5)), ONE, 1e-3)) == num_found


def test_nan_in_both_is_a_difference():
    both = changed(log_probabilities=(math.nan, -2.5))
    assert len(differences(both, both, 1.0)) == 1


def test_every_engine_has_its_tolerance():
    assert set(TOLERANCES) == set(ENGINES)


def test_requests_go_one_at_a_time_through_the_calls_of_scoring():
    """Alone in its batch, a request does not depend on its company."""
    asked = []

    class LanguageModel:
        def generate_until(self, requests, disable_tqdm=False):
            asked.append([request.args for request in requests])
            requests[0].args[1]["until"].append("</s>")  # as lm-eval's wrappers do
            return ["text"]

        def loglikelihood(self, requests, disable_tqdm=False):
            asked.append([request.args for request in requests])
            return [(-1.5, False)]

    found = fingerprint(LanguageModel())
    assert found == Fingerprint(texts=("text",) * len(PROMPTS), log_probabilities=(-1.5,) * len(PROMPTS))
    assert [len(requests) for requests in asked] == [1] * (2 * len(PROMPTS))
    assert asked[0][0][0] == PROMPTS[0].text
    assert asked[-1][0] == (PROMPTS[-1].text, PROMPTS[-1].continuation)
