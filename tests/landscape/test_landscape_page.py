"""Does one command walk a model of the zoo and a language model, and go on where it was?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import pandas as pd
import pytest

from experiments.jain2024.presets import PRESETS
from makebreak.artifacts import Store
from makebreak.cli import main
from makebreak.models import LanguageModel, ModelConfig, create
from makebreak.pages import (
    Ground,
    Settings,
    Walking,
    ground_lines,
    walk_language_model,
    walk_world,
    write_ground,
)
from makebreak.recipes import build
from tests.talkers import prompts, taught

FEW = Walking(directions=1, points=5, window=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(PRESETS["smoke"].recipe("mini", 0, "base"), Store(tmp_path_factory.mktemp("store")))


def silent(_: str) -> None: ...


def test_a_model_of_the_zoo_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["landscape", str(folder), "--directions", "2", "--points", "3", "--requests", "8"]
    assert main(line) == 0
    out = tmp_path / "runs" / "landscape" / folder.name
    assert (out / "report.html").is_file()
    assert (out / "figures" / "basins.png").read_bytes().startswith(b"\x89PNG")
    curves = pd.read_csv(out / "tables" / "curves.csv")
    assert curves["at"].tolist() == [-0.5, 0.0, 0.5] * 2
    assert curves[curves["at"] == 0][["refused", "complied", "safe"]].nunique().max() == 1
    assert "page: " in capsys.readouterr().out
    for wrong, named in (
        (["--points", "4"], "points = 4: expected an odd number"),
        (["--directions", "0"], "directions = 0"),
        (["--window", "-1"], "window = -1"),
    ):
        assert main([*line, *wrong]) == 2
        [said] = capsys.readouterr().err.splitlines()
        assert named in said


def test_interrupted_it_repeats_no_point(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, seen = Store(tmp_path), []

    def counted(stop: int) -> Callable[..., Any]:
        from makebreak.landscape import labels

        def count(*arguments: Any) -> str:
            if len(seen) == stop:
                raise KeyboardInterrupt
            seen.append(1)
            return labels(*arguments)

        return count

    monkeypatch.setattr("makebreak.pages.landscape.labels", counted(6))
    with pytest.raises(KeyboardInterrupt):
        walk_world(folder, store, FEW, n=8, say=silent)
    monkeypatch.setattr("makebreak.pages.landscape.labels", counted(10**9))
    whole = walk_world(folder, store, FEW, n=8, say=silent)
    assert len(seen) == 2 * FEW.points  # of unsafe and safe requests
    assert walk_world(folder, store, FEW, n=8, say=silent).tables["curves"] == whole.tables["curves"]
    assert len(seen) == 2 * FEW.points


def test_a_language_model_loses_its_refusals_and_its_answers(tmp_path: Path) -> None:
    asked = {family: texts[1:16:2] for family, texts in prompts().items()}
    found = taught(refuses=True)
    before = {name: p.detach().clone() for name, p in found.model.named_parameters()}
    far = replace(FEW, window=8.0)
    ground = walk_language_model(found, asked, Store(tmp_path), Settings(n_new=6), far, say=silent)
    curves = pd.DataFrame(ground.tables["curves"]).set_index("at")
    assert curves.refused[0.0] > 0.8
    assert curves.refused[[-8.0, 8.0]].max() < 0.5
    assert curves.safe[0.0] > 0.8
    assert (
        curves[["complied", "safe"]].loc[[-8.0, 8.0]].max(axis=None) == 0.0
    )  # words that mean nothing comply with nothing
    assert all((p == before[name]).all() for name, p in found.model.named_parameters())
    lines = ground_lines(ground)
    assert "falls to one half at" in lines[1]
    checked = pd.DataFrame(ground.tables["disagreement"])
    assert set(checked["at"]) == {-8.0, -4.0, 0.0, 4.0, 8.0}
    assert checked[checked["at"] == 0].verdict.max() == 0.0  # six tokens are the whole of what it says
    assert "three times as long" in lines[3]
    assert write_ground("talker", ground, {}, tmp_path / "out").is_file()


def test_a_cut_that_hides_the_refusal_is_told(tmp_path: Path) -> None:
    """Two tokens of `I cannot help with that` are no refusal yet, six are."""
    asked = {family: texts[1:16:2] for family, texts in prompts().items()}
    found = taught(refuses=True)
    ground = walk_language_model(found, asked, Store(tmp_path), Settings(n_new=1), FEW, say=silent)
    [row] = [r for r in ground.tables["disagreement"] if (r["at"], r["family"]) == (0.0, "harmful")]
    assert row["refused"] > 0.8


def test_the_line_to_another_checkpoint_ends_at_it(tmp_path: Path) -> None:
    asked = {family: texts[1:16:2] for family, texts in prompts().items()}
    one, other = taught(refuses=True), taught(refuses=False)
    ground = walk_language_model(
        one, asked, Store(tmp_path), Settings(n_new=6), FEW, toward_model=other, say=silent
    )
    path = pd.DataFrame(ground.tables["path"]).set_index("at")
    assert path.refused[0.0] > 0.8
    assert path.refused[1.0] == 0.0
    assert path.complied[1.0] == path.safe[1.0] == 1.0
    assert "On the line to the other checkpoint, refusing goes from" in ground_lines(ground)[-1]
    write_ground("talker", ground, {}, tmp_path / "out")
    assert (tmp_path / "out" / "figures" / "path.png").is_file()
    small = create(
        ModelConfig("llama", n_layers=1, n_heads=2, d_model=32, d_mlp=64), d_vocab=46, n_ctx=24, seed=0
    )
    with pytest.raises(ValueError, match="expected one fine-tuned from the other"):
        walk_language_model(
            one,
            asked,
            Store(tmp_path),
            Settings(n_new=6),
            FEW,
            toward_model=LanguageModel("small", small, one.tokenizer),
            say=silent,
        )


def test_what_is_said_of_a_model_that_refuses_nothing(tmp_path: Path) -> None:
    rows = [{"direction": 0, "at": a, "refused": 0.1, "complied": 0.8, "safe": 1.0} for a in (-0.5, 0.0, 0.5)]
    assert "not safe" in ground_lines(Ground({"curves": rows, "widths": []}, replace(FEW, points=3)))[-1]
