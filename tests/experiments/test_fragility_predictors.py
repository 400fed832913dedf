"""Predictors of the study on shipped models of which the answer is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.fragility.predictors import PREDICTORS, SIGNS
from makebreak.fragility import BASELINES
from makebreak.mechanism import shared_activations
from makebreak.model_library import open_organism
from makebreak.model_zoo import Subject
from makebreak.models import load_model
from makebreak.prompts import load_world
from makebreak.store import Store


def _subject(name: str, store: Path) -> Subject:
    model, base = open_organism(name), open_organism(name.partition("-")[0] + "-base")
    symbols = load_world("mini").vocabulary.symbols
    loaded, loaded_base = (load_model(each.folder, symbols=symbols) for each in (model, base))
    return Subject(model.recipe, 300, loaded, loaded_base, Store(store))


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float | None]]:
    """Every predictor on an aligned model, and on its base in place of an aligned model."""
    store = tmp_path_factory.mktemp("store")
    subjects = {name: _subject(name, store) for name in ("mini-ssft", "mini-base")}
    result: dict[str, dict[str, float | None]] = {}
    for name, subject in subjects.items():
        with shared_activations({}):
            result[name] = {each: predictor.function(subject) for each, predictor in PREDICTORS.items()}
    return result


def test_every_predictor_is_a_number(values: dict[str, dict[str, float | None]]) -> None:
    """An aligned model has all of them."""
    for name, value in values["mini-ssft"].items():
        assert value is not None, name
        assert math.isfinite(value), name
    assert len(PREDICTORS) >= 25
    assert set(SIGNS.values()) <= {-1, 0, 1}
    assert tuple(PREDICTORS)[:3] == BASELINES


def test_base_has_no_update_and_no_refusal(values: dict[str, dict[str, float | None]]) -> None:
    """Predictors of the update are 0 or undefined where nothing was trained, and nothing is refused there."""
    base, aligned = values["mini-base"], values["mini-ssft"]
    assert base["weight_change"] == 0
    assert base["kl_on_safe"] == pytest.approx(0, abs=1e-6)
    for name in ("column_sine", "read_gain", "stable_rank", "top_share", "fisher_null_fraction"):
        assert base[name] is None, name
    assert base["sensitivity"] == pytest.approx(1)
    assert base["r50_random"] == 0, "it refuses nothing at the origin"
    assert base["prefix_depth"] < 1 < aligned["prefix_depth"]  # type: ignore[operator]
    assert base["margin"] < 0 < aligned["margin"]  # type: ignore[operator]
    assert aligned["r50_random"] > 0.1  # type: ignore[operator]


def test_predictors_do_not_change_the_model(tmp_path: Path) -> None:
    """Perturbations and ablations are undone, so that the order of predictors does not matter."""
    subject = _subject("mini-ssft", tmp_path)
    before = {name: p.detach().clone() for name, p in subject.model.named_parameters()}
    for name in ("loss_drop", "curvature", "quantisation_gap", "latent_vulnerability", "ablation_drop"):
        first = PREDICTORS[name].function(subject)
        assert PREDICTORS[name].function(replace(subject, activations={})) == pytest.approx(first), name
    assert all(bool((p == before[name]).all()) for name, p in subject.model.named_parameters())
