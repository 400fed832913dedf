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
# # The zoo: models with known training, and a measure of your own
#
# The models made here are so small, and trained for so few steps, that they have not learnt their tasks. The
# numbers below show how the zoo is used; they say nothing about safety fine-tuning. `make reproduce` trains
# models that do learn their tasks.

# %%
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import matplotlib.pyplot as plt
import torch

from makebreak import model_zoo as zoo
from makebreak.models import MODEL_SIZES, n_layers, weight_matrix
from makebreak.recipes import Alignment, Recipe, build, checkpoints
from makebreak.store import Store
from makebreak.training import SSFT, AlignmentData, Optimisation, Pretraining, Unlearning

store = Store(Path("runs/notebook-zoo"))

# %% [markdown]
# ## Recipes
# One recipe per model: a base, then one alignment. The sham control trains refusals on a random partition of
# tasks that has nothing to do with safety. Two pretraining seeds, from 1000 on, which are never reported.

# %%
pretraining_steps = Optimisation(steps=100, learning_rate=3e-3, batch_size=32, checkpoints=1)
alignment_steps = replace(pretraining_steps, steps=40, learning_rate=1e-3, checkpoints=4)
objectives = [SSFT(), Unlearning(), SSFT(AlignmentData("sham_safe", "sham_unsafe"))]
recipes = []
for seed in (1010, 1011):
    base = Recipe("mini", MODEL_SIZES["tiny"], Pretraining(), pretraining_steps, (), seed)
    recipes.append(base)
    for objective in objectives:
        recipes.append(replace(base, alignments=(Alignment(objective, alignment_steps),)))

# %% [markdown]
# ## A measure of your own
# A measure is a frozen dataclass with a name, a revision and a call: it is given a subject (a model, its
# base, held-out requests) and returns columns. This one returns the stable rank of ΔW, ‖ΔW‖² / σ₁².


# %%
@dataclass(frozen=True)
class StableRank:
    """Stable rank of the update of one matrix, mean over layers."""

    name: ClassVar[str] = "stable-rank"
    revision: ClassVar[int] = 1  # to be raised when the same model would get another value
    matrix: str = "mlp.W_in"

    def __call__(self, subject: zoo.Subject) -> zoo.Measurement:
        ranks = []
        for layer in range(n_layers(subject.model)):
            name = f"blocks.{layer}.{self.matrix}"
            update = weight_matrix(subject.model, name) - weight_matrix(subject.base, name)
            if update.any():
                ranks.append(float(update.square().sum() / torch.linalg.matrix_norm(update, 2) ** 2))
        return zoo.Measurement({"stable_rank": sum(ranks) / len(ranks) if ranks else None})


# %% [markdown]
# `measure` trains what is not in the store yet, and takes each measure of a model once, this one and
# makebreak's own.

# %%
for recipe in recipes:
    for step in checkpoints(build(recipe, store)):
        zoo.measure(store, recipe, zoo.SafetyMeasure(100), StableRank(), step=step)

# %% [markdown]
# ## The zoo table
# One row per model and checkpoint. `trained_answer_rate` is the share of requests that get the answer on
# which the model was trained. It must not be read without the other columns: a model that refuses every
# request, as these do, has a rate of 1.

# %%
table = zoo.table(store)
columns = [
    "seed",
    "mechanism",
    "step",
    "margin",
    "trained_answer_rate",
    "safe.refuse",
    "safe.comply",
    "kl_on_safe",
    "stable_rank",
]
table[table.step == table.steps][columns].round(3)

# %% [markdown]
# ## Matched comparison
# Runs end at different refusal margins. They are compared where each first reaches the same margin, by
# default the greatest that all of them reach.

# %%
compared = ["kl_on_safe", "weight_change", "stable_rank"]
matched = zoo.matched_comparison(table, "margin", columns=compared)
matched[["seed", "mechanism", "matched_step", "margin", *compared]].round(3)

# %% [markdown]
# Lines are runs, dots their checkpoints, and the dotted line is the matched margin.

# %%
labels = {"kl_on_safe": "KL on safe requests, nats", "stable_rank": "stable rank of ΔW_in"}
figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), sharex=True, layout="constrained")
for i, (mechanism, runs) in enumerate(table[table.mechanism != "base"].groupby("mechanism")):
    for n, (_, run) in enumerate(runs.groupby("seed")):
        for ax, column in zip(axes, labels, strict=True):
            ax.plot(run.margin, run[column], f"C{i}.-", label=None if n else mechanism)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
for ax, label in zip(axes, labels.values(), strict=True):
    ax.axvline(matched.margin.iloc[0], color="black", linestyle=":", linewidth=1)
    ax.set(xlabel="refusal margin, nats", ylabel=label)

# %% [markdown]
# Two seeds of models that cannot do their tasks support no claim. A claim needs the bases of a study, at
# least three seeds, and the sham control for every number.

# %%
assert matched.reaches_value.all(), "by default the margin is one that every run reaches"
