"""Fisher merging: weighted means by hand, the information against single gradients, in fp64."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from checkpoint_samples import DOMAINS, SampleModels
from local_session import LocalSession, task_vector
from mergebench_methods.calibration_batches import Sample
from mergebench_methods.fisher import Fisher
from mergebench_methods.fisher_information import diagonal_fisher, floor_of, mean_value
from tiny_llama import tiny_llama, tiny_llama_models

from mergebench_core.methods import PerDomain

SAMPLES = [
    Sample(tokens=(3, 1, 4, 1, 5), num_prompt_tokens=2),
    Sample(tokens=(2, 0, 5), num_prompt_tokens=1),
    Sample(tokens=(4, 4, 3, 2), num_prompt_tokens=4),
]
ROWS = {domain: [{"prompt": f"{domain} {n}", "completion": f" is {n}"} for n in range(3)] for domain in DOMAINS}


def update(vectors, fishers, floor):
    tensors = PerDomain({f"d{n}": torch.tensor(vector) for n, vector in enumerate(vectors)})
    found = {f"fisher.d{n}": torch.tensor(fisher) for n, fisher in enumerate(fishers)}
    prepared = SimpleNamespace(data={"floor": floor}, tensor=found.__getitem__)
    return Fisher().update(SimpleNamespace(task_vectors=tensors), {}, prepared).tolist()


@pytest.mark.parametrize(
    ("vectors", "fishers", "floor", "expected"),
    [
        ([[1.0], [3.0]], [[3.0], [1.0]], 0.0, [1.5]),
        ([[1.0, 1.0], [3.0, 3.0]], [[1.0, 0.0], [1.0, 4.0]], 0.0, [2.0, 3.0]),
        ([[1.0], [3.0]], [[0.0], [0.0]], 1.0, [2.0]),
        ([[1.0], [3.0]], [[2.0], [0.0]], 1.0, [1.5]),
        ([[0.1]], [[0.7]], 1e-3, [pytest.approx(0.1)]),
        ([[0.0], [0.0]], [[0.7], [0.2]], 1e-3, [0.0]),
    ],
)
def test_weighted_mean_by_hand(vectors, fishers, floor, expected):
    assert update(vectors, fishers, floor) == expected


def log_probabilities(model, sample):
    """Return fp64 log-probabilities [completion tokens, vocabulary]."""
    logits = model(input_ids=torch.tensor([sample.tokens])).logits[0]
    return logits[sample.num_prompt_tokens - 1 : -1].log_softmax(-1)


def gradients(model, value):
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    return {
        n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(parameters.items(), found, strict=True)
    }


def test_given_labels_equal_a_loop_of_single_gradients():
    model = tiny_llama(1, vocab_size=6)
    names = [name for name, _ in model.named_parameters()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = diagonal_fisher(model, SAMPLES, names, None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    slow = model.double()
    expected = {name: torch.zeros_like(value) for name, value in slow.named_parameters()}
    for sample in SAMPLES[:2]:  # the third has no completion
        targets = torch.tensor(sample.tokens[sample.num_prompt_tokens :])
        chosen = log_probabilities(slow, sample).gather(1, targets[:, None]).sum()
        for name, gradient in gradients(slow, chosen).items():
            expected[name] += gradient**2 / len(SAMPLES)
    for name in names:
        torch.testing.assert_close(found[name].double(), expected[name], rtol=1e-4, atol=1e-9)
    assert float(expected["model.layers.0.mlp.up_proj.weight"].sum()) > 1e-3


def test_drawn_labels_have_the_fisher_information_as_their_mean(monkeypatch):
    """Exactly: all sequences of two tokens, weighted by their chance, give the sum over positions and tokens y of
    p(y) * (gradient of log p(y))^2."""
    model = tiny_llama(1, vocab_size=4)
    sample, name = Sample(tokens=(1, 2, 3, 0), num_prompt_tokens=2), "model.layers.1.mlp.down_proj.weight"
    mean, drawn = 0.0, []
    for labels in itertools.product(range(4), repeat=2):
        tokens = torch.tensor(labels)[:, None]
        monkeypatch.setattr(torch, "multinomial", lambda p, n, generator, t=tokens: drawn.append(p) or t)
        found = diagonal_fisher(model, [sample], {name}, torch.Generator())[name].double()
        mean = mean + found * drawn[-1].double().gather(1, tokens).prod()
    slow = model.double().requires_grad_(True)
    exact = torch.zeros_like(mean)
    for position, token in itertools.product(range(2), range(4)):
        chance = log_probabilities(slow, sample)[position, token]
        exact += chance.exp().item() * gradients(slow, chance)[name] ** 2
    torch.testing.assert_close(mean, exact, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(drawn[-1].sum(-1), torch.ones(2))


def test_draws_follow_the_generator():
    model, name = tiny_llama(1, vocab_size=6), "model.norm.weight"
    found = [
        diagonal_fisher(model, SAMPLES * 4, {name}, torch.Generator().manual_seed(seed))[name]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tiny_llama_models(tmp_path_factory.mktemp("models"))


def test_merge_reads_each_domain_with_its_own_specialist(models, tmp_path):
    found = LocalSession(Fisher(), models, tmp_path, ROWS).updates(labels="given")
    name = "model.layers.0.self_attn.v_proj.weight"
    alone = {}
    for domain in DOMAINS:
        one = SampleModels(base=models.base, specialists={domain: models.specialists[domain]})
        session = LocalSession(Fisher(), one, tmp_path / domain, ROWS)
        prepared = session._session._method.prepare(session.context, session.config(labels="given"))
        alone[domain] = prepared.tensors[f"fisher.{domain}"][name].clone()
    weighted = sum(alone[domain] * task_vector(models, domain, name) for domain in DOMAINS)
    torch.testing.assert_close(found[name], weighted / sum(alone.values()), rtol=1e-3, atol=1e-6)
    assert not torch.allclose(found[name], sum(task_vector(models, d, name) for d in DOMAINS) / 3, rtol=0.1)


def test_one_specialist_merges_to_itself(models, tmp_path):
    one = SampleModels(base=models.base, specialists={"math": models.specialists["math"]})
    for name, value in LocalSession(Fisher(), one, tmp_path, ROWS).updates().items():
        assert torch.equal(value, task_vector(models, "math", name))


def test_floor_is_relative_and_never_zero():
    means = [
        mean_value({"a": torch.tensor([2.0, 0.0])}),
        mean_value({"a": torch.tensor([2.0]), "b": torch.tensor([4.0])}),
    ]
    assert means == [1.0, 3.0]
    assert floor_of(means) == pytest.approx(2e-6)
    assert floor_of([mean_value({"a": torch.zeros(2)})]) == 1.0
