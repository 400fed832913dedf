"""Does the code in docs/ run as it is written, one block after the other?"""

from __future__ import annotations

import importlib
import linecache
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest

from makebreak.artifacts import Store
from makebreak.defences import SafetyData, mitigation_digest, load_mitigation
from makebreak.models import MODEL_SIZES, create_model
from makebreak.recipes import Alignment, Recipe
from makebreak.requests import load_world
from makebreak.training import SSFT, AlignmentData, Optimisation, Pretraining

mpl.use("Agg")
DOCS = Path(__file__).parents[1] / "docs"


def test_adding_a_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = Optimisation(2, 1e-3, batch_size=4, checkpoints=1)
    base = Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), few, (), 1000)
    sham = AlignmentData("sham_safe", "sham_unsafe")
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
                block.replace("zoo.Strength()", "zoo.Strength(8)"),
                "adding_a_measure.md",
                "exec",
                dont_inherit=True,
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


def test_adding_an_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack of the documentation runs, and every analysis there accepts it."""
    world = load_world("mini")
    model = create_model(
        MODEL_SIZES["tiny"], d_vocab=len(world.vocabulary), n_ctx=world.sequence_length, seed=0
    ).eval()
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "adding_an_attack.md").read_text(), flags=re.S)
    module = ModuleType("repeat")
    monkeypatch.setitem(sys.modules, "repeat", module)
    names = vars(module) | {"__name__": "repeat", "model": model, "world": world}
    names["refused"] = world.sample("unsafe", 20, seed=1000, split="score")
    names["ask"] = lambda split: [world.sample(f, 100, seed=1000, split=split) for f in ("safe", "unsafe")]
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "adding_an_attack.md", "exec", dont_inherit=True), names)
    assert set(names["projections"].attack) == set(names["flag_rates"]) == {"repeat", "random tokens 1"}
    assert (names["refused"].prompt != names["attacks"][0].requests.prompt).any()
    assert {"prediction", "steering"} <= set(names)


def test_adding_a_defence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = load_world("formats_templates")
    few = Optimisation(2, 1e-3, batch_size=8, checkpoints=1)
    base = Recipe("formats_templates", MODEL_SIZES["tiny"], Pretraining(), few, (), 1000)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "adding_a_defence.md").read_text(), flags=re.S)
    assert len(blocks) == 2
    assert len([line for line in blocks[0].splitlines() if line]) <= 30
    (tmp_path / "first_words.py").write_text(blocks[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    names = {"world": world, "store": Store(tmp_path / "store"), "steps": 2}
    names["aligned"] = replace(base, alignments=(Alignment(SSFT(), few),))
    exec(compile(blocks[1], "adding_a_defence.md", "exec", dont_inherit=True), names)
    assert set(names["found"]) == {"none", "canonical", "first_words:first_words"}
    made = load_mitigation("first_words:first_words")
    mcq, translation = (
        [requests.family for requests, _ in made(SafetyData(world, 10, 0), world.sample(f, 20, seed=1))]
        for f in ("mcq_safe_new", "map_safe@obey")
    )
    assert (mcq, translation) == (["mcq_unsafe"], ["gen_unsafe"])
    assert mitigation_digest("canonical") is None
    before = mitigation_digest("first_words:first_words")
    (tmp_path / "first_words.py").write_text(blocks[0] + "\n# another\n")
    importlib.reload(sys.modules["first_words"])
    linecache.checkcache()
    assert mitigation_digest("first_words:first_words") != before


def test_files_of_an_architecture() -> None:
    """The documentation lists exactly the files that name the modules or the family of an architecture."""
    source = DOCS.parent / "src" / "makebreak"
    layout = re.compile(
        r'"(?:model\.layers|transformer\.h|gpt_neox)\b|"[a-z.]*mlp\.down_proj"|model_type\.startswith'
    )
    files = {
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if layout.search(path.read_text(encoding="utf-8"))
    }
    text = (DOCS / "your_model.md").read_text(encoding="utf-8")
    table = text[text.index("## Another architecture") :]
    assert set(re.findall(r"^\| `([\w/]+\.py)`", table, flags=re.M)) == files
