"""Scoring of a measure on models of the table."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fragility_zoo import table

from makebreak.cli.main import main
from makebreak.configs import to_json
from makebreak.errors import InvalidInput
from makebreak.fragility import choose_models, read_zoo, score_measure, trainings
from makebreak.fragility.score import NOISE
from makebreak.models import MODEL_SIZES
from makebreak.recipes import Alignment, base_recipe
from makebreak.settings import ScoreSettings
from makebreak.training import SSFT, Optimisation, UpdateSubspace

SOURCE = '''
import makebreak as mb


@mb.measure("copy")
def copy(subject):
    """The number of steps plus the learning rate: known from the recipe."""
    return subject.step + 1e3 * subject.recipe.alignments[-1].optimisation.learning_rate


@mb.measure("nothing")
def nothing(subject):
    return None
'''


@pytest.fixture
def zoo() -> pd.DataFrame:
    """Two seeds, eight mechanisms that are learning rates, and two doses of a model of two layers."""
    random = np.random.default_rng(0)
    rows = table({"outcome.harmful.compliance": random.random((2, 8, 2))})
    rows["step"] = rows.dose
    recipes = []
    for seed, mechanism in zip(rows.seed, rows.mechanism, strict=True):
        rate = 1e-3 * (1 + int(str(mechanism)[-2:]))
        optimisation = Optimisation(
            2, rate, batch_size=4, final_share=1.0, checkpoints=1, extra_checkpoints=(1,)
        )
        base = base_recipe("mini").recipe(int(seed))
        base = replace(base, model=MODEL_SIZES["tiny"], optimisation=replace(base.optimisation, steps=2))
        constraint = UpdateSubspace("column") if rate > 5e-3 else None
        alignment = Alignment(SSFT(), optimisation, constraint=constraint)
        recipes.append(json.dumps(to_json(replace(base, alignments=(alignment,)))))
    rows["recipe"] = recipes
    rates = 1 + rows.mechanism.str[-2:].astype(int)
    for name in ("margin", "weight_change", "loss_drop"):
        rows[f"predictor.{name}"] = random.random(len(rows))
    rows["predictor.margin"] = 7.0 * rates  # orders the models of a dose as the measure does
    return rows


def test_models_are_whole_trainings_of_few_seeds(zoo: pd.DataFrame) -> None:
    """At least two seeds and the seven mechanisms of a partial correlation are chosen."""
    chosen = choose_models(zoo, "mini", 8)
    assert chosen.seed.nunique() == 2
    assert chosen.mechanism.nunique() == 7
    assert len(chosen) == 28
    assert [len(each.steps) for each in trainings(chosen)] == [2] * 14
    with pytest.raises(InvalidInput, match="33 models"):
        choose_models(zoo, "mini", 33)
    with pytest.raises(InvalidInput, match="world 'hidden'"):
        choose_models(zoo, "hidden", 8)


@pytest.mark.slow
def test_measure_that_orders_models_as_a_predictor_has_its_correlation(
    zoo: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A measure known from the recipe lands where a predictor of the same order does; controls are there."""
    (tmp_path / "planted_measure.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{':'.join(sys.path)}")
    rows = score_measure("planted_measure:copy", zoo, tmp_path / "store", ScoreSettings(models=32))
    by_name = rows.set_index("predictor")
    assert set(by_name.index) == {"copy", "margin", "weight_change", "loss_drop", NOISE}
    assert by_name.rank_correlation["copy"] == pytest.approx(by_name.rank_correlation["margin"])
    assert (rows.n_models == 32).all()
    with pytest.raises(InvalidInput, match="undefined on all 32 models"):
        score_measure("planted_measure:nothing", zoo, tmp_path / "store", ScoreSettings(models=32))
    file = tmp_path / "zoo.parquet"
    zoo.to_parquet(file)
    words = ["score", "planted_measure:copy", "--zoo", str(file), "--store", str(tmp_path / "store")]
    assert main([*words, "--models", "32", "--out", str(tmp_path / "scores.csv")]) == 0
    printed = "".join(capsys.readouterr())
    assert "32 models of 8 mechanisms and 2 pretraining seeds, world mini" in printed
    correlation = -by_name.rank_correlation["copy"]  # compliance is the loss of robustness
    assert f"harmful data, compliance  {correlation:+.2f} [" in printed
    assert len(pd.read_csv(tmp_path / "scores.csv")) == len(rows)


def test_bad_input(tmp_path: Path) -> None:
    """Every fault is one line that names the value."""
    with pytest.raises(InvalidInput, match="does not exist"):
        read_zoo(tmp_path / "absent.parquet")
    (tmp_path / "bad.parquet").write_text("text")
    with pytest.raises(InvalidInput, match=r"no \.parquet file"):
        read_zoo(tmp_path / "bad.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(InvalidInput, match="lacks the columns"):
        read_zoo(tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="models = 0"):
        ScoreSettings(models=0)
