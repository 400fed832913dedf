"""Values and claims about attacks: of one model, as means of methods, in one world."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.jain2024.attack_families import JAILBREAKS, N_SLOTS, SOFT_PROMPT_SIZES
from experiments.recipes.composition import METHODS
from makebreak.claims import Claim, NotRun, Tables
from makebreak.mechanism import MIN_PER_OUTCOME

KINDS = {"co_text": "CO-Text", "co_task": "CO-Task", "misgen": "MisGen"}
"""Kinds of jailbreaks in Fig. 7 of the paper, by suffix of a claim's id."""
ALL_KINDS = list(KINDS.values())
SOFT_PROMPT = f"soft {SOFT_PROMPT_SIZES[-1]}"
GCG = f"gcg {N_SLOTS}"
ModelValue = Callable[[Tables], float | None]
"""A value of one model from its rows of every table; None where it is undefined."""


def claim_in_world(claim: AttackClaim, world: str | None) -> Claim:
    """The claim in a world; None for the study's own."""
    name = claim.settings["id"]
    value = partial(_by_seed, claim.of_seed, world)
    if world is None:
        return Claim(**claim.settings, value=value)
    statement = f"{claim.settings['statement']} ({world})"
    other: dict[str, Any] = {
        **claim.settings,
        "id": f"{name}.{world}",
        "statement": statement,
        "role": "part",
    }
    return Claim(**other, value=value)


def _by_seed(of_seed: ModelValue, world: str | None, tables: Tables) -> pd.Series:
    """Value by seed in a world."""
    if "attacks" not in tables:
        raise NotRun("this preset has no table 'attacks'")
    attacks = tables["attacks"]
    own = attacks["world"].iloc[0]  # cells of the study's own world come first
    if world == own or (world is not None and world not in set(attacks["world"])):
        raise NotRun(f"this run attacks no models of {world} as another world")
    of_world = Selection(tables, "world", world or own)
    seeds = sorted(of_world["attacks"]["seed"].unique())
    return pd.Series({seed: of_seed(Selection(of_world, "seed", seed)) for seed in seeds}, dtype=float)


class Selection(Mapping[str, pd.DataFrame]):
    """Rows of tables with a value of a column, selected when they are read.

    A table that was not computed has no rows, and a table without rows has no columns either.
    """

    def __init__(self, tables: Tables, column: str, value: object) -> None:
        self._tables, self._column, self._value = tables, column, value

    def __getitem__(self, name: str) -> pd.DataFrame:
        table = self._tables[name] if name in self._tables else pd.DataFrame()
        return table[table[self._column] == self._value] if len(table) else table

    def __contains__(self, name: object) -> bool:
        return name in self._tables

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)


def by_method(tables: Tables) -> dict[str, Tables]:
    """Tables of each method that was attacked."""
    attacked = set(tables["attacks"]["arm"])
    return {arm: Selection(tables, "arm", arm) for arm in METHODS if arm in attacked}


def mean_of_methods(value: ModelValue, tables: Tables) -> float | None:
    """Mean over the methods that were attacked; None where it is undefined for one."""
    return mean_of_defined([value(of_model) for of_model in by_method(tables).values()])


def mean_of_defined(values: list[float | None]) -> float | None:
    """Mean of the values; None if one of them is undefined or there are none."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined and len(defined) == len(values) else None


def minus(value: float | None, control: float | None) -> float | None:
    """Difference of a value and its control; None where one of them is undefined."""
    return None if value is None or control is None else value - control


def families(kinds: list[str]) -> list[str]:
    """Families of requests of several kinds of jailbreaks."""
    return [family for kind in kinds for family in JAILBREAKS[kind]]


def success_rate(tables: Tables, kind: str) -> float | None:
    """Success rate of a kind of jailbreak, mean over its families."""
    rows = tables["attacks"][tables["attacks"]["attack"].isin(JAILBREAKS[kind])]
    return float(rows["compliance_rate"].mean()) if len(rows) else None


def attack_value(tables: Tables, attack: str, column: str = "compliance_rate") -> float | None:
    """A column of one attack, its success rate by default; None if it was not run."""
    rows = tables["attacks"][tables["attacks"]["attack"] == attack]
    return float(rows[column].iloc[0]) if len(rows) else None


def success_difference(tables: Tables, attack: str, control: str) -> float | None:
    """Success rate of an attack minus that of its control."""
    return minus(attack_value(tables, attack), attack_value(tables, control))


def mean_projection(tables: Tables, attacks: list[str], outcome: str) -> float | None:
    """Normalised τ at the last layer, mean over requests; None for fewer than `MIN_PER_OUTCOME` of them."""
    rows = tables["projection"]
    last = rows["layer"] == rows["layer"].max()
    rows = rows[last & rows["attack"].isin(attacks) & (rows["outcome"] == outcome) & (rows["n"] > 0)]
    if rows["n"].sum() < MIN_PER_OUTCOME:
        return None
    return float(np.average(rows["tau_normalised"], weights=rows["n"]))


def jailbreak_projection(tables: Tables, kinds: list[str], outcome: str) -> float | None:
    """Normalised τ of jailbreaks with an outcome minus that of plain unsafe requests."""
    plain = mean_projection(tables, ["unsafe"], "all")
    return minus(mean_projection(tables, families(kinds), outcome), plain)


def first_value(rows: pd.DataFrame, column: str) -> float | None:
    """Value of the first row; None if there is no row or no value."""
    if not len(rows) or pd.isna(rows[column].iloc[0]):
        return None
    return float(rows[column].iloc[0])


def middle_layer(steering: pd.DataFrame) -> pd.DataFrame:
    """Rows of the states that were steered after block n // 2 of n."""
    if not len(steering):
        return steering
    return steering[steering["layer"] == (int(steering["layer"].max()) + 1) // 2]


class AttackClaim(NamedTuple):
    """A claim before it is made of a world."""

    of_seed: ModelValue
    """Value from the tables of one seed and world."""
    settings: dict[str, Any]
    """Arguments of `Claim` other than the value."""


def method_claim(value: ModelValue, **settings: Any) -> AttackClaim:
    """A claim whose value is the mean of methods of a value of one model."""
    return AttackClaim(partial(mean_of_methods, value), settings)


def seed_claim(value: ModelValue, **settings: Any) -> AttackClaim:
    """A claim whose value is computed from all models of a seed."""
    return AttackClaim(value, settings)
