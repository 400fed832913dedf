"""Claims about updates (C3): in which space of the base's matrix they lie, and what each part carries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import pandas as pd

from experiments.jain2024.claim_values import JAIN, SHAMS, by_arm, difference, mean_of, of_w_in
from experiments.recipes.composition import METHODS
from makebreak.claims import Claim, Tables, rows_of

_BASE_SHARE = 0.9
"""Share of the base's own output energy that C3.weighted looks at."""
_DECAYS = ("0.01", "0.1", "1")


def _sine(tables: Tables, against: str = "update", arms: Sequence[str] = METHODS) -> pd.DataFrame:
    return by_arm(of_w_in(tables, "updates", against=against), "sine", arms)


def _sine_above(against: str, tables: Tables) -> pd.Series:
    """Sine of the update minus that of a reference, mean of methods."""
    return mean_of(_sine(tables) - _sine(tables, against))


def _sine_above_sham(tables: Tables) -> pd.Series:
    sines = _sine(tables, arms=(*METHODS, *SHAMS))
    return cast("pd.Series", mean_of(sines[list(METHODS)]) - mean_of(sines[list(SHAMS)]))


def _sine_difference(first: str, second: str, tables: Tables) -> pd.Series:
    return difference(_sine(tables, arms=(first, second)), first, second)


def _energy_above_chance(tables: Tables) -> pd.Series:
    rows = of_w_in(tables, "updates", against="update")
    return mean_of(by_arm(rows, "null") - by_arm(rows, "chance"))


def _weighted_energy(tables: Tables) -> pd.Series:
    rows = of_w_in(tables, "weighted_energy", family="unsafe", base_share=_BASE_SHARE)
    return mean_of(by_arm(rows, "energy") - by_arm(rows, "chance"))


def _carried(tables: Tables, matrices: str, space: str) -> pd.DataFrame:
    """Share of what the update is worth in margin that a part of it carries.

    By the exact rank only W_in has a left null space in these networks; for all matrices it is the complement
    of the outputs that hold 90 % of the energy.
    """
    rule = "exact" if matrices == "mlp.W_in" else "energy90"
    rows = rows_of(tables, "update_projection", matrices=matrices, rule=rule, space=space)
    return by_arm(rows, "share_of_margin", METHODS)


def _carried_above_random(matrices: str, space: str, tables: Tables) -> pd.Series:
    random = _carried(tables, matrices, f"random as {space}")
    return mean_of(_carried(tables, matrices, space) - random)


def _carried_by_null_part(tables: Tables) -> pd.Series:
    return mean_of(_carried(tables, "mlp.W_in", "left null"))


_sine_claim = partial(Claim, unit="sine", negligible=0.02)
_part_claim = partial(Claim, unit="share of margin")


UPDATE_PRIMARY = (
    _sine_claim(
        id="C3",
        role="primary",
        source=JAIN,
        statement="Outputs of the update of W_in lie in the left null space of the base's W_in more than "
        "random outputs",
        quantity="sine of ΔW's leading outputs to W's column space (90 % of the energy of both), update - "
        "outputs in uniformly random (Haar) directions, mean of layers and methods",
        value=partial(_sine_above, "haar"),
    ),
    _part_claim(
        id="C3.causal",
        role="primary",
        statement="The part of the update of W_in in the left null space carries more of the refusal than a "
        "random part of the same dimension",
        quantity="share of what the update of W_in is worth in margin, with only its projection on the left "
        "null space (exact rank) - the same for random spaces, mean of methods",
        value=partial(_carried_above_random, "mlp.W_in", "left null"),
        negligible=0.05,
    ),
)
"""Primary claims about spaces of updates."""
UPDATE_CLAIMS = (
    *(
        _sine_claim(
            id=f"C3.{control}",
            statement=f"The update of W_in lies in the left null space more than {of}",
            quantity=f"sine, ssft - {control}",
            value=partial(_sine_difference, "ssft", control),
        )
        for control, of in {
            "remap": "the remap control's",
            "new_operator": "one that teaches a new operator",
            "continued": "that of continued pretraining",
        }.items()
    ),
    _sine_claim(
        id="C3.sham",
        statement="The update of W_in lies in the left null space more than a sham control's",
        quantity="sine, method - its sham, mean of methods",
        value=_sine_above_sham,
    ),
    *(
        _sine_claim(
            id=f"C3.decay_{decay}",
            statement=f"Weight decay of {decay} moves the update of W_in into the left null space",
            quantity=f"sine, ssft with weight decay {decay} - ssft without weight decay",
            value=partial(_sine_difference, f"ssft_decay_{decay}", "ssft_no_decay"),
        )
        for decay in _DECAYS
    ),
    _sine_claim(
        id="C3.other_seed",
        statement="The update of W_in lies in the left null space of its own base's W_in more than of "
        "another pretraining seed's",
        quantity="sine, own base - other base, mean of methods",
        value=partial(_sine_above, "other_seed"),
    ),
    Claim(
        id="C3.energy",
        statement="The update of W_in has more energy in the exact left null space than chance gives",
        quantity="share of ΔW's energy in the left null space - chance, exact rank, mean of layers "
        "and methods",
        unit="share of energy",
        value=_energy_above_chance,
        negligible=0.02,
    ),
    Claim(
        id="C3.weighted",
        statement="On unsafe requests the update writes less than chance where the base writes most",
        quantity="share of the energy of ΔW·a in the base's outputs that hold 90 % of its own output energy "
        "- chance, unsafe requests, mean of layers and methods",
        unit="share of energy",
        value=_weighted_energy,
        side="below",
        negligible=0.02,
    ),
    _part_claim(
        id="C3.causal_share",
        statement="The part of the update of W_in in the left null space carries most of the refusal",
        quantity="share of what the update of W_in is worth in margin, with only its projection on the left "
        "null space (exact rank), mean of methods",
        value=_carried_by_null_part,
        bound=0.5,
        no_effect=0.0,
    ),
    _part_claim(
        id="C3.causal_column",
        statement="The part of the update of W_in in the column space carries more of the refusal than a "
        "random part of the same dimension",
        quantity="the same as C3.causal, of the column space of W_in",
        value=partial(_carried_above_random, "mlp.W_in", "column"),
    ),
    _part_claim(
        id="C3.causal_all",
        statement="The part of the updates of all matrices in their left null spaces carries more of the "
        "refusal than random parts of the same dimensions",
        quantity="the same as C3.causal, of every matrix of every block, of the complement of the outputs "
        "that hold 90 % of its energy",
        value=partial(_carried_above_random, "all", "left null"),
    ),
)
"""Descriptive claims about spaces of updates."""
