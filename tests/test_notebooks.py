"""Notebooks: every .py runs from top to bottom, and its .ipynb has the same cells, with outputs."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import cast

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))


QUICK = {"01_quickstart", "09_zoo", "10_what_predicts_fragility"}
"""Notebooks on shipped models, which run in seconds."""
RUNS = [pytest.param(path, marks=[pytest.mark.slow] * (path.stem not in QUICK)) for path in NOTEBOOKS]
MAX_LINES = 60


def sources(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Type and source of every cell."""
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_pair_has_the_same_cells(script: Path) -> None:
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    assert sources(jupytext.read(script)) == sources(notebook)


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_without_stderr(script: Path) -> None:
    """The .ipynb shows results, and neither an error nor a warning of the machine that ran it."""
    cells = nbformat.read(script.with_suffix(".ipynb"), as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert outputs
    assert not [
        output for output in outputs if output.get("name") == "stderr" or output.output_type == "error"
    ]


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_is_short_and_of_the_public_api(script: Path) -> None:
    """Fewer than 60 lines of code, which import nothing of makebreak but the package itself."""
    cells = [source for kind, source in sources(jupytext.read(script)) if kind == "code"]
    code = "\n".join(cells)
    assert sum(bool(line.strip()) for line in code.splitlines()) < MAX_LINES
    assert "google.colab" in cells[0]
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = [
        node.module or "" if isinstance(node, ast.ImportFrom) else alias.name
        for node in imports
        for alias in node.names
    ]
    own = {module for module in modules if module.split(".")[0] in ("makebreak", "synthetic", "experiments")}
    assert own == {"makebreak"}
    assert not [node for node in imports if isinstance(node, ast.ImportFrom) and node.module == "makebreak"]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("script", RUNS, ids=lambda path: path.stem)
def test_it_runs(script: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """All run in one folder, as a reader would run them: some share a base, which is trained once."""
    folder = tmp_path_factory.getbasetemp().parent / "notebooks"  # common to all workers of pytest
    folder.mkdir(exist_ok=True)
    notebook = cast(nbformat.NotebookNode, nbformat.from_dict(jupytext.read(script)))
    resources = {"metadata": {"path": folder}}
    NotebookClient(notebook, timeout=200, kernel_name="python3", resources=resources).execute()


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
