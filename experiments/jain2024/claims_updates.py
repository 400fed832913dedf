"""Claims about the update (C3 to C5, C8) and about stitching of base and aligned layers (M2 to M5)."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from experiments.earlier_claims import Claim
from experiments.jain2024.claim_values import Values, control_difference, mean_of_methods, values_by_claim
from experiments.recipes.composition import METHODS

PAPER = "Jain et al. 2024"
ROUTE_SHARE = 0.5
"""Share of the refusal margin from which M3 calls it a route (uncalibrated: erratum T1)."""
SILENCE_SHARE = 0.1
"""Share of the refusal margin up to which M2 calls it silence (uncalibrated: erratum T1)."""
MIN_NULL_FRACTION = 0.9
"""Fisher null fraction that M2.unheard asks for."""
MAX_COMPLIANCE_LOSS = 0.02
"""Loss of compliance on safe requests that C8 allows, as a rate."""
_WEAK_ARM = "ssft_small"
_SINE_CONTROLS = {
    "C3.remap": "remap",
    "C3.new_operator": "new_operator",
    "C3.continued": "continued",
    "C3.no_decay": "ssft_no_decay",
}
_TABLES_BY_MATRIX = ("updates", "energy", "read_gain", "preactivations")
"""Tables with a row per matrix, of which the claims are about W_in."""
_TABLES = ("updates", "energy", "read_gain", "sensitivity", "stitching", "preactivations")

Tables = Mapping[str, pd.DataFrame]


def update_values(tables: Tables) -> Values:
    """Values of C3 to C5, C8 and M2 to M5, except those of matched comparisons.

    Args:
        tables: Tables of `UpdateMeasure` and `ExtrapolationMeasure`; `extrapolation` may be missing.

    Returns:
        One value per seed for each claim; an empty list where the arm was not run.
    """
    rows = []
    for seed in sorted(tables["updates"]["seed"].unique()):
        of_seed = {name: tables[name][tables[name]["seed"] == seed] for name in _TABLES}
        of_seed |= {name: _of_w_in(of_seed[name]) for name in _TABLES_BY_MATRIX}
        rows.append(
            _column_space_values(of_seed)
            | _read_gain_values(of_seed["read_gain"])
            | _sensitivity_values(of_seed["sensitivity"])
            | _stitching_values(of_seed["stitching"])
            | _preactivation_values(of_seed["preactivations"])
        )
    return (
        values_by_claim(rows) | _extrapolation_values(tables.get("extrapolation")) | _control_values(tables)
    )


def _column_space_values(tables: Tables) -> dict[str, float]:
    """Values of C3 for one seed: `update` is ΔW itself, `haar` a random update, `other_seed` another base."""
    w_in, curves = tables["updates"], tables["energy"]
    sine = w_in.groupby(["arm", "against"])["sine"].mean().to_dict()
    by_arm = w_in[w_in["against"] == "update"].groupby("arm")
    energy = (by_arm["null"].mean() - by_arm["chance"].mean()).to_dict()
    quarter = curves[(curves["family"] == "unsafe") & (curves["chance"] == 0.25)]
    quarter_energy = quarter.groupby("arm")["energy"].mean().to_dict()
    update = {method: sine[method, "update"] for method in METHODS}
    return {
        "C3": mean_of_methods({m: update[m] - sine[m, "haar"] for m in METHODS}),
        "C3.sham": mean_of_methods({m: update[m] - sine[f"sham_{m}", "update"] for m in METHODS}),
        "C3.other_seed": mean_of_methods({m: update[m] - sine[m, "other_seed"] for m in METHODS}),
        "C3.energy": mean_of_methods({m: energy[m] for m in METHODS}),
        "C3.weighted": mean_of_methods({m: 0.25 - quarter_energy[m] for m in METHODS}),
    }


def _control_values(tables: Tables) -> Values:
    """Values of claims that compare SSFT with one control, of the seeds that have the control."""
    keys = ["seed", "arm"]
    sensitivity, stitching = tables["sensitivity"], tables["stitching"]
    w_in = _of_w_in(tables["updates"])
    sine = w_in[w_in["against"] == "update"].groupby(keys)["sine"].mean()
    gain = _deeper_half(_of_w_in(tables["read_gain"])).groupby([*keys, "family"])["gain"].mean()
    gain_ratio = gain.xs("unsafe", level="family") / gain.xs("safe", level="family")
    unsafe_max_logit = (sensitivity["family"] == "unsafe") & (sensitivity["output"] == "max_logit")
    sensitivity_ratio = sensitivity[unsafe_max_logit].set_index(keys)["ratio_median"]
    share = stitching[stitching["layer"] == stitching["n_layers"] // 2].set_index(keys)["lower_margin_share"]
    sines = {claim: control_difference(sine, control) for claim, control in _SINE_CONTROLS.items()}
    return sines | {
        "C4.remap": control_difference(gain_ratio, "remap"),
        "C5.remap": control_difference(-sensitivity_ratio, "remap"),
        "M3.remap": control_difference(share, "remap"),
        "M3.null": control_difference(share, "ssft_without_null"),
    }


def _of_w_in(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of W_in, which in a gated MLP is the up projection."""
    return table[table["matrix"] == "mlp.W_in"]


def _deeper_half(reading: pd.DataFrame) -> pd.DataFrame:
    return reading[reading["layer"] + 1 > (reading["layer"].max() + 1) / 2]


def _read_gain_values(reading: pd.DataFrame) -> dict[str, float]:
    gain = _deeper_half(reading).groupby(["arm", "family"])["gain"].mean().to_dict()

    def ratio(arm: str, unsafe: str, safe: str) -> float:
        return gain[arm, unsafe] / gain[arm, safe]

    standard = {m: ratio(m, "unsafe", "safe") for m in METHODS}
    sham = {m: ratio(f"sham_{m}", "sham_unsafe", "sham_safe") for m in METHODS}
    return {
        "C4": mean_of_methods(standard),
        "C4.matched": mean_of_methods({m: ratio(m, "context_unsafe", "context_safe") for m in METHODS}),
        "C4.sham": mean_of_methods({m: standard[m] - sham[m] for m in METHODS}),
    }


def _sensitivity_values(sensitivity: pd.DataFrame) -> dict[str, float]:
    ratio = sensitivity.set_index(["arm", "family", "output"])["ratio_median"].to_dict()
    fall = mean_of_methods({m: 1 - ratio[m, "unsafe", "max_logit"] for m in METHODS})
    rise = mean_of_methods({m: ratio[m, "safe", "max_logit"] - 1 for m in METHODS})
    sham_fall = mean_of_methods({m: 1 - ratio[f"sham_{m}", "sham_unsafe", "max_logit"] for m in METHODS})
    return {
        "C5": min(fall, rise),
        "C5.unsafe": fall,
        "C5.safe": rise,
        "C5.log_p": mean_of_methods({m: 1 - ratio[m, "unsafe", "log_p"] for m in METHODS}),
        "C5.sham": fall - sham_fall,
    }


def _stitching_values(stitching: pd.DataFrame) -> dict[str, float]:
    """Values of M2 to M4 for one seed, from the cuts after block n // 2 and before the last block."""
    columns = ["lower_margin_share", "upper_margin_share", "random_margin_share", "fisher_null_fraction"]
    by_arm = stitching.set_index("arm")
    middle = by_arm[by_arm["layer"] == by_arm["n_layers"] // 2][columns].to_dict("index")
    last = by_arm[by_arm["layer"] == by_arm["n_layers"] - 1]["lower_margin_share"].to_dict()
    share = {m: middle[m]["lower_margin_share"] for m in METHODS}
    sham = {m: middle[f"sham_{m}"]["lower_margin_share"] for m in METHODS}
    between = {m: min(ROUTE_SHARE - share[m], abs(share[m]) - SILENCE_SHARE) for m in METHODS}
    return {
        "M2": mean_of_methods({m: SILENCE_SHARE - abs(share[m]) for m in METHODS}),
        "M2.unheard": mean_of_methods(
            {m: middle[m]["fisher_null_fraction"] - MIN_NULL_FRACTION for m in METHODS}
        ),
        "M3": mean_of_methods(share),
        "M3.random": mean_of_methods({m: share[m] - middle[m]["random_margin_share"] for m in METHODS}),
        "M3.last": mean_of_methods({m: last[m] for m in METHODS}),
        "M3.sham": mean_of_methods({m: share[m] - sham[m] for m in METHODS}),
        "M4": mean_of_methods(between),
        "M4.needed": mean_of_methods({m: 0.5 - middle[m]["upper_margin_share"] for m in METHODS}),
    }


def _preactivation_values(decomposition: pd.DataFrame) -> dict[str, float]:
    chosen = decomposition[(decomposition["family"] == "unsafe") & (decomposition["layer"] > 0)]
    share = chosen.groupby("arm")["input_share"].mean().to_dict()
    return {"M5": mean_of_methods({m: share[m] - 0.5 for m in METHODS})}


def _extrapolation_values(extrapolation: pd.DataFrame | None) -> Values:
    if extrapolation is None:
        return {"C8": [], "C8.gain": []}
    weak = extrapolation[extrapolation["arm"] == _WEAK_ARM].set_index(["seed", "family", "alpha"])
    refusal, compliance = weak["refuse"].to_dict(), weak["comply"].to_dict()
    rows = []
    for seed in sorted(extrapolation["seed"].unique()):
        gain = refusal[seed, "unsafe", 1.5] - refusal[seed, "unsafe", 1.0]
        loss = compliance[seed, "safe", 1.0] - compliance[seed, "safe", 1.5]
        rows.append({"C8": min(gain, MAX_COMPLIANCE_LOSS - loss), "C8.gain": gain})
    return values_by_claim(rows)


UPDATE_CLAIMS = [
    Claim(
        "C3", "claim", PAPER,
        "Outputs of the update of W_in lie in the left null space of the base's W_in",
        "sine of ΔW's leading outputs to W's column space, update - random, mean of layers and methods",
        "sine", 0.0, equivalence=0.02,
    ),
    Claim(
        "C3.sham", "claim", "ours",
        "The update of W_in lies in the left null space more than a sham control's",
        "sine, method - its sham",
        "sine", 0.0, equivalence=0.02,
    ),
    Claim(
        "C3.remap", "claim", "ours",
        "The update of W_in lies in the left null space more than the remap control's",
        "sine, ssft - remap",
        "sine", 0.0, equivalence=0.02,
    ),
    Claim(
        "C3.new_operator", "claim", "ours",
        "The update of W_in lies in the left null space more than one that teaches a new operator",
        "sine, ssft - new_operator",
        "sine", 0.0, equivalence=0.02,
    ),
    Claim(
        "C3.continued", "claim", "ours",
        "The update of W_in lies in the left null space more than that of continued pretraining",
        "sine, ssft - continued",
        "sine", 0.0, equivalence=0.02,
    ),
    Claim(
        "C3.no_decay", "claim", "ours",
        "Weight decay moves the update of W_in into the left null space (weight decay 1e-4 against none: "
        "not a test, erratum W6)",
        "sine, ssft - ssft without weight decay",
        "sine", 0.0, equivalence=0.02,
    ),
    Claim(
        "C3.other_seed", "claim", "ours",
        "The update of W_in lies in the left null space of its own base's W_in more than of another "
        "pretraining seed's",
        "sine, own base - other base",
        "sine", 0.0, equivalence=0.02,
    ),
    Claim(
        "C3.energy", "claim", "ours",
        "The update of W_in has more energy in the exact left null space than chance gives",
        "share of ΔW's energy in the left null space - chance, exact rank",
        "share of energy", 0.0, equivalence=0.02,
    ),
    Claim(
        "C3.weighted", "claim", "ours",
        "On unsafe requests the update writes outside the column space of W (k = rank of W; erratum W7)",
        "1/4 - E_k of unsafe requests at k = d_mlp / 4",
        "share of energy", 0.0, equivalence=0.02,
    ),
    Claim(
        "C4", "claim", PAPER,
        "The update of W_in reads unsafe requests at least twice as much as safe ones (threshold "
        "ours)",
        "read gain ‖ΔW a‖ / ‖a‖, unsafe over safe, deeper half of the layers, mean of methods",
        "ratio", 2.0, chance=1.0,
    ),
    Claim(
        "C4.matched", "claim", "ours",
        "The same on token-matched requests",
        "read gain ‖ΔW a‖ / ‖a‖, context_unsafe over context_safe, deeper half of the layers, mean of "
        "methods",
        "ratio", 2.0, chance=1.0,
    ),
    Claim(
        "C4.sham", "claim", "ours",
        "The ratio of read gains exceeds that of sham controls",
        "ratio of read gains, method - sham (sham_unsafe over sham_safe)",
        "ratio", 0.0, equivalence=0.05,
    ),
    Claim(
        "C4.remap", "claim", "ours",
        "The ratio of read gains exceeds that of the remap control",
        "ratio of read gains, ssft - remap",
        "ratio", 0.0, equivalence=0.05,
    ),
    Claim(
        "C5", "claim", PAPER,
        "Sensitivity falls on unsafe requests and rises on safe ones",
        "smaller one of C5.unsafe and C5.safe",
        "relative", 0.0, equivalence=0.05,
    ),
    Claim(
        "C5.unsafe", "claim", PAPER,
        "Sensitivity falls on unsafe requests",
        "1 - median ‖∂ max logit / ∂ e‖, aligned over base, mean of methods",
        "relative", 0.0, equivalence=0.05,
    ),
    Claim(
        "C5.safe", "claim", PAPER,
        "Sensitivity rises on safe requests",
        "median ‖∂ max logit / ∂ e‖, aligned over base, mean of methods, - 1",
        "relative", 0.0, equivalence=0.05,
    ),
    Claim(
        "C5.log_p", "claim", "ours",
        "Sensitivity of the log probability falls on unsafe requests, whatever the scale of logits",
        "1 - median ‖∂ log p / ∂ e‖, aligned over base, mean of methods",
        "relative", 0.0, equivalence=0.05,
    ),
    Claim(
        "C5.sham", "claim", "ours",
        "Sensitivity falls more on unsafe requests than a sham control's on its own refused requests",
        "C5.unsafe - the same of the sham control",
        "relative", 0.0, equivalence=0.05,
    ),
    Claim(
        "C5.remap", "claim", "ours",
        "Sensitivity falls more on unsafe requests than that of the remap control",
        "C5.unsafe, ssft - remap",
        "relative", 0.0, equivalence=0.05,
    ),
    Claim(
        "C8", "claim", PAPER,
        "Extrapolating ΔW makes weakly tuned SSFT refuse more at almost no loss of compliance",
        "smaller one of C8.gain and 0.02 - loss of compliance on safe requests, α 1.5 against 1",
        "rate", 0.0,
    ),
    Claim(
        "C8.gain", "claim", PAPER,
        "Extrapolating ΔW makes weakly tuned SSFT refuse more",
        "refusal rate on unsafe requests, α 1.5 - α 1, SSFT at η_S",
        "rate", 0.0, equivalence=0.02,
    ),
]  # fmt: skip
"""Claims C3 to C5 and C8, in the order of claims.json."""
STITCHING_CLAIMS = [
    Claim(
        "M2", "claim", "ours",
        "Silence: the base's upper part gives less than a tenth of the refusal margin on the aligned lower "
        "part's states",
        "0.1 - |share of the margin that the base's upper part gives|, after block n // 2 of n, mean of "
        "methods",
        "share of margin", 0.0,
    ),
    Claim(
        "M2.unheard", "claim", "ours",
        "Fisher null fraction of the movement exceeds .9 (no test of silence, erratum T3)",
        "Fisher null fraction of the movement at the end of the request - 0.9, after block n // 2 of n, "
        "mean of methods",
        "share of energy", 0.0,
    ),
    Claim(
        "M3", "claim", "ours",
        "Route: the base's upper part gives at least half of the refusal margin on the aligned lower part's "
        "states",
        "share of the margin that the base's upper part gives, after block n // 2 of n, mean of methods",
        "share of margin", 0.5,
    ),
    Claim(
        "M3.random", "claim", "ours",
        "The share exceeds that of a random movement of the same size",
        "share of M3 - the share for a random movement of the same size, after block n // 2 of n, mean of "
        "methods",
        "share of margin", 0.0, equivalence=0.1,
    ),
    Claim(
        "M3.last", "claim", "ours",
        "Route, before the last block",
        "share of the margin that the base's last block gives, after block n - 1 of n, mean of methods",
        "share of margin", 0.5,
    ),
    Claim(
        "M3.sham", "claim", "ours",
        "The share exceeds that of sham controls",
        "share of M3, after block n // 2 of n, method - sham",
        "share of margin", 0.0, equivalence=0.1,
    ),
    Claim(
        "M3.remap", "claim", "ours",
        "The share exceeds that of the remap control",
        "share of M3, after block n // 2 of n, ssft - remap",
        "share of margin", 0.0, equivalence=0.1,
    ),
    Claim(
        "M3.margin", "claim", "ours",
        "Route, at equal refusal margin of the methods",
        "share of M3, after block n // 2 of n, mean of methods, at equal margin",
        "share of margin", 0.5,
    ),
    Claim(
        "M3.null", "claim", "ours",
        "The share is larger where the base saw the null token as an answer in pretraining",
        "share of M3, after block n // 2 of n, ssft - ssft of a base that never saw one",
        "share of margin", 0.0, equivalence=0.1,
    ),
    Claim(
        "M4", "claim", "ours",
        "Share of the margin from the base's upper part lies between .1 and .5",
        "smaller one of 0.5 - share and |share| - 0.1, after block n // 2 of n, mean of methods",
        "share of margin", 0.0,
    ),
    Claim(
        "M4.needed", "claim", "ours",
        "The aligned lower part is needed: without it more than half of the margin is lost",
        "share of the margin that is lost with the base's lower part - 0.5, after block n // 2 of n, mean "
        "of methods",
        "share of margin", 0.0,
    ),
    Claim(
        "M5", "claim", "ours",
        "Pre-activations on unsafe requests change by the change of their input rather than by the update "
        "of their own matrix",
        "share of W·Δx in Δpre - 1/2, mean of layers after the first and of methods",
        "share of energy", 0.0,
    ),
]  # fmt: skip
"""Claims M2 to M5, in the order of claims.json."""
