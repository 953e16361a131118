"""Finding judges: installed packages alone, and every mistake of an author is one line."""

from __future__ import annotations

import importlib
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from mergebench_core.errors import InputError, PluginError
from mergebench_core.evaluation.judges import registry
from mergebench_core.evaluation.judges.factory import UNPINNED, JudgeSettings
from mergebench_core.evaluation.judges.judge import Exchange, Verdict
from mergebench_core.evaluation.judges.registry import GROUP, find_judge, list_judges
from mergebench_core.plugins import file_source, load_methods

ROOT = Path(__file__).parents[2]
BUNDLED = {
    "harmbench_classifier": "mergebench_judges.harmbench_classifier",
    "refusal_phrases": "mergebench_judges.refusal_phrases",
    "wildguard": "mergebench_judges.wildguard",
}
PLUGIN = """\
from mergebench_core import hookimpl
from mergebench_core.evaluation.judges.judge import Verdict

class Loud:
    name = "loud"
    title = "Loud"
    revision = "1"
    needs = frozenset()
    repo = None
    def open(self, settings):
        return self
    def judge(self, exchanges):
        return [Verdict(is_refusal=exchange.answer.isupper(), is_harmful=None) for exchange in exchanges]

@hookimpl
def mergebench_register_judges(register):
    register(Loud())
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install packages of one module each: dist-info with an entry point beside the module, on `sys.path`."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    installed = []

    def install(text: str, name: str = "loud_judge", module: str | None = None) -> None:
        (site / f"{name}.py").write_text(text)
        info = site / f"{name}-0.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.2\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {module or name}\n")
        installed.append(name)
        importlib.invalidate_caches()

    yield install
    for name in installed:
        sys.modules.pop(name, None)


@pytest.fixture
def bundled(install, monkeypatch) -> None:
    """The bundled judges, whether or not the environment was installed since they came."""
    found = {point.name for point in entry_points(group=GROUP)}
    missing = {name: module for name, module in BUNDLED.items() if name not in found}
    for name, module in missing.items():
        install("", name=f"bundled_{name}", module=module)


def test_bundled_judges(bundled):
    judges = {factory.name: factory for factory in list_judges()}
    assert list(judges) == sorted(BUNDLED)
    assert judges["refusal_phrases"].repo is None
    assert judges["refusal_phrases"].needs == frozenset()
    assert judges["refusal_phrases"].revision != UNPINNED
    for name, repo in (
        ("wildguard", "allenai/wildguard"),
        ("harmbench_classifier", "cais/HarmBench-Llama-2-13b-cls"),
    ):
        assert (judges[name].repo, judges[name].needs, judges[name].revision) == (repo, {"gpu"}, UNPINNED)


def test_bundled_judges_are_declared():
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points[GROUP] == BUNDLED


def test_judge_of_another_package(install, bundled):
    install(PLUGIN)
    assert [factory.name for factory in list_judges()] == [
        "harmbench_classifier",
        "loud",
        "refusal_phrases",
        "wildguard",
    ]
    judge = find_judge("loud").open(JudgeSettings())
    exchanges = [Exchange(request="", answer="NO"), Exchange(request="", answer="No")]
    assert judge.judge(exchanges) == [
        Verdict(is_refusal=True, is_harmful=None),
        Verdict(is_refusal=False, is_harmful=None),
    ]


def test_unknown_judge(bundled):
    with pytest.raises(InputError, match=r"unknown judge 'wildgard': did you mean 'wildguard'\? Judges come from"):
        find_judge("wildgard")


MISTAKES = {
    "misspelt hook": ("def mergebench_register_judges", "def mergebench_register_judge", "unknown hook"),
    "hook of methods": ("def mergebench_register_judges", "def mergebench_register_methods", "unknown hook"),
    "no decorator": ("@hookimpl\n", "", "registers no judge; decorate mergebench_register_judges(register)"),
    "wrong argument": ("judges(register)", "judges(registry)", "registry"),
    "registers nothing": ("register(Loud())", "pass", "registers no judge; decorate"),
    "registers a class": ("register(Loud())", "register(Loud)", "registers Loud, which is no factory of judges"),
    "registers text": ("register(Loud())", "register('loud')", "registers str, which is no factory of judges (no"),
    "no open": ("def open", "def opn", "registers Loud, which is no factory of judges (no `open`)"),
    "open is no method": (
        "    def open(self, settings):\n        return self",
        "    open = 3",
        "`open` is no method",
    ),
    "bad name": ('"loud"', '"Loud Judge"', "its name is 'Loud Judge': use snake_case"),
    "name is no text": ('name = "loud"', "name = 3", "its name is 3: use snake_case"),
    "two lines": ('"Loud"', '"Lo\\nud"', "its title is 'Lo\\nud': give one line of text"),
    "no revision": ('revision = "1"', 'revision = ""', "its revision is '': give one line of text"),
    "unknown need": ("frozenset()", 'frozenset({"tpu"})', "its needs are frozenset({'tpu'}): give a frozenset of"),
    "needs are a list": ("frozenset()", "[]", "its needs are []: give a frozenset of ['gpu'], or an empty one"),
    "bad repo": ("repo = None", 'repo = "loud"', "its repo is 'loud': give owner/name, or None"),
    "raises": (
        "register(Loud())",
        "register(1 / 0)",
        "fails: ZeroDivisionError: division by zero; mend or uninstall",
    ),
    "syntax error": ("class Loud:", "class Loud", "fails: SyntaxError: "),
    "missing package": (
        "class Loud:",
        "import not_there\nclass Loud:",
        "ModuleNotFoundError: No module named 'not_",
    ),
    "raises ours": (
        "    register(Loud())",
        "    from mergebench_core.errors import PluginError\n    raise PluginError('no dictionary')",
        "of loud_judge 0.2: no dictionary",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_is_one_line_naming_the_package(install, case):
    old, new, message = MISTAKES[case]
    assert old in PLUGIN
    install(PLUGIN.replace(old, new))
    with pytest.raises(PluginError) as error:
        find_judge("loud")
    assert message in str(error.value)
    assert str(error.value).startswith("judge plugin 'loud_judge' (loud_judge) of loud_judge 0.2")
    assert "\n" not in str(error.value)


def test_module_that_is_not_there(install):
    install(PLUGIN, module="loud_judge_gone")
    with pytest.raises(PluginError, match=r"\(loud_judge_gone\) of loud_judge 0\.2 fails: ModuleNotFoundError"):
        list_judges()


def test_clashing_names_give_both_packages(install):
    install(PLUGIN)
    install(PLUGIN, name="other_judge")
    with pytest.raises(
        PluginError, match=r"of other_judge 0\.2 registers judge 'loud', which .* of loud_judge 0\.2 has"
    ):
        list_judges()


def test_a_file_of_methods_registers_no_judge(tmp_path, bundled):
    (tmp_path / "mine.py").write_text(PLUGIN)
    with pytest.raises(PluginError, match=r"^plugin 'mine\.py' .*unknown hook 'mergebench_register_judges'"):
        load_methods([file_source(tmp_path / "mine.py")])
    assert "loud" not in {factory.name for factory in list_judges()}


def test_listing_judges_loads_nothing_heavy():
    import subprocess

    modules = ", ".join(repr(module) for module in BUNDLED.values())
    program = (
        f"import sys, importlib; [importlib.import_module(name) for name in ({modules})]; "
        "from mergebench_core.evaluation.judges import registry; "
        "sys.exit(bool({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_no_manager_outlives_a_call(install):
    install(PLUGIN)
    first, second = find_judge("loud"), find_judge("loud")
    assert first is not second
    assert not any("manager" in name.lower() for name in vars(registry))
