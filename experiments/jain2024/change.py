"""One number per seed for each claim about the change: where it writes, what it reads, how refusal comes about."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from experiments.jain2024.presets import METHODS

Values = dict[str, list[float | None]]
_WEAK = "ssft_small"


def by_claim(rows: list[dict[str, float]]) -> Values:
    """One row per seed → one list per claim; undefined values are None."""
    return {claim: [None if pd.isna(row[claim]) else float(row[claim]) for row in rows] for claim in rows[0]}


def mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def of_change(tables: Mapping[str, pd.DataFrame]) -> Values:
    """Values of C3 to C5, C8 and M2 to M7 from the tables of `measure`: `Change`, `Where` and `Extrapolation`."""
    found: Values = {}
    by_seed = [_of_seed(tables, seed) for seed in sorted(tables["updates"].seed.unique())]
    for part in (_writing, _reading, _sensitivity, _rivals, _anatomy, _where):
        found |= by_claim([part(of_seed) for of_seed in by_seed])
    found |= _extrapolation(tables.get("extrapolation"))
    return found | _twin(tables["updates"]) | _never_null(tables["rivals"])


def _of_seed(tables: Mapping[str, pd.DataFrame], seed: int) -> dict[str, pd.DataFrame]:
    names = ("updates", "energy", "reading", "sensitivity", "rivals", "anatomy", "ranks", "parts")
    return {name: tables[name][tables[name].seed == seed] for name in names}


def _writing(tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    of_input = tables["updates"][tables["updates"].matrix == "mlp.W_in"]
    sine = of_input.groupby(["arm", "against"]).sine.mean()
    own = of_input[of_input.against == "update"].groupby("arm")
    energy = (own.null.mean() - own.chance.mean()).to_dict()
    curves = tables["energy"]
    quarter = curves[(curves.family == "unsafe") & (curves.chance == 0.25)].groupby("arm").energy.mean()
    return {
        "C3": mean({m: sine[m, "update"] - sine[m, "haar"] for m in METHODS}),
        "C3.sham": mean({m: sine[m, "update"] - sine[f"sham_{m}", "update"] for m in METHODS}),
        "C3.other_seed": mean({m: sine[m, "update"] - sine[m, "other_seed"] for m in METHODS}),
        "C3.energy": mean({m: energy[m] for m in METHODS}),
        "C3.weighted": mean({m: 0.25 - quarter[m] for m in METHODS}),
    }


def _twin(updates: pd.DataFrame) -> Values:
    """Of the seeds that have a remap twin."""
    own = updates[(updates.matrix == "mlp.W_in") & (updates.against == "update")]
    sine = own.groupby(["seed", "arm"]).sine.mean()
    seeds = sorted(own[own.arm == "remap"].seed.unique())
    return {"C3.remap": [float(sine[seed, "ssft"] - sine[seed, "remap"]) for seed in seeds]}


def _never_null(rivals: pd.DataFrame) -> Values:
    """Of the seeds that have a base which never saw a null answer."""
    half = rivals[rivals.layer == rivals.n_layers // 2].set_index(["seed", "arm"]).lower_share
    seeds = sorted(rivals[rivals.arm == "ssft_without_null"].seed.unique())
    return {"M3.null": [float(half[seed, "ssft"] - half[seed, "ssft_without_null"]) for seed in seeds]}


def _reading(tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    table = tables["reading"]
    deep = table[table.layer + 1 > (table.layer.max() + 1) / 2]
    gain = deep.groupby(["arm", "family"]).gain.mean()

    def ratio(arm: str, unsafe: str, safe: str) -> float:
        return gain[arm, unsafe] / gain[arm, safe]

    standard = {m: ratio(m, "unsafe", "safe") for m in METHODS}
    return {
        "C4": mean(standard),
        "C4.matched": mean({m: ratio(m, "context_unsafe", "context_safe") for m in METHODS}),
        "C4.sham": mean({m: standard[m] - ratio(f"sham_{m}", "sham_unsafe", "sham_safe") for m in METHODS}),
    }


def _sensitivity(tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    ratio = tables["sensitivity"].set_index(["arm", "family", "output"]).ratio
    falls = mean({m: 1 - ratio[m, "unsafe", "max_logit"] for m in METHODS})
    rises = mean({m: ratio[m, "safe", "max_logit"] - 1 for m in METHODS})
    return {
        "C5": min(falls, rises),
        "C5.unsafe": falls,
        "C5.safe": rises,
        "C5.log_p": mean({m: 1 - ratio[m, "unsafe", "log_p"] for m in METHODS}),
        "C5.sham": falls - mean({m: 1 - ratio[f"sham_{m}", "sham_unsafe", "max_logit"] for m in METHODS}),
    }


def _rivals(tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    table = tables["rivals"]
    half = table[table.layer == table.n_layers // 2].set_index("arm")
    last = table[table.layer == table.n_layers - 1].set_index("arm")
    given = {m: half.lower_share[m] for m in METHODS}
    return {
        "M2": mean({m: 0.1 - abs(given[m]) for m in METHODS}),
        "M2.unheard": mean({m: half.unheard[m] - 0.9 for m in METHODS}),
        "M3": mean(given),
        "M3.random": mean({m: given[m] - half.random_share[m] for m in METHODS}),
        "M3.last": mean({m: last.lower_share[m] for m in METHODS}),
        "M3.sham": mean({m: given[m] - half.lower_share[f"sham_{m}"] for m in METHODS}),
        "M4": mean({m: min(0.5 - given[m], abs(given[m]) - 0.1) for m in METHODS}),
        "M4.needed": mean({m: 0.5 - half.upper_share[m] for m in METHODS}),
    }


def _anatomy(tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    table = tables["anatomy"]
    moved = table[(table.family == "unsafe") & (table.layer > 0)].groupby("arm").moved_input.mean()
    return {"M5": mean({m: moved[m] - 0.5 for m in METHODS})}


def _where(tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    """A run without a row for one direction refused fewer than half before any was ablated: that row counts."""
    after = tables["ranks"][tables["ranks"].directions <= 1].sort_values("directions").groupby("arm").tail(1)
    ranks, parts = after.set_index("arm"), tables["parts"]
    of_input = parts.part.str.endswith("mlp_in")
    carried = parts[of_input].groupby("arm").shapley.sum()
    expected = of_input.sum() / len(parts)
    return {
        "M6": mean({m: 0.5 - ranks.refused[m] for m in METHODS}),
        "M6.random": mean({m: ranks.random_refused[m] - ranks.refused[m] for m in METHODS}),
        "M7": mean({m: carried[m] - expected for m in METHODS}),
    }


def _extrapolation(table: pd.DataFrame | None) -> Values:
    if table is None:
        return {"C8": [], "C8.gain": []}
    at = table[table.arm == _WEAK].set_index(["seed", "family", "alpha"])
    rows = []
    for seed in sorted(table.seed.unique()):
        gain = at.refuse[seed, "unsafe", 1.5] - at.refuse[seed, "unsafe", 1.0]
        loss = at.comply[seed, "safe", 1.0] - at.comply[seed, "safe", 1.5]
        rows.append({"C8": min(gain, 0.02 - loss), "C8.gain": gain})
    return by_claim(rows)
