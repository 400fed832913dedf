"""Does the code in docs/ run as it is written, one block after the other?"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest

from makebreak.models import PRESETS
from makebreak.recipes import Alignment, Recipe
from makebreak.training import SSFT, Data, Optimisation, Pretraining

mpl.use("Agg")
DOCS = Path(__file__).parents[1] / "docs"


def test_adding_a_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = Optimisation(2, 1e-3, batch_size=4, checkpoints=1)
    base = Recipe("mini", PRESETS["tiny"], Pretraining(), few, (), 1000)
    sham = Data("sham_safe", "sham_unsafe")
    recipes = [base, *(replace(base, alignments=(Alignment(how, few),)) for how in (SSFT(), SSFT(sham)))]
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "adding_a_measure.md").read_text(), flags=re.S)
    assert len(blocks) == 3
    module = ModuleType("stable_rank")  # a dataclass looks its module up
    monkeypatch.setitem(sys.modules, "stable_rank", module)
    names = vars(module)
    names["recipes"] = recipes
    for block in blocks:
        exec(
            compile(
                block.replace("zoo.Strength()", "zoo.Strength(8)"), "adding_a_measure.md", "exec", dont_inherit=True
            ),
            names,
        )
    table, found = names["table"], names["found"]
    assert isinstance(table, pd.DataFrame)
    assert isinstance(found, pd.DataFrame)
    assert table.stable_rank.notna().sum() == 2, "of a base there is no update"
    assert set(found.rung) == {"value", "sham"}
    assert len(plt.get_fignums()) == 1
    plt.close("all")
    lines = [line for line in blocks[0].splitlines() if line]
    assert len(lines) <= 30, "about thirty lines"
