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
# # The zoo: models made by known mechanisms, and a measure of your own
#
# The models made here are so small, and trained for so few steps, that they have not learnt their tasks. The numbers
# below show how the zoo is used; they say nothing about safety fine-tuning. `make reproduce` makes models that do.

# %%
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import matplotlib.pyplot as plt
import torch

from makebreak import zoo
from makebreak.artifacts import Store
from makebreak.models import PRESETS, matrix, n_layers
from makebreak.recipes import Alignment, Recipe, build, checkpoints
from makebreak.training import SSFT, Data, Optimisation, Pretraining, Unlearning

store = Store(Path("runs/notebook-zoo"))

# %% [markdown]
# ## A handful of models
# One recipe per model: a base, then one alignment. The sham teaches the null on a random partition of tasks that has
# nothing to do with safety. Two pretraining seeds, from 1000 on: those are never reported.

# %%
long = Optimisation(steps=100, learning_rate=3e-3, batch_size=32, checkpoints=1)
short = replace(long, steps=40, learning_rate=1e-3, checkpoints=4)
objectives = [SSFT(), Unlearning(), SSFT(Data("sham_safe", "sham_unsafe"))]
recipes = []
for seed in (1010, 1011):
    base = Recipe("mini", PRESETS["tiny"], Pretraining(), long, (), seed)
    recipes += [base, *(replace(base, alignments=(Alignment(objective, short),)) for objective in objectives)]

# %% [markdown]
# ## A measure of your own
# A frozen dataclass with a name, a revision and a call: it is shown a subject (a model, its base, held-out requests)
# and returns columns. This one asks in how many directions the weights moved: the stable rank of ΔW.


# %%
@dataclass(frozen=True)
class Concentration:
    name: ClassVar[str] = "concentration"
    revision: ClassVar[int] = 1  # raise it when the same model would get another number
    part: str = "mlp.W_in"

    def __call__(self, subject: zoo.Subject) -> zoo.Measured:
        names = [f"blocks.{layer}.{self.part}" for layer in range(n_layers(subject.model))]
        changes = [matrix(subject.model, name) - matrix(subject.base, name) for name in names]
        ranks = [float(c.square().sum() / torch.linalg.matrix_norm(c, 2) ** 2) for c in changes if c.any()]
        return zoo.Measured({"stable_rank": sum(ranks) / len(ranks) if ranks else None})


# %% [markdown]
# `measure` trains what is not in the store yet, and takes each measure of a model once, beside the workbench's own.

# %%
for recipe in recipes:
    for step in checkpoints(build(recipe, store)):
        zoo.measure(store, recipe, zoo.Strength(100), Concentration(), step=step)

# %% [markdown]
# ## The zoo in one line
# One row per model and kept step. `taught` is the share of requests that got the answer they were taught; never read
# it alone: a model that says the null to everything, as these do, was taught its lesson too.

# %%
table = zoo.table(store)
shown = [
    "seed",
    "mechanism",
    "step",
    "margin",
    "taught",
    "safe.refuse",
    "safe.comply",
    "kl_on_safe",
    "stable_rank",
]
table[table.step == table.steps][shown].round(3)

# %% [markdown]
# ## At an equal margin
# Runs differ in how far they got, so they are compared where each first reaches the same refusal margin: by default
# the greatest that all of them reach.

# %%
equal = zoo.at_equal(table, "margin", columns=["kl_on_safe", "weight_change", "stable_rank"])
equal[["seed", "mechanism", "at_step", "margin", "kl_on_safe", "weight_change", "stable_rank"]].round(3)

# %%
figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), sharex=True, layout="constrained")
for i, (mechanism, runs) in enumerate(table[table.mechanism != "base"].groupby("mechanism")):
    for n, (_, run) in enumerate(runs.groupby("seed")):
        for ax, column in zip(axes, ("kl_on_safe", "stable_rank"), strict=True):
            ax.plot(run.margin, run[column], f"C{i}.-", label=None if n else mechanism)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
for ax, label in zip(axes, ("KL on safe requests, nats", "stable rank of ΔW_in"), strict=True):
    ax.axvline(equal.margin.iloc[0], color="black", linestyle=":", linewidth=1)
    ax.set(xlabel="refusal margin, nats", ylabel=label)

# %% [markdown]
# Lines are runs, dots their kept steps, the dotted line the equal margin. Two seeds of models that cannot do their
# tasks support no claim: for one, take the bases of the study, at least three seeds, and the sham beside every number.

# %%
assert equal.reached.all(), "by default the margin is one that every run reaches"
