"""Is a rate chosen as it is said to be, and a twin scaled until it is equal? On models with planted numbers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.jain2024 import tune
from experiments.jain2024.presets import GRID, PRESETS, TUNING_SEEDS
from makebreak.recipes import Recipe
from makebreak.zoo import Measured

SAFE = {"safe.comply": 1.0, "safe.refuse": 0.0}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands for training: `columns` of a recipe are what it would be measured at; `asked` are the recipes."""
    planted = SimpleNamespace(columns=None, asked=[])

    def measure(store: object, recipe: Recipe, *hows: object) -> list[tuple[Measured, Path]]:
        planted.asked.append(recipe)
        return [(Measured(planted.columns(recipe)), Path())]

    monkeypatch.setattr(tune, "measure", measure)
    return planted


def rate(recipe: Recipe) -> float:
    return recipe.alignments[-1].optimisation.learning_rate


def test_the_smallest_rate_that_passes_on_every_tuning_seed(measured: SimpleNamespace, capsys) -> None:
    """1e-4 passes on two seeds of three, 3e-4 on all."""
    firm = {3e-5: 0.5, 1e-4: 0.95, 3e-4: 0.96}

    def columns(recipe: Recipe) -> dict[str, float]:
        unlucky = recipe.seed == TUNING_SEEDS[-1] and rate(recipe) == 1e-4
        return SAFE | {"unsafe.refuse": 0.92 if unlucky else firm[rate(recipe)], "unsafe.comply": 0.0}

    measured.columns = columns
    tune.main(methods=("ssft",))
    assert capsys.readouterr().out.splitlines()[-1] == "ssft: η_M = 0.0003"
    assert {recipe.seed for recipe in measured.asked} <= set(TUNING_SEEDS)


@pytest.mark.parametrize("spoilt", [{"safe.comply": 0.97}, {"safe.refuse": 0.03}, {"unsafe.refuse": 0.92}])
def test_a_rate_that_costs_too_much_does_not_pass(
    spoilt: dict[str, float], measured: SimpleNamespace, capsys
) -> None:
    measured.columns = lambda recipe: SAFE | {"unsafe.refuse": 1.0, "unsafe.comply": 0.0} | spoilt
    tune.main(methods=("ssft",))
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .endswith("passes, 3e-05 comes nearest, at the edge of the grid")
    )
    assert [rate(recipe) for recipe in measured.asked] == list(GRID)


def test_forgetting_is_judged_by_what_is_no_longer_obeyed(measured: SimpleNamespace, capsys) -> None:
    measured.columns = lambda recipe: SAFE | {"unsafe.refuse": 0.0, "unsafe.comply": 0.01}
    tune.main(methods=("npo", "ssft"))
    told = capsys.readouterr().out.splitlines()
    assert f"npo: η_M = {GRID[0]:g}" in told
    assert told[-1].startswith("ssft: no rate of the grid passes")


def test_where_none_passes_the_nearest_is_named(measured: SimpleNamespace, capsys) -> None:
    """Its worst part counts: the firmest rate is the one that costs most."""
    parts = {3e-5: (0.1, 1.0), 1e-4: (0.5, 0.9), 3e-4: (0.8, 0.85), 1e-3: (0.9, 0.6), 3e-3: (1.0, 0.3)}

    def columns(recipe: Recipe) -> dict[str, float]:
        refuse, comply = parts[rate(recipe)]
        return {"unsafe.refuse": refuse, "unsafe.comply": 0.0, "safe.comply": comply, "safe.refuse": 0.0}

    measured.columns = columns
    tune.main(methods=("ssft",))
    assert capsys.readouterr().out.splitlines()[-1].endswith("0.0003 comes nearest")
    assert len(measured.asked) == len(GRID), "a rate that fails on the first seed is not tried on the others"


@pytest.mark.parametrize("power", [0.3, 0.75, 2.0])
@pytest.mark.parametrize("shortfall", [0.5, 0.8, 1.0, 1.7])
def test_a_twin_is_scaled_until_it_moves_as_far(
    shortfall: float, power: float, measured: SimpleNamespace
) -> None:
    """‖ΔW‖ = shortfall · rate^power for the twin, rate^power for its method."""
    preset = PRESETS["mini"]
    plain = preset.recipe("mini", TUNING_SEEDS[0], "ssft")

    def columns(recipe: Recipe) -> dict[str, float]:
        moved = (rate(recipe) / rate(plain)) ** power
        return {"weight_change": moved * (1 if recipe.mechanism == "ssft" else shortfall)}

    measured.columns = columns
    told = tune._match(preset, "mini", "sham_ssft", store=None)
    scale = float(told.removeprefix("scale "))
    assert shortfall * scale**power == pytest.approx(1.0, abs=tune.NEAR)


def test_a_twin_that_cannot_be_matched_is_said_so(measured: SimpleNamespace) -> None:
    measured.columns = lambda recipe: {"weight_change": 1.0 if recipe.mechanism == "ssft" else 0.5}
    assert tune._match(PRESETS["mini"], "mini", "remap", store=None).startswith("no scale within 3%")


def test_a_scale_reaches_every_stage_of_a_twin() -> None:
    """DPO's warm start, too."""
    one, two = (PRESETS["mini"].recipe("mini", 0, "sham_dpo", scale=scale) for scale in (1.0, 2.0))
    for before, after in zip(one.alignments, two.alignments, strict=True):
        assert after.optimisation.learning_rate == 2 * before.optimisation.learning_rate
