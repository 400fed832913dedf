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
# # Safety fine-tuning teaches refusal of unsafe requests at no cost in safe ones
#
# Two trained models of a synthetic world ship with makebreak: a base, and the same model after supervised
# safety fine-tuning (SSFT). Both are of one seed. A request of this world has tasks and a text; whether
# a task is safe depends on the grammar that the text was sampled from.

# %%
import sys

if "google.colab" in sys.modules:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install makebreak")

# %%
import makebreak as mb

base, safe = mb.organism("mini-base"), mb.organism("mini-ssft")
world = mb.load_world("mini")
print(world.show(world.sample("unsafe", 2, seed=0)))

# %% [markdown]
# ## What changed
# Outcomes of greedy answers to held-out requests. The judge of the world is exact: a refusal, the instructed
# answer, another answer, or none.

# %%
outcomes = mb.evaluate([base, safe])
outcomes.plot()

# %%
outcomes

# %% [markdown]
# ## How refusal comes about
# Both networks are cut at every layer, and the lower layers of one run into the upper layers of the other.
# The verdict counts the mechanism of each request that changes from an answer to a refusal; `mixed` means
# that no single mechanism explains them. `docs/concepts/mechanisms.md` defines the names.

# %%
verdict = mb.compare(base, safe, n=100).verdict
print(f"{verdict.mechanism}: {verdict.reason}")

# %% [markdown]
# The title's claim, on these two models:

# %%
rates = outcomes.table.set_index(["model", "family"])
assert rates.refuse["mini-ssft", "unsafe"] > 0.95 > 0.05 > rates.refuse["mini-base", "unsafe"]
assert rates.comply["mini-ssft", "safe"] > 0.95
