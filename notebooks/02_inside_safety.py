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
# # Routing is the most frequent mechanism of refusal, and it is not special to safety
#
# Six trained models of one world ship with makebreak, all of one seed: a base, three alignments of it (SSFT,
# DPO, unlearning) and two controls. *Sham* trains refusals of random tasks that have nothing to do with
# safety; *remap* trains another answer to unsafe requests in place of a refusal. Every model is compared with
# the base.

# %%
import sys

if "google.colab" in sys.modules:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install makebreak")

# %%
import pandas as pd

import makebreak as mb

base = mb.organism("mini-base")
alignments = ["ssft", "dpo", "unlearning", "sham", "remap"]
comparisons = {name: mb.compare(base, mb.organism(f"mini-{name}"), n=100) for name in alignments}

# %% [markdown]
# ## Mechanisms
# For each request whose answer alignment changed, the rule says by which mechanism. `route`: the base's own
# upper layers turn what changed lower layers do into the trained answer. `silence`: lower layers leave a mark
# to which only changed upper layers react. `redundant`: changed lower layers suffice, and so do changed upper
# ones. `docs/concepts/mechanisms.md` defines them all, and says how often the rule is right on networks with
# a known mechanism.

# %%
verdicts = {name: result.verdict for name, result in comparisons.items()}
shares = pd.DataFrame(
    {name: {share.mechanism: share.share for share in verdict.shares} for name, verdict in verdicts.items()}
).fillna(0)
shares.loc["requests that changed"] = [verdict.shares[0].n_flips for verdict in verdicts.values()]
shares.T.round(2).assign(verdict=[verdict.mechanism for verdict in verdicts.values()])

# %% [markdown]
# ## One comparison
# Stitching of the base and of the model after SSFT, layer by layer.

# %%
comparisons["ssft"].plot("stitching")

# %% [markdown]
# ## The model by itself
# Separation of safe and unsafe requests inside the model after SSFT, and candidates for a refusal direction.

# %%
print("\n".join(mb.inspect(mb.organism("mini-ssft"), n=100).summary))

# %%
most_frequent = shares.drop("requests that changed").idxmax()
assert (most_frequent[["ssft", "dpo", "unlearning", "remap"]] == "route").all()
assert shares.remap["route"] > shares.ssft["route"]
