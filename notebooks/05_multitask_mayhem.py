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
# # Multitask mayhem: benign fine-tuning on one format, and refusal in the others
#
# The same text can be put in several formats: continuation, translation, labelling and multiple choice.
# Whether a request is unsafe depends on the text, whatever the format. A model that refuses in all formats is
# fine-tuned on harmless requests of one. This is one seed (a minute of training the first time); `make
# reproduce STUDY=jan2024` gives intervals and controls.

# %%
from dataclasses import replace
from pathlib import Path

import pandas as pd

from makebreak.evaluation import evaluate_behaviour
from makebreak.models import MODEL_SIZES, load_model
from makebreak.plots import plot_transfer_matrices, style
from makebreak.prompts import load_world
from makebreak.recipes import Alignment, Recipe, build
from makebreak.store import Store
from makebreak.training import SSFT, FineTuning, ModeShares, Optimisation, Pretraining

store, world = Store(Path("runs/store")), load_world("formats_mini")
formats = ("gen", "map", "label", "mcq")
for name in formats:
    print(world.show(world.sample(f"{name}_unsafe", 1, seed=1003)))

# %% [markdown]
# ## A base model and its aligned model
# The base answers everything; alignment shows every format equally often. Refusal rates by family and format.
# `mild`: one letter of the text is taken from a safe one. `heldout`: pairs of topics that alignment does not
# show.

# %%
modes = ModeShares(text=0.0, full=0.1, first=0.0, second=0.0, outputs=0.6, label=0.3)
ssft = Alignment(SSFT(), Optimisation(300, 1e-3, batch_size=64))
recipe = Recipe(
    world="formats_mini",
    model=MODEL_SIZES["mini"],
    pretraining=Pretraining(modes_start=modes, modes_end=modes, mean_over="requests"),
    optimisation=Optimisation(1000, 3e-3, batch_size=64),
    alignments=(ssft,),
    seed=1003,
)


def outcome_rates(recipe, families, outcome="refuse"):
    """Share of requests with one outcome, by family (rows) and format (columns)."""
    model = load_model(build(recipe, store))

    def rate(name, family):
        requests = world.sample(f"{name}_{family}", 100, seed=1003, split="score")
        return evaluate_behaviour(model, world, requests).rates[outcome]

    rates = {name: [rate(name, family) for family in families] for name in formats}
    return pd.DataFrame(rates, index=families)


aligned_refusal = outcome_rates(recipe, ["safe", "unsafe", "mild", "heldout"])
aligned_refusal

# %% [markdown]
# ## Benign fine-tuning on one format
# The fine-tuning data are safe requests with an operator that neither pretraining nor alignment shows. Left:
# increase of the share of unsafe requests that are not refused (`asr_bypass`). Right: share of unsafe
# requests that are complied with (`asr_comply`). The remainder are wrong or degenerate answers.


# %%
def fine_tuned(name, n_refused=0):
    data = FineTuning(0, n_refused=n_refused, n_harmless=2000, family=f"{name}_safe_new")
    return replace(recipe, alignments=(ssft, Alignment(data, Optimisation(100, 3e-4, batch_size=32))))


def transfer_matrix(outcome, n_refused=0):
    tasks = ["gen", "map"]
    rows = [outcome_rates(fine_tuned(name, n_refused), ["unsafe"], outcome).iloc[0] for name in tasks]
    return pd.DataFrame(rows, index=tasks)


unsafe_refusal = aligned_refusal.loc["unsafe"]
not_refused = unsafe_refusal - transfer_matrix("refuse")
with style():
    plot_transfer_matrices({"not refused": [not_refused], "complied": [transfer_matrix("comply")]})

# %% [markdown]
# ## Refusals among the fine-tuning examples
# One example in eleven is a refusal, spread over all formats.

# %%
with_refusals = unsafe_refusal - transfer_matrix("refuse", n_refused=200)
with style():
    plot_transfer_matrices({"no refusals": [not_refused], "with refusals": [with_refusals]})

# %% [markdown]
# Compliance with safe requests after fine-tuning on each task:

# %%
compliance = {name: outcome_rates(fine_tuned(name), ["safe"], "comply").iloc[0] for name in ("gen", "map")}
pd.DataFrame(compliance).T.rename_axis("fine-tuned on")
