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
# # The stable rank of an update does not tell safety fine-tuning from its controls
#
# A measure of your own, on trained models that ship with makebreak: two worlds, one seed of each. *Sham*
# trains refusals of random tasks that have nothing to do with safety; *remap* trains another answer to unsafe
# requests in place of a refusal. What these controls share with an alignment is not special to safety.

# %%
import sys

if "google.colab" in sys.modules:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install makebreak")

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import makebreak as mb

mb.settings.store = "runs/notebook-zoo"

# %% [markdown]
# ## The measure
# A measure is a function of a subject: the model, its base, and held-out requests. This one returns the mean
# over weight matrices of the stable rank of the update ΔW, ‖ΔW‖² / σ₁².


# %%
@mb.measure("stable_rank", revision=1)  # to be raised when the same model would get another value
def stable_rank(subject):
    before = subject.base.state_dict()
    updates = [(weight - before[name]).numpy() for name, weight in subject.model.state_dict().items()]
    spectra = [np.linalg.svd(update)[1] for update in updates if update.ndim == 2 and update.any()]
    return float(np.mean([(s**2).sum() / s[0] ** 2 for s in spectra])) if spectra else None


# %% [markdown]
# ## Scores
# `score` takes each measure of a model once: the store keeps the values.

# %%
alignments = ["ssft", "dpo", "unlearning", "sham", "remap"]
scores = {}
for world in ("mini", "hidden"):
    scored = mb.score([mb.organism(f"{world}-{name}") for name in alignments], stable_rank)
    scores[world] = scored.table.stable_rank.tolist()
ranks = pd.DataFrame(scores, index=alignments)
ranks.round(2)

# %%
figure, axes = plt.subplots(figsize=(6, 2.5), layout="constrained")
axes.set(ylabel="stable rank of ΔW", title="Left bars: mini, right bars: hidden. Grey: controls.")
axes.set_xticks(range(5), alignments)
for offset, world in ((-0.2, "mini"), (0.2, "hidden")):
    colours = ["C0", "C0", "C0", "lightgrey", "lightgrey"]
    axes.bar(np.arange(5) + offset, ranks[world], 0.35, color=colours, edgecolor="black")

# %% [markdown]
# ## The zoo
# All models of a store, with how each was trained and every value that was measured.

# %%
zoo = mb.zoo()
zoo.table[["world", "seed", "mechanism", "step", "learning_rate", "stable_rank"]].round(4)

# %% [markdown]
# In both worlds the update of the control *remap* has the highest rank, and *sham* lies among the alignments.
# One seed of each world supports no more than this; a claim needs several pretraining seeds.

# %%
assert (ranks.idxmax() == "remap").all()
assert (ranks.idxmin() != "sham").all()
