"""One number per seed for each claim about the change: where it writes, what it reads, how refusal comes about."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false, reportReturnType=false
# (pandas' annotations lose track of what grouping and indexing return)

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from experiments.jain2024.presets import METHODS
from experiments.jain2024.values import Values, beyond, by_claim, mean

_WEAK = "ssft_small"
_TWINS = {
    "C3.remap": "remap",
    "C3.new_operator": "new_operator",
    "C3.continued": "continued",
    "C3.no_decay": "ssft_no_decay",
}


def of_change(tables: Mapping[str, pd.DataFrame]) -> Values:
    """Values of C3 to C5, C8 and M2 to M5 from the tables of `measure`: `Change` and `Extrapolation`."""
    found: Values = {}
    by_seed = [_of_seed(tables, seed) for seed in sorted(tables["updates"].seed.unique())]
    for part in (_writing, _reading, _sensitivity, _rivals, _anatomy):
        found |= by_claim([part(of_seed) for of_seed in by_seed])
    found |= _extrapolation(tables.get("extrapolation"))
    return found | _twins(tables)


def _of_seed(tables: Mapping[str, pd.DataFrame], seed: int) -> dict[str, pd.DataFrame]:
    names = ("updates", "energy", "reading", "sensitivity", "rivals", "anatomy")
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


def _twins(tables: Mapping[str, pd.DataFrame]) -> Values:
    """SSFT minus another run of the same seed, of the seeds that have it."""
    keys = ["seed", "arm"]
    own = tables["updates"][
        (tables["updates"].matrix == "mlp.W_in") & (tables["updates"].against == "update")
    ]
    sine = own.groupby(keys).sine.mean()
    gain = _deep(tables["reading"]).groupby([*keys, "family"]).gain.mean().unstack()
    sensed = tables["sensitivity"].query("family == 'unsafe' and output == 'max_logit'").set_index(keys).ratio
    rivals = tables["rivals"]
    half = rivals[rivals.layer == rivals.n_layers // 2].set_index(keys).lower_share
    return {
        **{claim: beyond(sine, twin) for claim, twin in _TWINS.items()},
        "C4.remap": beyond(gain.unsafe / gain.safe, "remap"),
        "C5.remap": beyond(-sensed, "remap"),
        "M3.remap": beyond(half, "remap"),
        "M3.null": beyond(half, "ssft_without_null"),
    }


def _deep(reading: pd.DataFrame) -> pd.DataFrame:
    return reading[reading.layer + 1 > (reading.layer.max() + 1) / 2]


def _reading(tables: dict[str, pd.DataFrame]) -> dict[str, float]:
    gain = _deep(tables["reading"]).groupby(["arm", "family"]).gain.mean()

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
