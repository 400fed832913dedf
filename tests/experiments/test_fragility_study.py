"""The study of fragility: claims on planted tables, and the smallest preset from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest
from fragility_zoo import copy_of, table, trajectories

from experiments.command import main
from experiments.fragility import STUDY
from experiments.fragility.claims import OUTCOME
from experiments.fragility.export import Export, export
from experiments.fragility.predictors import PREDICTORS
from experiments.fragility.presets import PRESETS
from makebreak.claims import evaluate_claims
from makebreak.errors import InvalidInput
from makebreak.fragility import BASELINES, CONFIRMATORY_SEEDS, read_zoo, stages_of
from makebreak.store import Store
from tests.experiments.store_files import modification_times

SHAPE = (6, 14, 6)


def _zoo(first_seed: int, sign: float, sources: int = 0) -> pd.DataFrame:
    """Models whose compliance is the opposite of VISAGE and of nothing else; `sign` turns the association."""
    random = np.random.default_rng(first_seed + sources)
    y = trajectories(random, SHAPE)
    columns = {f"predictor.{name}": trajectories(random, SHAPE) for name in PREDICTORS}
    columns["predictor.visage"] = copy_of(-sign * y, 0.8, random)
    return table({**columns, f"outcome.{OUTCOME}": y}, first_seed)


def _verdicts(zoo: pd.DataFrame) -> dict[str, str]:
    return {row.id: row.verdict for row in evaluate_claims(STUDY.claims, {"zoo": zoo})}


def test_claim_follows_the_planted_sign() -> None:
    """VISAGE is supported where it is planted and contradicted where it is turned; noise is neither."""
    verdicts, turned = _verdicts(_zoo(5, 1.0)), _verdicts(_zoo(5, -1.0))
    assert verdicts["F.visage"] == verdicts["F3"] == verdicts["F2"] == "supported"
    assert turned["F.visage"] == turned["F3"] == "contradicted"
    others = [name for name in verdicts if name.startswith("F.") and name != "F.visage"]
    supported = [name for name in others if verdicts[name] == "supported"]
    assert len(supported) <= 4, "one in forty of 29 is expected by chance"
    assert verdicts["F1"] != "supported", "the baselines are noise"


def test_confirmatory_seeds_alone_decide() -> None:
    """Exploratory seeds with the opposite association change no claim once there are confirmatory ones."""
    both = pd.concat([_zoo(5, 1.0), _zoo(0, -1.0)[lambda rows: rows.seed < 5]], ignore_index=True)
    assert _verdicts(both)["F.visage"] == "supported"
    assert _verdicts(both[both.seed < 5])["F.visage"] == "contradicted"


def test_seeds_after_the_confirmatory_ones_are_exploratory() -> None:
    """A seed that is run once the results are known changes no confirmatory claim."""
    rows = pd.DataFrame({"world": "mini", "seed": [0, 4, 5, 14, 15, 1000]})
    assert stages_of(rows).tolist() == [*["exploratory"] * 2, *["confirmatory"] * 2, *["exploratory"] * 2]
    assert set(stages_of(rows.assign(world="text"))) == {"exploratory"}  # no frozen definition precedes it
    later = _zoo(15, -1.0)
    both = pd.concat([_zoo(5, 1.0), later], ignore_index=True)
    assert _verdicts(both)["F.visage"] == "supported"
    assert _verdicts(later)["F.visage"] == "contradicted"


def test_seeds_and_mechanisms_of_record() -> None:
    """Fourteen mechanisms or more, six doses, and no seed that is both explored and confirmed."""
    small = PRESETS["small"]
    for world in small.worlds:
        confirmatory = CONFIRMATORY_SEEDS[world]
        assert [seed for seed in small.seeds if seed not in confirmatory] == [0, 1, 2, 3, 4]
        assert set(confirmatory) == {5, 6, 7, 8, 9, 10, 11, 12, 13, 14} < set(small.seeds)
    assert [len(schedule.doses) for schedule in small.schedules] == [6, 6]
    assert len(small.mechanisms) - 2 >= 14
    for schedule in small.schedules:
        recipes = {small.recipe(schedule.world, 0, name) for name in small.mechanisms}
        assert len(recipes) == len(small.mechanisms)
        steps = {recipe.alignments[-1].optimisation.steps for recipe in recipes}
        assert steps == {schedule.doses[-1]}


def test_presets_of_synthetic_worlds_need_no_pretrained_model(tmp_path: Path) -> None:
    """The check of the language model that `--preset language` needs passes without one."""
    for preset in PRESETS.values():
        for gate in STUDY.gates:
            gate(preset, preset.worlds[0], Store(tmp_path))


@pytest.mark.slow
def test_smallest_preset_runs_every_stage_once(tmp_path: Path) -> None:
    """All tables and figures are written, and a second run computes nothing."""
    words = [
        "fragility",
        "--preset",
        "smoke",
        "--store",
        str(tmp_path / "store"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    tables = {path.stem for path in (tmp_path / "out" / "tables").iterdir()}
    expected = {
        "models",
        "predictors",
        "outcomes",
        "fine_tuning",
        "zoo",
        "counts",
        "associations",
        "predictions",
        "controls",
    }
    assert expected <= tables
    claims = json.loads((tmp_path / "out" / "claims.json").read_text())
    assert {row["id"] for row in claims} == {claim.id for claim in STUDY.claims}
    zoo = pd.read_csv(tmp_path / "out" / "tables" / "zoo.csv")
    assert {f"predictor.{name}" for name in BASELINES} <= set(zoo)
    assert zoo[zoo.mechanism == "sham"].is_control.all()
    assert not zoo.duplicated(["seed", "mechanism", "dose"]).any()
    before = modification_times(tmp_path / "store")
    assert main(words) == 0
    assert modification_times(tmp_path / "store") == before
    _check_export(tmp_path, zoo)


def _check_export(folder: Path, zoo: pd.DataFrame) -> None:
    """Seeds that are exported one after the other give the table of both; a store without any is named."""
    options = Export("smoke", ("mini",), store=folder / "store", out=folder / "both.parquet")
    both = export(options)
    pd.testing.assert_frame_equal(both[list(zoo)], zoo, check_dtype=False)
    for seed in (1, 0, 1):
        export(replace(options, seeds=(seed,), out=folder / "parts.parquet"))
    pd.testing.assert_frame_equal(read_zoo(folder / "parts.parquet"), read_zoo(folder / "both.parquet"))
    with pytest.raises(InvalidInput, match="no finished training of preset small"):
        export(replace(options, preset="small"))
    other = both.assign(recipe=both.recipe.str.replace('"steps": 4', '"steps": 5'))
    other[both.seed == 1].to_parquet(folder / "other.parquet")
    with pytest.raises(InvalidInput, match=r"seed 1, mechanism ssft.* that preset smoke does not train so"):
        export(replace(options, seeds=(0,), out=folder / "other.parquet"))
    with pytest.raises(InvalidInput, match="preset 'smoky': did you mean 'smoke'"):
        export(replace(options, preset="smoky"))
