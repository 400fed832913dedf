"""Claims M6 to M10: directions, components, probes, steering and constrained fine-tuning."""

from __future__ import annotations

from functools import partial
from typing import cast

import pandas as pd

from experiments.jain2024.claim_values import by_arm, mean_of
from makebreak.claims import Claim, Tables, rows_of

STEERING_CONTROLS = ("shuffled", "other_label", "covariance", "random")
"""Kinds of vectors that the difference of means is compared with."""


def _after_ablation(tables: Tables, column: str) -> pd.DataFrame:
    """A refusal rate after at most one ablated difference of means.

    A run without a row for one direction refused fewer than half before any was ablated: that row counts.
    """
    ranks = rows_of(tables, "refusal_rank")
    chosen = ranks[(ranks["n_directions"] <= 1) & ranks["difference_refusal_rate"].notna()]
    return by_arm(chosen.sort_values("n_directions").groupby(["seed", "arm"]).tail(1), column)


def _refusal_after_ablation(tables: Tables) -> pd.Series:
    return mean_of(_after_ablation(tables, "difference_refusal_rate"))


def _ablation_below_random(tables: Tables) -> pd.Series:
    random = _after_ablation(tables, "random_refusal_rate")
    return mean_of(random - _after_ablation(tables, "difference_refusal_rate"))


def _share_of_mlp_in(tables: Tables) -> pd.Series:
    """Shapley share of the MLP input matrices minus their share of the parts."""
    rows = rows_of(tables, "localisation")
    of_mlp_in = rows["part"].str.endswith("mlp_in")
    n_layers = rows.loc[of_mlp_in, "part"].nunique()
    carried = by_arm(rows[of_mlp_in], "shapley") * n_layers
    return mean_of(carried - n_layers / rows["part"].nunique())


def _probe(tables: Tables, network: str, position: str, column: str) -> pd.DataFrame:
    """A column of the probes after block n // 2 of n."""
    rows = rows_of(tables, "probes", network=network, position=position)
    middle = max((int(rows["layer"].max()) + 1) // 2 - 1, 0)
    return by_arm(rows[rows["layer"] == middle], column)


def _probe_above(position: str, column: str, control: str, tables: Tables) -> pd.Series:
    """Difference of two columns of the aligned model's probes."""
    return mean_of(_probe(tables, "aligned", position, column) - _probe(tables, "aligned", position, control))


def _probe_above_base(tables: Tables) -> pd.Series:
    aligned = _probe(tables, "aligned", "text", "harm_auroc")
    return mean_of(aligned - _probe(tables, "base", "text", "harm_auroc"))


def _cosine(tables: Tables) -> pd.Series:
    return mean_of(_probe(tables, "aligned", "eot", "cosine"))


def _steering_above_controls(effect: str, tables: Tables) -> pd.Series:
    """Effect on the margin as a share of that on unsafe requests, minus the largest of the controls."""
    rows = rows_of(tables, "matched_steering")
    if effect == "removal":
        shift = rows["unsafe_baseline"] - rows["unsafe_margin"]
    else:
        shift = rows["safe_margin"] - rows["safe_baseline"]
    rows = rows.assign(effect=shift / rows["unsafe_baseline"])
    difference, *controls = (
        by_arm(rows[rows["kind"] == kind], "effect") for kind in ("difference", *STEERING_CONTROLS)
    )
    largest = pd.concat(controls).groupby(level="seed").max()
    return mean_of(cast("pd.DataFrame", difference - largest))


def _loss_below_random(space: str, tables: Tables) -> pd.Series:
    """Loss in a random space minus that in a space of its dimension; undefined where the space is empty."""
    rows = rows_of(tables, "constrained")
    loss = rows.set_index(["seed", "space"])["loss"].unstack()
    wanted = loss.reindex(columns=[f"random as {space}", space]).astype(float)
    return cast("pd.Series", wanted[f"random as {space}"] - wanted[space])


_rate = partial(Claim, unit="rate")
_auroc = partial(Claim, unit="AUROC")
_margin = partial(Claim, unit="share of margin")
_loss = partial(Claim, unit="nats per token", negligible=0.02)
LOCALISATION_CLAIMS = (
    _rate(
        id="M6",
        source="Arditi et al. 2024",
        statement="One direction: ablating the difference of means leaves fewer than half of the unsafe "
        "requests refused",
        quantity="refusal rate on unsafe requests, difference of means ablated, mean of methods",
        value=_refusal_after_ablation,
        side="below",
        bound=0.5,
    ),
    _rate(
        id="M6.random",
        statement="Ablating the difference of means lowers refusal more than ablating a random direction",
        quantity="refusal rate, random direction ablated - difference of means ablated, mean of methods",
        value=_ablation_below_random,
        negligible=0.05,
    ),
    _margin(
        id="M7",
        statement="MLP input matrices, which the paper looks at, carry more than their share of parts",
        quantity="Shapley share of the margin of mlp_in, all layers, - their share of the parts, mean of "
        "methods",
        value=_share_of_mlp_in,
        negligible=0.05,
    ),
    _auroc(
        id="M8",
        source="Zhao et al. 2025",
        statement="Unsafe is represented where nothing is refused",
        quantity="AUROC of unsafe among requests that are not refused, end of the text, after block n // 2 "
        "of n, - 95th percentile of shuffled labels, mean of methods",
        value=partial(_probe_above, "text", "harm_auroc", "shuffled_harm_p95"),
    ),
    _auroc(
        id="M8.base",
        statement="Unsafe is represented better than in the base, on the same requests and labels",
        quantity="AUROC of M8 - the base's, mean of methods",
        value=_probe_above_base,
        negligible=0.05,
    ),
    _auroc(
        id="M8.refused",
        source="Zhao et al. 2025",
        statement="Refused is represented where all requests are unsafe",
        quantity="AUROC of refused among unsafe requests, end of the request, after block n // 2 of n, - "
        "95th percentile of shuffled labels, mean of methods",
        value=partial(_probe_above, "eot", "refusal_auroc", "shuffled_refusal_p95"),
    ),
    Claim(
        id="M8.cosine",
        statement="The directions of unsafe and of refused differ",
        quantity="cosine, end of the request, after block n // 2 of n, mean of methods",
        unit="cosine",
        value=_cosine,
        side="within",
        bound=0.5,
    ),
    _margin(
        id="M9",
        statement="Subtracting the difference of means from unsafe requests lowers the margin more than "
        "shifts that disturb safe ones equally",
        quantity="share of the margin lost, difference of means - largest of shuffled, other label, "
        "covariance, random, after block n // 2 of n, mean of methods",
        value=partial(_steering_above_controls, "removal"),
        negligible=0.1,
    ),
    _margin(
        id="M9.induce",
        statement="Adding the difference of means to safe requests raises the margin more than shifts that "
        "disturb them equally",
        quantity="share of the unsafe margin gained, difference of means - largest of the same four, after "
        "block n // 2 of n, mean of methods",
        value=partial(_steering_above_controls, "induction"),
        negligible=0.1,
    ),
    _loss(
        id="M10",
        statement="Safety is learnt more easily inside the left null space than in a random space of the "
        "same dimension",
        quantity="loss at equal steps, random - left null space, SSFT of the MLP input matrices alone",
        value=partial(_loss_below_random, "left null"),
    ),
    _loss(
        id="M10.column",
        statement="Safety is learnt more easily inside the column space than in a random space of the same "
        "dimension",
        quantity="loss at equal steps, random - column space, SSFT of the MLP input matrices alone",
        value=partial(_loss_below_random, "column"),
    ),
)
"""Claims M6 to M10."""
