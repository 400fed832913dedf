"""Imports: `import makebreak` is light, no modules import one another, and programs use public names."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOTS = ("makebreak", "synthetic", "experiments")
LIBRARIES = ("makebreak.", "synthetic.")

HEAVY = (
    "torch",
    "transformers",
    "transformer_lens",
    "nnsight",
    "seaborn",
    "matplotlib",
    "pandas",
    "datasets",
)


def loaded(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_import_makebreak_is_light() -> None:
    assert loaded("import makebreak") == set()
    assert "torch" in loaded("import makebreak.models"), "the test would see a heavy import"


def test_worlds_need_numpy_only() -> None:
    assert loaded("import synthetic; synthetic.load('mini').sample('safe', 4, seed=0)") == set()


def import_cycle(graph: grimp.ImportGraph) -> list[str]:
    """Modules of one cycle of imports, those of functions and of type checking included; none without one."""
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_cycle_of_imports() -> None:
    graph = grimp.build_graph(*ROOTS, cache_dir=None)
    assert import_cycle(graph) == []
    graph.add_import(importer="synthetic.types", imported="experiments.command")
    assert {"synthetic.types", "experiments.command"} <= set(import_cycle(graph))


@pytest.mark.parametrize(
    "importing",
    ["from planted.b import x", "def f():\n    import planted.b", "if TYPE_CHECKING:\n    import planted.b"],
)
def test_planted_cycle_is_found(importing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of imports at the top, in a function, and for the type checker alone."""
    package = tmp_path / "planted"
    package.mkdir()
    for name, text in (("__init__", ""), ("a", importing), ("b", "from planted import a\nx = a")):
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    assert set(import_cycle(grimp.build_graph("planted", cache_dir=None))) == {"planted.a", "planted.b"}


def private_imports(source: str) -> set[str]:
    """What a program imports of makebreak and synthetic that is not public.

    Public are the modules at the top of each, the names in a package's `__all__`, and names of a module
    without an underscore.
    """
    private: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
            private |= {name for name in names if name.startswith(LIBRARIES) and name.count(".") > 1}
        elif isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(LIBRARIES):
            module = str(node.module)
            exports = getattr(importlib.import_module(module), "__all__", None) if "." in module else None
            for name in (alias.name for alias in node.names):
                is_exported = not name.startswith("_") if exports is None else name in exports
                if module.count(".") > 1 or not is_exported:
                    private.add(f"{module}.{name}")
    return private


PROGRAMS = [path for folder in ("experiments", "notebooks") for path in sorted(Path(folder).rglob("*.py"))]


@pytest.mark.parametrize("path", PROGRAMS, ids=str)
def test_experiments_and_notebooks_use_public_names(path: Path) -> None:
    assert private_imports(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("source", "private"),
    [
        ("from makebreak.training.loop import train", {"makebreak.training.loop.train"}),
        ("from makebreak.training import loop", {"makebreak.training.loop"}),
        ("import makebreak.training.loop", {"makebreak.training.loop"}),
        ("from makebreak.store import _sha256", {"makebreak.store._sha256"}),
        ("from makebreak.training import train\nfrom makebreak.store import Store\nimport os.path.x", set()),
        ("from makebreak import recipes\nfrom synthetic import load", set()),
    ],
)
def test_private_imports_are_found(source: str, private: set[str]) -> None:
    assert private_imports(source) == private


def test_help_imports_nothing_heavy() -> None:
    """Neither the list of commands nor the options of one of them, which are the settings of the jobs."""
    heavy = {*HEAVY, "numpy", "pydantic", "makebreak.lm", "makebreak.models"}
    for arguments in ([], ["attack"]):
        code = (
            "import sys; from makebreak.cli import main\n"
            f"try: main({[*arguments, '--help']!r})\n"
            "except SystemExit: print('', *sys.modules)"
        )
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        help_text, modules = output.stdout.rsplit("\n ", 1)
        assert "--help" in help_text
        assert "makebreak.settings" in modules.split(), "the test sees what is imported"
        assert heavy.isdisjoint(modules.split())
