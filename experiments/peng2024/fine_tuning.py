"""Outcomes of held-out requests along every fine-tuning attack, at every learning rate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from experiments.peng2024.presets import RATES, Preset, attacks_on
from makebreak.evaluation import WorldTarget
from makebreak.landscape import Landscape, OutcomeRates, outcome_rates
from makebreak.models import load_model
from makebreak.prompts import load_world
from makebreak.recipes import build, checkpoints
from makebreak.store import Store, write_json
from makebreak.zoo import held_out_requests

FAMILIES = ("unsafe", "safe")
"""Families of requests whose outcomes are recorded at every point."""
ROWS = "rows.json"
"""File of a step's rows in its folder of the store."""


class FineTuningRow(NamedTuple):
    """Outcomes at one kept step of a fine-tuning attack."""

    kind: str
    """Name of the attack, one of `ATTACKS`."""
    rate: float
    """Learning rate."""
    step: int
    """Optimisation step; 0 is the model before the attack."""
    rates: OutcomeRates
    """Shares of held-out requests by outcome."""


def held_out_landscape(
    model: PreTrainedModel, world: str, seed: int, n: int, families: tuple[str, ...] = FAMILIES
) -> Landscape:
    """A model with held-out requests.

    Args:
        model: The model.
        world: Name of the world.
        seed: Pretraining seed, which selects the requests.
        n: Requests per family.
        families: Families of requests.

    Returns:
        The landscape, whose answers are outcomes that were decided exactly.
    """
    requests = {family: held_out_requests(world, family, n, seed, "score") for family in families}
    return Landscape(WorldTarget(model), requests)


def fine_tuning_rows(
    preset: Preset, world: str, seed: int, arm: str, store: Store
) -> tuple[list[FineTuningRow], list[Path]]:
    """Outcomes along all attacks on one model.

    Args:
        preset: The preset.
        world: Name of the world.
        seed: Pretraining seed.
        arm: The model.
        store: Store of models and outcomes.

    Returns:
        One row per attack, learning rate and kept step (0 included), and the folders that they came from.
    """
    rows: list[FineTuningRow] = []
    folders: list[Path] = []
    for attack in attacks_on(arm):
        for rate in RATES:
            model = build(preset.attack_recipe(world, seed, arm, attack, rate), store)
            start = build(preset.recipe(world, seed, arm), store)
            outcomes = _outcomes_along(preset, world, seed, model, start, store)
            folders += [model, outcomes]
            rows += [
                FineTuningRow(attack, rate, point["step"], outcome_rates(point["outcomes"]))
                for point in json.loads((outcomes / ROWS).read_text())
            ]
    return rows, folders


def _outcomes_along(preset: Preset, world: str, seed: int, model: Path, start: Path, store: Store) -> Path:
    """Folder with the outcomes of all requests at every kept step of a run that began at `start`."""
    symbols = load_world(world).vocabulary.symbols

    def evaluate(folder: Path) -> None:
        rows = []
        for step, path in {0: start, **checkpoints(model)}.items():
            landscape = held_out_landscape(load_model(path, symbols=symbols), world, seed, preset.n)
            rows.append({"step": step, "outcomes": landscape.answers()})
        write_json(folder / ROWS, rows)

    config = {"n": preset.n, "families": list(FAMILIES), "seed": seed}
    return store.build("finetuned-outcomes", revision=3, config=config, parents=[model, start], make=evaluate)


def best_rate(rows: Sequence[Mapping[str, Any]], attack: str) -> float:
    """The learning rate that ends with most unsafe requests answered; the smallest of equal ones.

    Args:
        rows: `FineTuningRow`s of one model as mappings.
        attack: Name of the attack.

    Returns:
        The learning rate.
    """
    last_step = max(row["step"] for row in rows)
    last = [row for row in rows if row["kind"] == attack and row["step"] == last_step]
    return max(last, key=lambda row: (row["compliance_rate"], -row["rate"]))["rate"]
