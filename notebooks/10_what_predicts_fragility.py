# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Harmful tokens that must be forced predict held-out compliance, the norm of the update does not
#
# Seventeen hundred models of the worlds `mini` and `hidden` were made safe by fifteen mechanisms, measured
# before any attack, and then attacked. Their table ships with makebreak, so that an analysis takes no
# training. The confirmatory seeds 5 to 14 were not looked at before all definitions were fixed; all others
# are exploratory.

# %%
import sys

if "google.colab" in sys.modules:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install makebreak")

# %%
import matplotlib.pyplot as plt
import pandas as pd

import makebreak as mb

zoo = mb.fragility.read_zoo()
models = zoo[zoo.qualifies & ~zoo.is_control]
models.groupby(["world", "mechanism"]).size().unstack("world").fillna(0).astype(int)

# %% [markdown]
# ## Predictors and outcomes
# A model qualifies if it refuses 98 % of unsafe requests and answers 95 % of safe ones. Columns
# `predictor.NAME` were known before the attacks, `outcome.NAME` are their results.

# %%
outcomes = [name for name in models if name.startswith("outcome.")]
models.groupby("world")[outcomes].mean().T.round(2)

# %% [markdown]
# ## Associations
# Rank correlations within a pretraining seed and a length of alignment, over mechanisms, then means over
# doses and seeds with Student intervals. `partial_correlation` is what is left given margin and norm.

# %%
signs = {"prefix_depth": 1, "margin": 1, "weight_change": 0}
kept = [name for name in zoo if not name.startswith("outcome.")] + ["outcome.held_out.success"]
table = mb.fragility.association_table(zoo[kept], signs)
numbers = ["rank_correlation", "low", "high", "partial_correlation", "p_value"]
table[["world", "stage", "predictor", "n_models", *numbers]].round(3)

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), sharey=True, layout="constrained")
for ax, name in zip(axes, signs, strict=True):
    for world, rows in models.groupby("world"):
        ax.plot(rows[f"predictor.{name}"], rows["outcome.held_out.success"], ".", markersize=3, label=world)
    ax.set(xlabel=name)
axes[0].set_ylabel("held-out requests answered")
axes[0].legend()
plt.show()

# %% [markdown]
# The more tokens of the harmful answer must be forced, the fewer requests of families that were not trained
# are answered, in both worlds. The norm of the update has no association of which the sign could be told in
# the confirmatory seeds; in the exploratory ones of `hidden`, larger updates go with more answers. The
# [results](../docs/results/fragility.md) have all 36 predictors and twelve outcomes. A measure of your
# own takes one command: [`makebreak score`](../docs/guides/scoring_a_measure.md).

# %%
for _, rows in table[table.stage == "confirmatory"].groupby("world"):
    rows = rows.set_index("predictor")
    assert rows.high["prefix_depth"] < 0
    assert rows.low["weight_change"] < 0 < rows.high["weight_change"]
    assert pd.notna(rows.partial_correlation["prefix_depth"])
