"""Finding and loading plugins: every mistake of an author is one line that names plugin, file and remedy."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest

from mergebench_core import hookspecs
from mergebench_core.errors import InputError, PluginError
from mergebench_core.plugins import PluginSource, file_source, installed_sources, load_methods, source_sha256

EXAMPLE = Path(__file__).parent / "example_package"
PLUGIN = """\
from mergebench_core import MergingMethod, MethodInfo, grid, hookimpl

class Mine(MergingMethod):
    info = MethodInfo(name="mine", title="Mine", paper_url="")
    def update(self, tensor, config, prepared):
        return sum(tensor.task_vectors)

@hookimpl
def mergebench_register_methods(register):
    register(Mine())
"""


def write_plugin(folder: Path, old: str = "", new: str = "", name: str = "mine.py") -> PluginSource:
    """Write the plugin with one change."""
    assert old in PLUGIN
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(PLUGIN.replace(old, new) if old else PLUGIN)
    return file_source(folder / name)


@pytest.fixture
def example(tmp_path, monkeypatch) -> Path:
    """An installed package: dist-info with an entry point beside the modules, on `sys.path`."""
    site = tmp_path / "site"
    shutil.copytree(EXAMPLE / "mergebench_example", site / "mergebench_example")
    info = site / "mergebench_example-0.3.dist-info"
    info.mkdir()
    for name in ("METADATA", "entry_points.txt"):
        shutil.copyfile(EXAMPLE / name, info / name)
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    yield site
    for name in [name for name in sys.modules if name.split(".")[0] == "mergebench_example"]:
        del sys.modules[name]


def test_file_plugin_loads(tmp_path):
    source = write_plugin(tmp_path)
    loaded = load_methods([source])
    assert list(loaded) == ["mine"]
    assert loaded["mine"].source == source
    assert (source.name, source.distribution, source.module) == ("mine.py", "file", None)
    assert PluginSource.from_dict(source.to_dict()) == source


REGISTER = "def mergebench_register_methods(register):"
MISTAKES = {
    "misspelt hook": ("def mergebench_register_methods", "def mergebench_register_method", "unknown hook"),
    "misspelt and undecorated": (
        f"@hookimpl\n{REGISTER}",
        "def mergebench_register(register):",
        "registers no method",
    ),
    "no decorator": ("@hookimpl\n", "", "registers no method; decorate mergebench_register_methods(register)"),
    "wrong argument": (REGISTER, "def mergebench_register_methods(registry):", "registry"),
    "one more argument": (REGISTER, "def mergebench_register_methods(register, config):", "config"),
    "registers nothing": ("register(Mine())", "pass", "registers no method; decorate"),
    "registers a class": (
        "register(Mine())",
        "register(Mine)",
        "registers Mine, which is no MergingMethod object",
    ),
    "registers a string": (
        "register(Mine())",
        "register('mine')",
        "registers str, which is no MergingMethod object",
    ),
    "raises": ("register(Mine())", "register(Mine(3))", "fails while registering: TypeError: "),
    "syntax error": ("class Mine(MergingMethod):", "class Mine(MergingMethod)", "fails on import: SyntaxError: "),
    "import error": ("import MergingMethod,", "import Mergingmethod,", "fails on import: ImportError: "),
    "missing package": (
        "\nclass Mine",
        "\nimport not_there\nclass Mine",
        "ModuleNotFoundError: No module named 'not",
    ),
    "bad name": ('name="mine"', 'name="My Method"', "MethodInfo.name is 'My Method': use snake_case"),
    "no update": ("def update", "def updte", "method 'mine' does not define `update`"),
    "undeclared validation": ("    def update", "    search_space = grid(a=[1, 2])\n    def update", "needs={"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_is_one_line_naming_the_file(tmp_path, case):
    old, new, message = MISTAKES[case]
    source = write_plugin(tmp_path, old, new)
    with pytest.raises(PluginError) as error:
        load_methods([source])
    assert message in str(error.value)
    assert str(error.value).startswith(f"plugin 'mine.py' ({source.path})")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("case", "line"), [("syntax error", 3), ("import error", 1), ("missing package", 3), ("raises", 10)]
)
def test_line_is_named(tmp_path, case, line):
    with pytest.raises(PluginError, match=f" at line {line}; mend the plugin or leave it out"):
        load_methods([write_plugin(tmp_path, *MISTAKES[case][:2])])


@pytest.mark.parametrize("case", ["misspelt hook", "wrong argument"])
def test_known_hooks_are_shown_as_they_are_written(tmp_path, case):
    hooks = r"mergebench_register_methods\(register\), mergebench_methods_of_file\(path, register\)"
    with pytest.raises(PluginError, match=f"known hooks: {hooks}$"):
        load_methods([write_plugin(tmp_path, *MISTAKES[case][:2])])


def test_default_argument_does_not_hide_what_the_host_passes(tmp_path):
    source = write_plugin(tmp_path, "(register):", "(register=None):")
    assert list(load_methods([source])) == ["mine"]


def test_hooks_have_no_defaults():
    import inspect

    names = [name for name in vars(hookspecs) if name.startswith("mergebench_")]
    assert names == ["mergebench_register_methods", "mergebench_methods_of_file"]
    for name in names:
        for parameter in inspect.signature(getattr(hookspecs, name)).parameters.values():
            assert parameter.default is parameter.empty


def test_clashing_names_give_both_files(tmp_path):
    first, second = write_plugin(tmp_path / "a"), write_plugin(tmp_path / "b", name="other.py")
    with pytest.raises(PluginError) as error:
        load_methods([first, second])
    assert "registers method 'mine'" in str(error.value)
    assert str(first.path) in str(error.value)
    assert str(second.path) in str(error.value)


def test_two_files_of_one_name_are_two_plugins(tmp_path):
    first = write_plugin(tmp_path / "a")
    second = write_plugin(tmp_path / "b", 'name="mine"', 'name="yours"')
    loaded = load_methods([first, second])
    assert {name: method.source.path for name, method in loaded.items()} == {
        "mine": first.path,
        "yours": second.path,
    }


@pytest.mark.parametrize("name", ["absent.py", "absent.txt", "folder.py"])
def test_no_such_file(tmp_path, name):
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(InputError, match=r"no such file; give --plugin a \.py file, or one that a plugin reads"):
        file_source(tmp_path / name)


READER = """\
from mergebench_core import MergingMethod, MethodInfo, hookimpl
from mergebench_core.errors import PluginError

class Read(MergingMethod):
    def __init__(self, name):
        self.info = MethodInfo(name=name, title=name, paper_url="")
    def update(self, tensor, config, prepared):
        return sum(tensor.task_vectors)

@hookimpl
def mergebench_methods_of_file(path, register):
    if path.suffix == ".names":
        for name in path.read_text().split():
            if name == "wrong":
                raise PluginError("a wrong name")
            register(Read(name))
"""


@pytest.fixture
def reader(tmp_path) -> PluginSource:
    """A plugin with no methods of its own, which reads files of names."""
    (tmp_path / "reader.py").write_text(READER)
    return file_source(tmp_path / "reader.py")


def names_file(folder: Path, text: str, name: str = "mine.names") -> PluginSource:
    (folder / name).write_text(text)
    return file_source(folder / name)


def test_a_plugin_makes_methods_of_a_file(tmp_path, reader):
    source, other = names_file(tmp_path, "a b"), write_plugin(tmp_path)
    loaded = load_methods([source, other, reader])
    assert {name: (found.source, found.reader) for name, found in loaded.items()} == {
        "a": (source, reader),
        "b": (source, reader),
        "mine": (other, None),
    }


def test_file_that_no_plugin_reads(tmp_path, reader):
    for name, kind in (("mine.txt", r"'\.txt' files"), ("mine", "files without suffix")):
        with pytest.raises(PluginError, match=rf"plugin '{name}' .*no installed plugin reads {kind}; give a \.py"):
            load_methods([reader, names_file(tmp_path, "a", name)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wrong", r"^plugin 'mine\.names' \(.*mine\.names\): a wrong name$"),
        ("Wrong", r"^plugin 'mine\.names' \(.*mine\.names\): MethodInfo\.name is 'Wrong': use snake_case"),
        ("a a", r"^plugin 'mine\.names' .*registers method 'a', which plugin 'mine\.names' .*rename one"),
    ],
)
def test_what_a_file_says_wrongly_is_said_of_the_file(tmp_path, reader, text, message):
    with pytest.raises(PluginError, match=message):
        load_methods([reader, names_file(tmp_path, text)])


def test_a_reader_that_fails_is_named(tmp_path, reader):
    reader.path.write_text(READER.replace("path.read_text()", "path.read_txt()"))
    with pytest.raises(
        PluginError, match=r"^plugin 'reader\.py' .* fails on .*mine\.names: AttributeError.*line 13"
    ):
        load_methods([reader, names_file(tmp_path, "a")])


def test_bundled_methods_come_first_and_load(example):
    sources = installed_sources()
    bundled = [source.name for source in sources if source.distribution.startswith("mergebench ")]
    assert bundled == sorted(bundled)
    assert {"model_soup", "task_arithmetic", "ties"} <= set(bundled)
    assert [source.name for source in sources][len(bundled) :] == ["half"]
    assert {"model_soup", "task_arithmetic", "ties", "half_way"} <= set(load_methods(sources))


def test_installed_package_is_found_without_importing_it(example):
    (source,) = (source for source in installed_sources() if source.name == "half")
    assert source.distribution == "mergebench-example 0.3"
    assert source.module == "mergebench_example.half"
    assert source.path == example / "mergebench_example" / "half.py"
    assert "mergebench_example" not in sys.modules
    assert load_methods([source])["half_way"].method.info.title == "Half Way"


@pytest.mark.parametrize(
    "module", ["mergebench_example.gone", "mergebench_gone.half", "mergebench_example.half.deeper"]
)
def test_entry_point_to_nowhere(example, module):
    points = example / "mergebench_example-0.3.dist-info" / "entry_points.txt"
    points.write_text(f"[mergebench]\nhalf = {module}\n")
    with pytest.raises(
        PluginError, match=r"'half' of mergebench-example 0\.3 names module .* is not there; reinstall"
    ):
        installed_sources()


def test_broken_installed_package_is_named(example):
    (example / "mergebench_example" / "means.py").write_text("def mean(\n")
    (source,) = (source for source in installed_sources() if source.name == "half")
    with pytest.raises(PluginError, match=r"plugin 'half' \(.*half\.py\) fails on import: SyntaxError"):
        load_methods([source])


def test_digest_follows_the_file(tmp_path):
    first = source_sha256(write_plugin(tmp_path))
    assert first == source_sha256(write_plugin(tmp_path))
    (tmp_path / "neighbour.py").write_text("x = 1")
    assert first == source_sha256(file_source(tmp_path / "mine.py"))
    assert first != source_sha256(write_plugin(tmp_path, "sum(", "2 * sum("))


def test_digest_follows_the_package_the_plugin_imports_from(example):
    (source,) = (source for source in installed_sources() if source.name == "half")
    before = source_sha256(source)
    (example / "unrelated.py").write_text("x = 1")
    assert source_sha256(source) == before
    means = example / "mergebench_example" / "means.py"
    text = means.read_text()
    means.write_text(f"{text}\n# changed")
    assert source_sha256(source) != before
    means.write_text(text)
    assert source_sha256(source) == before
    (example / "mergebench_example" / "deeper").mkdir()
    means.rename(example / "mergebench_example" / "deeper" / "means.py")
    assert source_sha256(source) != before


def test_digest_of_a_plugin_deep_in_its_package(example):
    deep = example / "mergebench_example" / "deep"
    deep.mkdir()
    (deep / "plugin.py").write_text("from mergebench_example.means import mean\n")
    source = PluginSource(
        name="deep", module="mergebench_example.deep.plugin", path=deep / "plugin.py", distribution="x 1"
    )
    before = source_sha256(source)
    (example / "unrelated.py").write_text("x = 1")
    assert source_sha256(source) == before
    (example / "mergebench_example" / "means.py").write_text("mean = None\n")
    assert source_sha256(source) != before
