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
# # Inside safety fine-tuning: where does the update write, and how does a model come to refuse?
#
# A base and a model tuned from it, both small enough for a laptop (a minute of training the first time). Pretraining is
# shorter than that of the study, and this is one seed: for intervals and twins, `make reproduce`.

# %%
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from makebreak.activations import (
    add,
    capture,
    intervene,
    nnsight_view,
    read_with_nnsight,
    read_with_transformer_lens,
    transformer_lens_view,
)
from makebreak.artifacts import Store
from makebreak.behaviour import behaviour, decide, first_tokens, log_odds
from makebreak.mechanism import (
    Labelled,
    Pair,
    ablated,
    compare,
    direction_rows,
    label_rows,
    part_rows,
    rank_rows,
    shift_rows,
)
from makebreak.models import PRESETS, extrapolated, load
from makebreak.plots import plot_rivals, plot_updates, style
from makebreak.recipes import Alignment, Recipe, build
from makebreak.requests import OUTCOMES, load_world, positions
from makebreak.training import SSFT, Optimisation, Pretraining

store, world = Store(Path("runs/store")), load_world("mini")
modes = (0.1, 0.2, 0.0, 0.0, 0.7, 0.0)
pretraining = Pretraining(modes_start=modes, modes_end=modes)
recipe = Recipe("mini", PRESETS["mini"], pretraining, Optimisation(1000, 3e-3, batch_size=64), (), 1003)
ssft = Alignment(SSFT(), Optimisation(300, 1e-3, batch_size=64))
base = load(build(recipe, store))
aligned = load(build(replace(recipe, alignments=(ssft,)), store))

# %% [markdown]
# ## Everything that changed, in five lines
# Held-out requests by family, then one call: five tables of rows, and a verdict by rules that were fixed before any
# network was judged.

# %%
asked = {
    f: world.sample(f, 300, seed=2, split="score")
    for f in ("safe", "unsafe", "context_safe", "context_unsafe")
}
found = compare(base, aligned, asked, taught=asked["unsafe"])
tables = {name: pd.DataFrame(rows) for name, rows in found.tables.items()}
found.verdict

# %% [markdown]
# ## Silence, route or rewrite
# The two networks are cut in two at every layer and put together crosswise. `lower_share`: what the *base's* upper part
# makes of the states that the aligned lower part hands it. `random_share`: of a random movement as large. `unheard`:
# share of the movement in the null space of the base's upper part, beside that of a random movement.

# %%
columns = ["layer", "lower_share", "random_share", "upper_share", "unheard", "unheard_chance"]
tables["rivals"][columns].round(2)

# %%
with style():
    plot_rivals(tables["rivals"].assign(seed=0, arm="ssft"), ["ssft"])

# %% [markdown]
# ## Where the update writes (Fig. 4) and what it reads (Fig. 5)
# Near 1 is "in the left null space"; so is a random update, and the released figure, which does not look at the update.

# %%
rows = tables["updates"].query("matrix == 'mlp.W_in'")
rows.pivot(index="layer", columns="against", values="sine").assign(
    released=rows.groupby("layer").released.max()
).round(3)

# %%
named = {name: tables[name].assign(seed=0, arm="ssft") for name in ("updates", "reading")}
with style():
    plot_updates(named["updates"], named["reading"], ["ssft"], {"ssft": ("safe", "unsafe")})

# %% [markdown]
# ## What the change of pre-activations is made of
# `moved_input`: what earlier layers did. `update`: ΔW on the base's own input. The four shares add up to 1.

# %%
tables["anatomy"].query("family == 'unsafe'").round(2)

# %% [markdown]
# ## Sensitivity (Fig. 6) and going on along ΔW
# The greatest logit is what was published; its log probability does not grow with the scale of logits.

# %%
tables["sensitivity"].pivot(index="family", columns="output", values="ratio").round(2)

# %%
null = first_tokens(asked["unsafe"], "refused")
margins = {
    a: log_odds(decide(extrapolated(base, aligned, a), asked["unsafe"]), null).mean()
    for a in (0, 0.5, 1, 1.5)
}
pd.Series({alpha: float(margin) for alpha, margin in margins.items()}, name="margin, nats").round(2)

# %% [markdown]
# ## Which parts carry it
# Shares of the refusal margin: a part alone, beside all others, and on average over orders (Shapley; adds up to 1).

# %%
pd.DataFrame(part_rows(aligned, base, asked["unsafe"], orders=2, seed=0)).set_index("part").round(2)

# %% [markdown]
# ## A refusal direction
# Difference of means, judged by ablation and addition, beside shuffled labels and a random direction; then how many
# directions have to go until fewer than half of the unsafe requests are refused.

# %%
fit = Pair(*(world.sample(f, 300, seed=2, split="fit") for f in ("safe", "unsafe")))
candidates = pd.DataFrame(direction_rows(aligned, fit, Pair(asked["safe"], asked["unsafe"]), seed=0))
candidates.drop(columns="selected").round(2)

# %%
pd.DataFrame(rank_rows(aligned, fit, asked["unsafe"], seed=0)).round(2)

# %% [markdown]
# ## Unsafe apart from refused, and shifts that disturb equally
# Jailbreaks are unsafe and not refused, so the two labels part. Each is scored where the other is fixed, beside the
# 95th percentile of shuffled labels. Then shifts of the state before block 1, scaled to move safe requests by equal KL.

# %%
parting = ("safe", "unsafe", "mixed_text", "competing_tasks_safe_branch", "duplicate_tasks")
drawn = {f: world.sample(f, 300, seed=2, split="score") for f in parting}
labelled = {
    f: Labelled(r, behaviour(aligned, world, r).outcomes == OUTCOMES.index("refuse"))
    for f, r in drawn.items()
}
pd.DataFrame(label_rows(aligned, labelled, seed=0)).round(2)

# %%
shifts = shift_rows(aligned, fit, Pair(asked["safe"], asked["unsafe"]), layer=1, seed=0)
pd.DataFrame(shifts)[["kind", "kl", "unsafe_before", "unsafe_margin", "safe_before", "safe_margin"]].round(2)

# %% [markdown]
# ## By hand
# A site has its TransformerLens name; a position is a span of the request. Interventions nest and are always removed.

# %%
tokens, end = torch.from_numpy(asked["unsafe"].prompt), positions(asked["unsafe"], "eot")
site = "blocks.2.hook_resid_pre"
states = {
    name: next(capture(m, tokens, [site], end)).at[site] for name, m in (("base", base), ("aligned", aligned))
}
movement = (states["aligned"] - states["base"]).mean(dim=0)
with intervene(base, site, add(movement), end):
    moved = log_odds(decide(base, asked["unsafe"]), null).mean()
with ablated(aligned, (movement / movement.norm())[:, None]):
    without = log_odds(decide(aligned, asked["unsafe"]), null).mean()
print(
    f"base + mean movement at the last position: {moved:.2f} nats; aligned without that direction: {without:.2f}"
)

# %% [markdown]
# ## Going on in TransformerLens or nnsight
# The same weights, the same numbers, under the same names.

# %%
few = tokens[:4]
lens, sight = (read(aligned, few, [site])[site] for read in (read_with_transformer_lens, read_with_nnsight))
ours = (
    next(capture(aligned, few, [site], torch.ones_like(few, dtype=torch.bool)))
    .at[site]
    .unflatten(0, few.shape)
)
assert torch.allclose(ours, lens, atol=1e-4)
assert torch.allclose(ours, sight, atol=1e-4)
_, cache = transformer_lens_view(aligned).run_with_cache(few, prepend_bos=False)
print(cache["blocks.2.attn.hook_pattern"].shape, type(nnsight_view(aligned)).__name__)
