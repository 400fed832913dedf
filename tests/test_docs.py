"""The code blocks of docs/ run as they are written, one after the other."""

from __future__ import annotations

import importlib
import linecache
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest

from makebreak.defences import SafetyData, load_mitigation, mitigation_digest
from makebreak.mechanism import SafeUnsafeRequests
from makebreak.models import MODEL_SIZES, create_model
from makebreak.prompts import load_world
from makebreak.recipes import Alignment, Recipe
from makebreak.store import Store
from makebreak.training import SSFT, AlignmentData, Optimisation, Pretraining

mpl.use("Agg")
DOCS = Path(__file__).parents[1] / "docs"


def code_blocks(page: str) -> list[str]:
    """The Python blocks of a page of the documentation, in their order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, flags=re.S)


def n_code_lines(block: str) -> int:
    return len([line for line in block.splitlines() if line])


def run_block(block: str, page: str, names: dict[str, Any]) -> None:
    """Runs one block of a page in a namespace, as a reader who goes on from the blocks before it."""
    exec(compile(block, page, "exec", dont_inherit=True), names)


def test_adding_a_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measure of the documentation runs, is short, and gives a table, a comparison and a figure."""
    monkeypatch.chdir(tmp_path)
    optimisation = Optimisation(2, 1e-3, batch_size=4, checkpoints=1)
    base = Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), optimisation, (), 1000)
    objectives = SSFT(), SSFT(AlignmentData("sham_safe", "sham_unsafe"))
    tuned = [replace(base, alignments=(Alignment(objective, optimisation),)) for objective in objectives]
    blocks = code_blocks("adding_a_measure.md")
    assert len(blocks) == 3
    module = ModuleType("stable_rank")  # a dataclass looks its module up
    monkeypatch.setitem(sys.modules, "stable_rank", module)
    names = vars(module)
    names["recipes"] = [base, *tuned]
    for block in blocks:
        shortened = block.replace("zoo.SafetyMeasure()", "zoo.SafetyMeasure(8)")
        run_block(shortened, "adding_a_measure.md", names)
    table, controls = names["table"], names["controls"]
    assert isinstance(table, pd.DataFrame)
    assert isinstance(controls, pd.DataFrame)
    assert table.stable_rank.notna().sum() == 2, "a base has no update"
    assert set(controls.control) == {"none", "sham"}
    assert len(plt.get_fignums()) == 1
    plt.close("all")
    assert n_code_lines(blocks[0]) <= 30, "about thirty lines"


def test_adding_an_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack of the documentation runs, and every analysis there accepts it."""
    world = load_world("mini")
    model = create_model(
        MODEL_SIZES["tiny"], d_vocab=len(world.vocabulary), n_ctx=world.sequence_length, seed=0
    ).eval()

    def request_pair(split: str) -> SafeUnsafeRequests:
        safe, unsafe = (world.sample(family, 100, seed=1000, split=split) for family in ("safe", "unsafe"))
        return SafeUnsafeRequests(safe, unsafe)

    module = ModuleType("repeat")
    monkeypatch.setitem(sys.modules, "repeat", module)
    names = vars(module) | {"__name__": "repeat", "model": model, "world": world}
    names["refused"] = world.sample("unsafe", 20, seed=1000, split="score")
    names["request_pair"] = request_pair
    blocks = code_blocks("adding_an_attack.md")
    assert len(blocks) == 2
    for block in blocks:
        run_block(block, "adding_an_attack.md", names)
    assert set(names["projections"].attack) == set(names["flag_rates"]) == {"repeat", "random tokens 1"}
    assert (names["refused"].prompt != names["attacks"][0].requests.prompt).any()
    assert {"prediction", "steering"} <= set(names)


def test_adding_a_defence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mitigation of the documentation runs, is short, and a changed file is another mitigation."""
    world = load_world("formats_templates")
    optimisation = Optimisation(2, 1e-3, batch_size=8, checkpoints=1)
    base = Recipe("formats_templates", MODEL_SIZES["tiny"], Pretraining(), optimisation, (), 1000)
    blocks = code_blocks("adding_a_defence.md")
    assert len(blocks) == 2
    assert n_code_lines(blocks[0]) <= 30
    (tmp_path / "first_words.py").write_text(blocks[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, Any] = {"world": world, "store": Store(tmp_path / "store"), "steps": 2}
    names["aligned"] = replace(base, alignments=(Alignment(SSFT(), optimisation),))
    run_block(blocks[1], "adding_a_defence.md", names)
    assert set(names["results"]) == {"none", "canonical", "first_words:first_words"}
    mitigation = load_mitigation("first_words:first_words")
    safety = SafetyData(world, 10, 0)

    def families(user_family: str) -> list[str]:
        return [part.family for part, _ in mitigation(safety, world.sample(user_family, 20, seed=1))]

    assert families("mcq_safe_new") == ["mcq_unsafe"]
    assert families("map_safe@obey") == ["gen_unsafe"]
    assert mitigation_digest("canonical") is None
    digest = mitigation_digest("first_words:first_words")
    (tmp_path / "first_words.py").write_text(blocks[0] + "\n# another\n")
    importlib.reload(sys.modules["first_words"])
    linecache.checkcache()
    assert mitigation_digest("first_words:first_words") != digest


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
