"""Claims about activations and weights of aligned models (C2 to C5, M3, M5).

A gated MLP has two matrices that read its input: W_in, the up projection, and W_gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from experiments.real.claim_values import (
    AlignedModel,
    difference,
    find_arm,
    mean_of_models,
    of_arm,
    of_models,
)
from makebreak.claims import Claim, NotRun, rows_of

JAIN = "Jain et al. 2024"
"""Source of claims."""
_W_IN, _W_GATE = "mlp.W_in", "mlp.W_gate"
_GAP = "normalised gap of τ on held-out pairs of one verb"


def _gap_by_layer(clusters: pd.DataFrame) -> pd.Series:
    return clusters.set_index("layer").normalised.sort_index()


def _gaps(model: AlignedModel) -> pd.Series:
    """Normalised gap of τ, aligned minus base, by layer."""
    return _gap_by_layer(model["clusters"]) - _gap_by_layer(model.of_base("clusters"))


def _last_gap(model: AlignedModel) -> float:
    return float(_gaps(model).iloc[-1])


def _growth_of_gap(model: AlignedModel) -> float:
    gaps = _gaps(model)
    return float(gaps.iloc[-1] - gaps.iloc[0])


def _order_of_gaps(models: Sequence[AlignedModel]) -> float:
    gap = {arm: _last_gap(find_arm(models, arm)) for arm in ("dpo", "unlearning", "ssft")}
    return min(gap["dpo"], gap["unlearning"]) - gap["ssft"]


def _sine_above_random(matrix: str, model: AlignedModel) -> float | None:
    rows = model["updates"][model["updates"].matrix == matrix]
    sines = rows.groupby("against").sine.mean().to_dict()
    return difference(sines.get("update"), sines.get("haar"))


def _null_energy_above_chance(matrix: str, model: AlignedModel) -> float | None:
    updates = model["updates"]
    rows = updates[(updates.matrix == matrix) & (updates.against == "update")]
    if rows.empty or bool(rows.null.isna().all()):
        return None
    return float(rows.null.mean() - rows.chance.mean())


def _read_gain_ratio(matrix: str, model: AlignedModel) -> float | None:
    rows = model["read_gain"][model["read_gain"].matrix == matrix]
    if rows.empty:
        return None
    is_deep = rows.layer + 1 > (rows.layer.max() + 1) / 2
    gains = rows[is_deep].groupby("family").gain.mean()
    return float(gains["harmful"] / gains["harmless"])


def _sensitivity_ratio(family: str, model: AlignedModel) -> float:
    rows = model["sensitivity"]
    return float(rows[(rows.family == family) & (rows.output == "max_logit")].ratio_median.iloc[0])


def _lead_of_route(models: Sequence[AlignedModel]) -> float | None:
    """Share of routes minus the greatest share of another mechanism, of means over alignments."""
    arms = [model.arm for model in models]
    of_seed = rows_of(models[0].tables, "mechanisms", arm=arms, seed=models[0].seed)
    shares = of_seed.pivot_table(index="arm", columns="mechanism", values="share", fill_value=0.0)
    means = shares.mean().to_dict()
    route = means.pop("route", 0.0)
    return float(route - max(means.values(), default=0.0))


def _route_above_random(model: AlignedModel) -> float | None:
    """Shares of the refusal's probability after block n // 2; None if alignment did not raise it."""
    rows = model["stitching"]
    if rows.empty:
        raise NotRun("no cut was measured")
    row = rows[rows.layer == rows.n_layers // 2].iloc[0]
    if row.tuned_probability <= row.base_probability:
        return None
    return float(row.lower_share - row.random_share)


def _input_share(matrix: str, model: AlignedModel) -> float | None:
    rows = model["preactivations"]
    rows = rows[(rows.matrix == matrix) & (rows.family == "harmful") & (rows.layer > 0)]
    return None if rows.empty else float(rows.input_share.mean())


_separation = partial(Claim, unit="distance of means", bound=0.2, no_effect=0.0, negligible=0.1, source=JAIN)
_energy = partial(Claim, unit="share of energy", negligible=0.02)
_sine = partial(
    Claim,
    quantity="sine of ΔW's leading outputs to W's column space, update - random, mean of layers and "
    "alignments",
    unit="sine",
    negligible=0.02,
)
_ratio = partial(Claim, unit="ratio")
_READ_GAIN = "read gain ‖ΔW a‖ / ‖a‖, harmful over harmless, deeper half, mean of alignments"
_NULL_ENERGY = "share of ΔW's energy in the left null space - chance, mean of layers and alignments"
_INPUT_SHARE = "share of W·Δx in Δpre, mean of layers after the first and alignments"
MECHANISM_CLAIMS = (
    _separation(
        id="C2",
        role="primary",
        statement="Safety fine-tuning separates unsafe from safe activations",
        quantity=f"{_GAP}, last layer, aligned - base, mean of alignments",
        value=mean_of_models(_last_gap),
    ),
    *(
        _separation(
            id=f"C2.{arm}",
            statement=f"{name} separates unsafe from safe activations",
            quantity=f"{_GAP}, last layer, {arm} - base",
            value=of_arm(arm, _last_gap),
        )
        for arm, name in {"ssft": "SSFT", "dpo": "DPO + NLL", "unlearning": "Unlearning"}.items()
    ),
    Claim(
        id="C2.depth",
        statement="The separation grows with depth",
        quantity=f"{_GAP}, aligned - base, last layer - first layer, mean of alignments",
        unit="distance of means",
        value=mean_of_models(_growth_of_gap),
        negligible=0.1,
        source=JAIN,
    ),
    Claim(
        id="C2.order_normalised",
        statement="DPO + NLL and unlearning separate more than SSFT",
        quantity=f"{_GAP}, last layer, aligned - base: smaller one of dpo and unlearning, minus ssft",
        unit="distance of means",
        value=of_models(_order_of_gaps),
        negligible=0.1,
    ),
    _sine(
        id="C3",
        role="primary",
        statement="The update of W_in, the up projection, lies in the left null space of the base's matrix",
        value=mean_of_models(partial(_sine_above_random, _W_IN)),
        source=JAIN,
    ),
    _energy(
        id="C3.energy",
        statement="The update of W_in has more energy in the exact left null space than chance gives",
        quantity=_NULL_ENERGY,
        value=mean_of_models(partial(_null_energy_above_chance, _W_IN)),
    ),
    _sine(
        id="C3.gate",
        statement="The update of W_gate lies in the left null space of the base's matrix",
        value=mean_of_models(partial(_sine_above_random, _W_GATE)),
    ),
    _energy(
        id="C3.gate_energy",
        statement="The update of W_gate has more energy in the exact left null space than chance gives",
        quantity=_NULL_ENERGY,
        value=mean_of_models(partial(_null_energy_above_chance, _W_GATE)),
    ),
    _ratio(
        id="C4",
        role="primary",
        statement="The update of W_in, the up projection, reads unsafe requests more than safe ones",
        quantity=_READ_GAIN,
        value=mean_of_models(partial(_read_gain_ratio, _W_IN)),
        bound=1.0,
        negligible=0.05,
        source=JAIN,
    ),
    _ratio(
        id="C4.gate",
        statement="The update of W_gate reads unsafe requests more than safe ones",
        quantity=_READ_GAIN,
        value=mean_of_models(partial(_read_gain_ratio, _W_GATE)),
        bound=1.0,
    ),
    _ratio(
        id="C5.unsafe",
        statement="Sensitivity falls on unsafe requests",
        quantity="median ‖∂ max logit / ∂ e‖, aligned over base, harmful requests, mean of alignments",
        value=mean_of_models(partial(_sensitivity_ratio, "harmful")),
        side="below",
        bound=1.0,
        negligible=0.05,
        source=JAIN,
    ),
    _ratio(
        id="C5.safe",
        statement="Sensitivity rises on safe requests",
        quantity="median ‖∂ max logit / ∂ e‖, aligned over base, harmless requests, mean of alignments",
        value=mean_of_models(partial(_sensitivity_ratio, "harmless")),
        bound=1.0,
        negligible=0.05,
        source=JAIN,
    ),
    Claim(
        id="M3",
        statement="Route is the most frequent mechanism of refusal",
        quantity="share of requests whose answer flips by route - the greatest share of another mechanism, "
        "of means over alignments",
        unit="share of requests",
        value=of_models(_lead_of_route),
    ),
    Claim(
        id="M3.random",
        statement="The base's upper part gives more of the refusal on the aligned lower part's states than "
        "on a random movement of the same size",
        quantity="share of the refusal's probability, aligned lower part - random movement, after block "
        "n // 2 of n, mean of alignments",
        unit="share of probability",
        value=mean_of_models(_route_above_random),
        negligible=0.1,
    ),
    Claim(
        id="M5",
        statement="Outputs of W_in, the up projection, on unsafe requests change by the change of their "
        "input rather than by the update of W_in",
        quantity=_INPUT_SHARE,
        unit="share of energy",
        value=mean_of_models(partial(_input_share, _W_IN)),
        bound=0.5,
    ),
    Claim(
        id="M5.gate",
        statement="Outputs of W_gate on unsafe requests change by the change of their input rather than by "
        "the update of W_gate",
        quantity=_INPUT_SHARE,
        unit="share of energy",
        value=mean_of_models(partial(_input_share, _W_GATE)),
        bound=0.5,
    ),
)
"""Claims about activations, weights and stitching."""
