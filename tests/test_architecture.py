"""The walls of the house: imports point down, plugins stay apart, heavy libraries load late."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "mergebench_core"

LAYERS = [
    {"errors"},
    {"hyperparameters"},
    {"hookspecs", "methods"},
    {"plugins", "records", "scoring", "home", "hub", "hub_cache", "kernels", "isolation"},
    {"tracks", "checkpoints", "training", "tables", "environment"},
    {"calibration", "evaluation", "store", "results", "published", "imports", "worker", "jobs"},
    {"tuning", "workbench"},
    {"reference", "services", "planning"},
    {"runner", "merging"},
    {"api", "executors", "doctor"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
"""A module may import from its own layer and those above it in this list."""
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def room(path: Path) -> str:
    """Return the room (module or package of the core) that a file belongs to; a track's tasks run in lm-eval."""
    if "tasks" in path.parts:
        return "evaluation"
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def test_every_room_has_its_layer():
    assert {room(path) for path in CORE.rglob("*.py")} - {"__init__"} == set(RANK)


def test_imports_point_down():
    wrong = []
    for path in CORE.rglob("*.py"):
        for module in imports(path):
            parts = module.split(".")
            is_ours = parts[0] == "mergebench_core" and len(parts) > 1 and room(path) != "__init__"
            if is_ours and RANK[parts[1]] > RANK[room(path)]:
                wrong.append(f"{path.relative_to(ROOT)} imports {module}")
    assert wrong == []


def test_core_names_no_plugin_and_no_page():
    """Only the command that starts the leaderboard may name it."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in CORE.rglob("*.py")
        for module in imports(path)
        if module.startswith(("mergebench_methods", "mergebench_leaderboard"))
    ]
    assert wrong == ["mergebench_core/cli/board.py imports mergebench_leaderboard"]


def test_plugins_import_only_the_core_and_libraries():
    for path in (ROOT / "plugins").rglob("*.py"):
        for module in imports(path):
            assert not module.startswith("mergebench_") or module.startswith("mergebench_core"), path


def test_registering_the_bundled_methods_loads_no_torch():
    """Listing methods, and finding one, takes a second less for it."""
    program = "import sys; from mergebench_core import plugins as p; p.load_methods(p.installed_sources())"
    done = subprocess.run([sys.executable, "-c", f"{program}; sys.exit('torch' in sys.modules)"], check=False)
    assert done.returncode == 0


def test_exact_methods_avoid_fused_operations():
    """`add(alpha=)`, `lerp`, `addcmul` and `addcdiv` may round differently from one processor to the next."""
    for path in [*(ROOT / "plugins").rglob("*.py"), CORE / "checkpoints" / "assembly.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = node.func.attr.rstrip("_")
                assert name not in {"lerp", "addcmul", "addcdiv", "addmm", "baddbmm"}, path
                assert not any(keyword.arg == "alpha" for keyword in node.keywords), path


@pytest.mark.parametrize("limit", [400])
def test_files_stay_readable(limit):
    long = [
        path.relative_to(ROOT).as_posix()
        for folder in (CORE, ROOT / "plugins", ROOT / "leaderboard")
        for path in folder.rglob("*.py")
        if len(path.read_text(encoding="utf-8").splitlines()) > limit
    ]
    assert long == []


def test_weights_stay_small():
    folder = CORE / "tracks" / "mini_v1"
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 45 * 2**20


def test_generated_pages_are_fresh():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "build.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
