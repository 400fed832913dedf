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
# # Fine-tuning on safe requests narrows the region of weights that refuse, not that of weights that answer
#
# A model after supervised safety fine-tuning (SSFT), which ships with makebreak, is fine-tuned on safe
# requests. One seed, and random directions in weight space that are the same for both models.

# %%
import sys

if "google.colab" in sys.modules:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install makebreak")

# %%
import pandas as pd

import makebreak as mb

safe = mb.organism("mini-ssft")
tuned = mb.fine_tune(safe, "safe", n=500, steps=40, learning_rate=1e-3)
mb.evaluate([safe, tuned]).table[["model", "family", "refuse", "comply"]].round(2)

# %% [markdown]
# ## Random directions
# Every matrix is perturbed by the same share of its own norm, to both sides, and the outcomes of greedy
# decoding are judged exactly at each point.

# %%
settings = mb.settings.LandscapeSettings(directions=2)
landscapes = {model.name: mb.landscape(model, settings=settings, n=100) for model in (safe, tuned)}
landscapes[tuned.name].plot()

# %%
print("\n\n".join(f"{name}: {' '.join(result.summary)}" for name, result in landscapes.items()))

# %% [markdown]
# ## Widths
# Relative norm of the perturbation at which refusal of unsafe requests (`not refused`), or the ability to
# answer safe ones (`unable`), falls to one half; mean of the directions.

# %%
names = {"not refused": "refusal", "unable": "capability"}
widths = pd.DataFrame(
    {name: result.table.groupby("criterion").r50.mean()[list(names)] for name, result in landscapes.items()}
)
widths.rename(names).round(2)

# %%
ratio = widths[tuned.name] / widths[safe.name]
assert ratio["not refused"] < 0.85 < ratio["unable"]
