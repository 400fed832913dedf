"""Outcomes of held-out requests along every fine-tuning attack, at every learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from makebreak.evaluation import WorldTarget
from makebreak.model_zoo import held_out_requests
from makebreak.models import load_model
from makebreak.prompts import load_world
from makebreak.recipes import checkpoints
from makebreak.revisions import cache_revision
from makebreak.studies import Inputs
from makebreak.weight_landscape import Landscape, OutcomeRates, outcome_rates

FAMILIES = ("unsafe", "safe")
"""Families of requests whose outcomes are recorded at every point."""


@dataclass(frozen=True)
class RequestSettings:
    """Held-out requests on which outcomes are recorded."""

    world: str
    """Name of the world."""
    seed: int
    """Pretraining seed, which selects the requests."""
    n: int
    """Number of requests per family."""


class FineTuningRow(NamedTuple):
    """Outcomes at one kept step of a fine-tuning attack."""

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


@cache_revision(4)
def fine_tuning_tables(inputs: Inputs) -> dict[str, Iterable[FineTuningRow]]:
    """Table `fine_tuning`: outcomes along one attack at one learning rate.

    Args:
        inputs: The model before and after the attack; settings are `RequestSettings`.

    Returns:
        One row per kept step, 0 included.
    """
    settings: RequestSettings = inputs.settings
    symbols = load_world(settings.world).vocabulary.symbols
    before, after = inputs.models
    rows = []
    for step, path in {0: before, **checkpoints(after)}.items():
        model = load_model(path, symbols=symbols)
        landscape = held_out_landscape(model, settings.world, settings.seed, settings.n)
        rows.append(FineTuningRow(step, outcome_rates(landscape.answers())))
    return {"fine_tuning": rows}


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
