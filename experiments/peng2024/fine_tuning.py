"""Outcomes of held-out requests along every fine-tuning attack, at every learning rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from experiments.peng2024.presets import RATES, Preset, attacks_on
from experiments.study import stored_rows
from makebreak.evaluation import WorldTarget
from makebreak.landscape import Landscape, OutcomeRates, outcome_rates
from makebreak.models import load_model
from makebreak.prompts import load_world
from makebreak.recipes import build, checkpoints
from makebreak.store import Store
from makebreak.tables import Rows
from makebreak.zoo import held_out_requests

FAMILIES = ("unsafe", "safe")
"""Families of requests whose outcomes are recorded at every point."""


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
            points, outcomes = _outcomes_along(preset, world, seed, model, start, store)
            folders += [model, outcomes]
            rows += [
                FineTuningRow(attack, rate, point["step"], outcome_rates(point["outcomes"]))
                for point in points
            ]
    return rows, folders


def _outcomes_along(
    preset: Preset, world: str, seed: int, model: Path, start: Path, store: Store
) -> tuple[Rows, Path]:
    """Outcomes of all requests at every kept step of a run that began at `start`, and their folder."""
    symbols = load_world(world).vocabulary.symbols

    def evaluate(_: Path) -> Iterator[dict[str, Any]]:
        for step, path in {0: start, **checkpoints(model)}.items():
            landscape = held_out_landscape(load_model(path, symbols=symbols), world, seed, preset.n)
            yield {"step": step, "outcomes": landscape.answers()}

    config = {"n": preset.n, "families": list(FAMILIES), "seed": seed}
    return stored_rows(store, "finetuned-outcomes", 3, config, evaluate, [model, start])


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
