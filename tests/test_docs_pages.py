"""The generated page of methods: nothing left out, nothing that only holds on one machine."""

from __future__ import annotations

import re

import pages
import pytest
from test_architecture import ROOT

LINK = re.compile(r"\(#(\w+)\)")


@pytest.fixture
def page(catalog, monkeypatch) -> str:
    monkeypatch.setattr("mergebench_core.worker.catalog.load_catalog", lambda: catalog)
    return pages.methods()


def test_every_bundled_method_is_there_once(catalog, page):
    bundled = [name for name, entry in catalog.items() if entry.description.plugin.startswith("mergebench ")]
    sections = re.findall(r"^### (\w+)$", page, re.MULTILINE)
    rows = re.findall(r"^\| \[(\w+)\]", page, re.MULTILINE)
    assert sorted(sections) == sorted(bundled)
    assert rows == sections
    assert set(LINK.findall(page)) == set(sections)


def test_no_path_of_this_machine(page):
    assert str(ROOT) not in page
    assert ".py" not in page


def section(page: str, name: str) -> str:
    return page.partition(f"\n### {name}\n")[2].partition("\n###")[0].partition("\n## ")[0]


def test_hyperparameters_and_staged_search(page):
    told = section(page, "consensus_ta")
    assert "| `lambda_<domain>` | 0.4 | a number from 0 |" in told
    assert "- search: 35 runs, 15 validations, in 6 stages\n" in told
    assert (
        "  2. `lambda_math` in [0.2, 0.3, 0.4, 0.5, 0.6]; scored on math alone, with `only_mask_of` math" in told
    )
    assert "- linear in: `scaling_coefficient`\n" in told


def test_what_stays_the_base_is_sorted_and_prepare_is_named(page):
    told = section(page, "ties")
    assert "- stays the base's: embedding, head\n" in told
    assert "- seen by `prepare`: `density`\n" in told
    assert "- search: 30 runs, 30 validations; `density` in [0.2, 0.5, 0.9], " in told
    assert "- variant of: [ties](#ties)\n" in section(page, "ties_mergebench_compat")
    assert "- search: nothing to choose\n" in section(page, "model_soup")
