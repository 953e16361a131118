"""What the host learns of methods without importing a plugin."""

from __future__ import annotations

import sys

import pytest

from mergebench_core.errors import InputError, PluginError
from mergebench_core.plugins import source_sha256
from mergebench_core.worker.catalog import find_method, load_catalog
from mergebench_core.worker.host import MethodWorker

PLUGIN = '''"""Mine (no paper): nothing.

More text.
"""
from mergebench_core import MergingMethod, MethodInfo, Stage, hookimpl, stages

class Mine(MergingMethod):
    info = MethodInfo(name="mine", title="Mine", paper_url="https://example.org", needs={"validation"})
    search_space = stages(
        Stage(parameters={"a": (1, 1.0, True, "1")}, domains=("math",), candidate={"mode": "mask", "k": 2}),
        Stage(parameters={"scale": (0.1, 2)}),
    )
    linear_in = "scale"
    prepare_uses = ("a",)

    def update(self, tensor, config, prepared):
        return tensor.base

@hookimpl
def mergebench_register_methods(register):
    register(Mine())
'''


def test_description_of_a_file_plugin(tmp_path):
    before = set(sys.modules)
    path = tmp_path / "mine_file.py"
    path.write_text(PLUGIN)
    catalog = load_catalog(path)
    assert {"mine", "model_soup", "task_arithmetic", "ties"} <= set(catalog)
    found = find_method(catalog, "mine")
    assert found.source.path == path
    assert found.source_sha256 == source_sha256(found.source)
    assert found.description.summary == "Mine (no paper): nothing."
    assert found.description.plugin == "mine_file.py"
    assert (found.description.linear_in, found.description.prepare_uses) == ("scale", ("a",))
    assert found.description.base_roles == {"embedding", "head"}
    assert not found.description.gives_final_values
    first, second = found.description.search_space.stages
    assert [(type(value), value) for value in first.parameters["a"]] == [
        (int, 1),
        (float, 1.0),
        (bool, True),
        (str, "1"),
    ]
    assert (first.domains, first.candidate) == (("math",), {"mode": "mask", "k": 2})
    assert (second.domains, second.parameters) == (None, {"scale": (0.1, 2)})
    assert not [name for name in set(sys.modules) - before if name.startswith("mergebench_plugin_")]
    assert [item.name for item in tmp_path.iterdir() if item.name != "home"] == ["mine_file.py"]


def test_bundled_plugin_names_its_distribution():
    found = find_method(load_catalog(), "ties").description
    assert found.plugin.startswith("mergebench ")
    assert found.summary.startswith("TIES-Merging (arXiv:2306.01708)")


def test_broken_plugin_is_one_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.replace("def update", "def updat"))
    with pytest.raises(PluginError) as error:
        load_catalog(path)
    assert str(error.value) == (
        f"plugin 'mine.py' ({path}): method 'mine' does not define `update`, which depth 'elementwise' needs"
    )


def test_name_that_a_bundled_method_has(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.replace('name="mine"', 'name="ties"'))
    with pytest.raises(
        PluginError, match=r"registers method 'ties', which plugin 'ties' \(.*ties\.py\) has registered"
    ):
        load_catalog(path)


def test_unknown_method():
    with pytest.raises(InputError, match="unknown method 'tise': did you mean 'ties'"):
        find_method({"ties": None, "model_soup": None}, "tise")


def test_every_method_loads_from_its_own_sources(tmp_path):
    """What a run does: the worker gets the method's sources and no others."""
    catalog = load_catalog()
    sources = [source for entry in catalog.values() for source in entry.sources]
    with MethodWorker(num_threads=1, log_file=tmp_path / "log", sources=sources) as worker:
        for name, entry in catalog.items():
            assert name in {found.name for found in worker.load(entry.sources)}
    assert [source.name for source in catalog["lines"].sources] == ["lines", "task_arithmetic", "ties"]
    assert catalog["lines"].source_sha256 != catalog["lines_ties"].source_sha256
