"""Figures of the mechanism show the numbers of their tables."""

from __future__ import annotations

from itertools import product

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from makebreak.plots import (
    describe_bands,
    plot_localisation,
    plot_matched_comparison,
    plot_preactivation_decomposition,
    plot_probes,
    plot_sensitivity,
    plot_stitching,
    plot_updates,
)
from makebreak.plots.landscape import band_limits
from makebreak.stats import mean_confidence_interval
from tests.plots.test_plots import closed, line  # noqa: F401

ARMS = ["ssft", "sham_ssft"]
PAIRS = {"ssft": ("safe", "unsafe"), "sham_ssft": ("sham_safe", "sham_unsafe")}
RNG = np.random.default_rng(0)


def table(columns: list[str], **keys: list[object]) -> pd.DataFrame:
    rows = [dict(zip(keys, values, strict=True)) for values in product(*keys.values())]
    return pd.DataFrame([row | {c: RNG.uniform(0.1, 0.9) for c in columns} for row in rows]).sample(frac=1)


def at(rows: pd.DataFrame, column: str, **chosen: object) -> float:
    for name, value in chosen.items():
        rows = rows[rows[name] == value]
    return float(rows[column].mean())


def test_stitching_is_drawn_by_cut() -> None:
    columns = [
        *("lower_share", "upper_share", "random_share", "kl_share"),
    ]
    rows = table(columns, seed=[0, 1, 2], arm=[*ARMS, "npo"], layer=[0, 1, 2, 3], n_layers=[3])
    axes = plot_stitching(rows, ARMS)
    for arm, name in zip(ARMS, ("SSFT", "SSFT sham"), strict=True):
        for ax, column, cuts in zip(
            axes,
            ("lower_share", "upper_share", "kl_share"),
            (4, 4, 4),
            strict=True,
        ):
            x, y = line(ax, name)
            assert x == list(range(cuts))
            assert y == pytest.approx([at(rows, column, arm=arm, layer=cut) for cut in range(cuts)])
    shown = rows[rows.arm.isin(ARMS)]
    assert line(axes[0], "random, same norm")[1] == pytest.approx(
        [at(shown, "random_share", layer=i) for i in range(4)]
    )
    assert line(axes[0], "half of the blocks")[0] == [1, 1]
    legend = {text.get_text() for text in axes[0].figure.legends[0].get_texts()}
    assert legend == {"SSFT", "SSFT sham", "random, same norm", "half of the blocks", "counts as refusing"}


@pytest.mark.parametrize(("n", "limits"), [(1, (0, 0)), (3, (0, 2)), (20, (0.95, 18.05))])
def test_bands_are_what_the_caption_says(n: int, limits: tuple[float, float]) -> None:
    """Of few directions the least and the greatest rate, since quantiles of three would lie between them."""
    names = ("refusal_rate", "compliance_rate", "safe_compliance_rate")
    curves = pd.DataFrame(
        [{"coordinate": x, **dict.fromkeys(names, float(i))} for i in range(n) for x in (0, 1)]
    )
    low, mean, high = band_limits(curves)
    for rates, expected in ((low, limits[0]), (mean, (n - 1) / 2), (high, limits[1])):
        assert rates.to_numpy() == pytest.approx(np.full((2, 3), expected))
    sentences = {
        1: "", 3: "Bands: minimum to maximum of 3 directions.", 20: "Bands: 5 to 95 % of directions."
    }  # fmt: skip
    assert describe_bands(curves) == sentences[n]


def test_updates_and_their_references() -> None:
    references = ["update", "haar", "permuted", "other_seed"]
    updates = table(
        ["sine", "row_sine"],
        seed=[0, 1],
        arm=ARMS,
        layer=[0, 1],
        matrix=["mlp.W_in", "mlp.W_out"],
        against=references,
    )
    families = ["safe", "unsafe", "sham_safe", "sham_unsafe"]
    matrices = ["mlp.W_in", "mlp.W_gate"]
    both = table(["gain"], seed=[0, 1], arm=ARMS, layer=[0, 1], family=families, matrix=matrices)
    reading = both[both.matrix == "mlp.W_in"]
    axes = plot_updates(updates, both, ARMS, PAIRS)
    inputs = updates[updates.matrix == "mlp.W_in"]
    for ax, column in zip(axes, ("row_sine", "sine"), strict=False):
        expected = [at(inputs, column, arm="ssft", layer=i, against="update") for i in (0, 1)]
        assert line(ax, "SSFT")[1] == pytest.approx(expected)
    named = {"haar": "random update", "permuted": "outputs permuted", "other_seed": "another seed's W"}
    for against, label in named.items():
        assert line(axes[1], label)[1] == pytest.approx(
            [at(inputs, "sine", layer=i, against=against) for i in (0, 1)]
        )
    for arm, name in zip(ARMS, ("SSFT", "SSFT sham"), strict=True):
        safe, unsafe = PAIRS[arm]
        for i, ratio in enumerate(line(axes[2], name)[1]):
            gains = [
                [at(reading, "gain", arm=arm, layer=i, seed=s, family=f) for s in (0, 1)]
                for f in (safe, unsafe)
            ]
            assert ratio == pytest.approx(np.mean(np.divide(gains[1], gains[0])))


def test_sensitivity_is_a_median() -> None:
    rows = table(
        ["ratio_median"],
        seed=[0, 1, 2],
        arm=ARMS,
        family=["safe", "context_unsafe"],
        output=["max_logit", "log_p"],
    )
    axes = plot_sensitivity(rows, ARMS, ["safe", "context_unsafe"])
    part = rows[(rows.output == "log_p") & (rows.arm == "ssft")]
    drawn = next(drawn for drawn in axes[1].lines if drawn.get_label() == "SSFT")
    expected = [float(part[part.family == f].ratio_median.median()) for f in ("safe", "context_unsafe")]
    assert list(drawn.get_ydata()) == pytest.approx(expected)
    dots = [y for dot in axes[1].lines if dot.get_marker() == "." for y in dot.get_ydata()]
    assert sorted(dots) == pytest.approx(sorted(rows[rows.output == "log_p"].ratio_median))


def test_localisation_bars() -> None:
    rows = table(
        ["only", "without", "shapley"], seed=[0, 1], arm=ARMS, part=["embed", "blocks.0.attn", "unembed"]
    )
    rows = rows.sort_values("part", key=lambda p: p.map({"embed": 0, "blocks.0.attn": 1, "unembed": 2}))
    axes = plot_localisation(rows, ARMS)
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["embed", "0.attn", "unembed"]
    for ax, column in zip(axes, ("only", "without", "shapley"), strict=True):
        for bars, arm in zip(ax.containers, ARMS, strict=True):
            expected = [at(rows, column, arm=arm, part=p) for p in ("embed", "blocks.0.attn", "unembed")]
            assert [bar.get_width() for bar in bars] == pytest.approx(expected)


def test_preactivation_terms_are_stacked() -> None:
    terms = table(
        ["input_share", "update_share", "interaction_share", "bias_share"],
        arm=ARMS,
        layer=[0, 1],
        family=["safe", "unsafe"],
        matrix=["mlp.W_in", "mlp.W_gate"],
    )
    terms["interaction_share"] = -terms.interaction_share
    keys = {"arm": ARMS, "layer": [0], "family": ["safe", "unsafe"], "matrix": ["mlp.W_in", "mlp.W_gate"]}
    energy = table(["energy"], seed=[0, 1], chance=[0.5, 1.0], **keys)
    axes = plot_preactivation_decomposition(terms, energy, ["ssft"], matrix="mlp.W_gate")
    terms, energy = (t[t.matrix == "mlp.W_gate"] for t in (terms, energy))
    rows = terms[(terms.arm == "ssft") & (terms.family == "unsafe")]
    heights = {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes[1].containers}
    assert heights["W·Δx"] == pytest.approx([at(rows, "input_share", layer=i) for i in (0, 1)])
    low = min(bar.get_y() + bar.get_height() for bars in axes[1].containers for bar in bars)
    assert low == pytest.approx(min(at(rows, "interaction_share", layer=i) for i in (0, 1)))
    curve = next(drawn for drawn in axes[2].lines if list(drawn.get_xdata()) == [0.5, 1.0])
    expected = [at(energy, "energy", arm="ssft", family="safe", chance=c) for c in (0.5, 1.0)]
    assert list(curve.get_ydata()) == pytest.approx(expected)
    plt.close("all")


def test_probes_and_steering() -> None:
    columns = ["harm_auroc", "refusal_auroc", "shuffled_harm_p95", "shuffled_refusal_p95"]
    keys = {"network": ["aligned", "base"], "position": ["text", "eot"], "layer": [0, 1]}
    probes = table(columns, seed=[0, 1], arm=["ssft", "dpo", "npo"], **keys)
    steering = table(["unsafe_margin"], seed=[0, 1], arm=["ssft", "dpo"], kind=["difference", "random"])
    axes = plot_probes(probes, steering.assign(unsafe_baseline=2.0), ["ssft", "dpo"])
    shown = probes[probes.arm != "npo"]
    for ax, probe, position in zip(axes, ("harm", "refusal"), ("text", "eot"), strict=False):
        aligned = {"position": position, "network": "aligned"}
        means = [at(probes, f"{probe}_auroc", arm="dpo", layer=i, **aligned) for i in (0, 1)]
        assert line(ax, "DPO + NLL")[1] == pytest.approx(means)
        chance = [at(shown, f"shuffled_{probe}_p95", layer=i, **aligned) for i in (0, 1)]
        assert line(ax, "shuffled, 95th percentile")[1] == pytest.approx(chance)
        base = [at(shown, f"{probe}_auroc", layer=i, position=position, network="base") for i in (0, 1)]
        assert line(ax, "base, same labels")[1] == pytest.approx(base)
    names = [tick.get_text() for tick in axes[2].get_yticklabels()]
    widths = {name: bar.get_width() for name, bar in zip(names, axes[2].containers[1], strict=True)}  # of DPO
    for kind in ("difference", "random"):
        assert widths[kind] == pytest.approx(1 - at(steering, "unsafe_margin", arm="dpo", kind=kind) / 2)


def test_matched_comparison_shows_intervals() -> None:
    rows = table(["gap"], seed=[0, 1, 2], arm=["ssft", "dpo"], on=["end", "margin"])
    rows.loc[(rows.on == "margin") & (rows.arm == "dpo"), "gap"] = np.nan
    [ax] = plot_matched_comparison(
        rows, ["ssft", "dpo"], {"gap": "a gap"}, {"end": "the end", "margin": "equal"}
    )
    drawn = sorted((float(dot.get_xdata()[0]), float(dot.get_ydata()[0])) for dot in ax.lines)
    expected = [("ssft", "end"), ("dpo", "end"), ("ssft", "margin")]
    assert [y for _, y in drawn] == pytest.approx([at(rows, "gap", arm=arm, on=on) for arm, on in expected])
    bars = sorted(tuple(bar.get_segments()[0][:, 1]) for bar in ax.collections)
    intervals = [
        mean_confidence_interval(rows[(rows.arm == arm) & (rows.on == on)].gap.tolist())
        for arm, on in expected
    ]
    assert bars == [pytest.approx((f.low, f.high)) for f in sorted(intervals, key=lambda f: f.low)]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["the end", "equal"]
