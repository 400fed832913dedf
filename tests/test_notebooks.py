"""Do the notebooks run from top to bottom, and is each .ipynb the same as its .py twin?"""

from __future__ import annotations

from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))


def sources(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_pair_says_the_same(script: Path) -> None:
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    assert sources(jupytext.read(script)) == sources(notebook)


@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_shows_results_and_no_warning_of_the_machine_that_ran_it(script: Path) -> None:
    cells = nbformat.read(script.with_suffix(".ipynb"), as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert outputs
    assert not [
        output for output in outputs if output.get("name") == "stderr" or output.output_type == "error"
    ]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("script", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(script: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In one folder for all, as a reader would: two of them share a base, which is trained once."""
    folder = tmp_path_factory.getbasetemp().parent / "notebooks"  # common to all workers of pytest
    folder.mkdir(exist_ok=True)
    notebook = nbformat.from_dict(jupytext.read(script))
    NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()


def test_there_is_something_to_run() -> None:
    assert NOTEBOOKS
