"""Figures 3 to 6 of Jain et al. 2024 side by side: as published, in the released definition, and in ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from experiments.jain2024.published_values import PUBLISHED_TAU
from experiments.recipes.composition import Preset
from makebreak.claims import NotRun, Tables, rows_of
from makebreak.plots import arm_name, panel_grid
from makebreak.stats import Estimate, mean_confidence_interval
from makebreak.studies import Figure
from makebreak.tables import as_dicts

_CLASS_COLOURS = {"safe": "tab:green", "unsafe": "tab:red"}
_PER_ROW = 3


class PublishedStatisticRow(NamedTuple):
    """One statistic of one arm at one layer, means over seeds with 95 % Student intervals."""

    figure: str
    """Figure of the paper."""
    arm: str
    """Arm of the study."""
    quantity: str
    """What is shown, and of which requests."""
    layer: int | None
    """Layer, from 0; None for a statistic of the whole model."""
    paper_value: float | None
    """Value read off the published figure, one model; None where none could be read."""
    script_mean: float
    """Our models in the definition of the released script, or of the text where the script cannot be run.
    NaN where no seed has a finite value."""
    script_low: float | None
    """Lower end of its interval; None for one seed."""
    script_high: float | None
    """Upper end of its interval; None for one seed."""
    own_mean: float
    """Our models in our definition."""
    own_low: float | None
    """Lower end of its interval; None for one seed."""
    own_high: float | None
    """Upper end of its interval; None for one seed."""
    n_seeds: int
    """Number of pretraining seeds on which our statistic is finite."""


def published_table(tables: Tables) -> pd.DataFrame:
    """The table `published`: every statistic of Figs. 3 to 6 that was measured.

    Fig. 3 is τ. Fig. 4 is a sine: of rows of the tuned matrix in the released script (`row_sine`), of the
    outputs of ΔW in ours. Fig. 5 is a ratio of unsafe to safe requests: of the score of the text, and of the
    read gain. Fig. 6 is the ratio aligned / base of the sensitivity: of the largest logit, and of the log
    probability of that token.

    Args:
        tables: Tables of the study.

    Returns:
        Rows of `PublishedStatisticRow`.

    Raises:
        NotRun: If none of them was measured.
    """
    rows: list[PublishedStatisticRow] = []
    for rows_of_figure in (_fig_3, _fig_4, _fig_5, _fig_6):
        with suppress(NotRun):
            rows += rows_of_figure(tables)
    if not rows:
        raise NotRun("this preset has no statistic of the published figures")
    return pd.DataFrame(as_dicts(rows))


def _fig_3(tables: Tables) -> Iterator[PublishedStatisticRow]:
    table = rows_of(tables, "published_tau", requests=("safe", "unsafe"))
    for (arm, requests, block), rows in table.groupby(["arm", "requests", "layer"], sort=False):
        released, ours = (_by_seed(rows[rows.definition == name].tau) for name in ("released", "ours"))
        values, layer = PUBLISHED_TAU.get(str(arm), {}).get(str(requests), ()), int(cast("int", block))
        paper_value = values[layer] if layer < len(values) else None
        yield _row("Fig. 3", arm, f"τ, {requests} requests", layer, paper_value, released, ours)


def _fig_4(tables: Tables) -> Iterator[PublishedStatisticRow]:
    table = rows_of(tables, "updates", matrix="mlp.W_in", against="update")
    table = table[table["row_sine"].notna() & table["sine"].notna()]
    for (arm, layer), rows in table.groupby(["arm", "layer"], sort=False):
        released, ours = _by_seed(rows["row_sine"]), _by_seed(rows["sine"])
        yield _row("Fig. 4", arm, "sine to the column space of W_in", layer, None, released, ours)


def _fig_5(tables: Tables) -> Iterator[PublishedStatisticRow]:
    table = rows_of(tables, "read_gain", matrix="mlp.W_in", family=("safe", "unsafe"))
    wide = table.pivot_table(index=["arm", "layer", "seed"], columns="family", values=["score", "gain"])
    ratios = {name: wide[name]["unsafe"] / wide[name]["safe"] for name in ("score", "gain")}
    for (arm, layer), rows in pd.DataFrame(ratios).groupby(level=["arm", "layer"], sort=False):
        released, ours = _by_seed(rows["score"]), _by_seed(rows["gain"])
        yield _row("Fig. 5", arm, "read gain of ΔW_in, unsafe / safe", layer, None, released, ours)


def _fig_6(tables: Tables) -> Iterator[PublishedStatisticRow]:
    table = rows_of(tables, "sensitivity", family=("safe", "unsafe"))
    for (arm, family), rows in table.groupby(["arm", "family"], sort=False):
        released, ours = (
            _by_seed(rows[rows.output == output].ratio_median) for output in ("max_logit", "log_p")
        )
        quantity = f"sensitivity, aligned / base, {family} requests"
        yield _row("Fig. 6", arm, quantity, None, None, released, ours)


def _by_seed(values: pd.Series) -> Estimate:
    """Mean over the seeds on which a statistic is finite; NaN where there is none."""
    finite = [value for value in values.astype(float) if np.isfinite(value)]
    return mean_confidence_interval(finite) if finite else Estimate(np.nan, None, None, 0)


def _row(
    figure: str, arm: Any, quantity: str, layer: Any, paper_value: float | None, *estimates: Estimate
) -> PublishedStatisticRow:
    released, ours = estimates
    return PublishedStatisticRow(
        figure,
        str(arm),
        quantity,
        None if layer is None else int(layer),
        paper_value,
        *released[:3],
        *ours[:3],
        ours.n,
    )


def draw_published_tau(tables: Tables, preset: Preset) -> list[Axes]:
    """τ by layer in the released definition, beside the published values: one panel per arm."""
    table = rows_of(tables, "published", figure="Fig. 3")
    arms = [arm for arm in PUBLISHED_TAU if arm in set(table["arm"])]
    figure, axes = panel_grid(len(arms), across=_PER_ROW, panel=(2.6, 2.1))
    for ax, arm in zip(axes, arms, strict=True):
        for requests, colour in _CLASS_COLOURS.items():
            rows = table[(table.arm == arm) & (table.quantity == f"τ, {requests} requests")]
            layer = rows["layer"].astype(int) + 1
            ax.plot(layer, rows["script_mean"], "-o", color=colour, markersize=3, label=f"{requests}, ours")
            low, high = (rows[name].astype(float) for name in ("script_low", "script_high"))
            ax.fill_between(layer, low, high, color=colour, alpha=0.15, linewidth=0)
            ax.plot(
                layer,
                rows["paper_value"].astype(float),
                "--s",
                color=colour,
                markersize=3,
                markerfacecolor="white",
                label=f"{requests}, published",
            )
        ax.axhline(0, color="0.8", linewidth=0.6, zorder=0)
        ax.set(title=arm_name(arm), xlabel="layer", ylabel="τ")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return axes


PUBLISHED_FIGURES: Sequence[Figure] = (
    Figure(
        "published_tau",
        "τ by layer in the released definition, beside the published values",
        "Mean τ of safe and unsafe requests in the definition of the released script: first units of the "
        "MLP, ten positions with the instructed answer forced, first grammar, and means of the safe branch, "
        "of the scored requests. Solid: our models, means of seeds with 95 % bands. Dashed: values read off "
        "Fig. 3 of Jain et al. 2024, one model each, reading error up to .3 in the first layers. The table "
        "`published` has both beside τ in our definition; `published_tau` has every single change of the "
        "definition.",
        draw_published_tau,
        requires=("published_tau", "published"),
        claims=("C2.early",),
    ),
)
"""Figures that compare with published values."""
