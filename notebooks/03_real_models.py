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

# %% [markdown]
# # A language model, from Python
#
# What `makebreak inspect` does, step by step. `make smollm` fetches SmolLM2-135M-Instruct; without it a tiny untrained
# model stands in, so that everything runs: it refuses nothing, and nothing is found in it.

# %%
from pathlib import Path

import pandas as pd
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerFast

from makebreak.activations import capture
from makebreak.artifacts import Store
from makebreak.behaviour import (
    JUDGES,
    first_tokens,
    generate_texts,
    is_degenerate,
    log_odds,
    next_token_log_probs,
)
from makebreak.mechanism import Pair, ablated, cluster_rows, direction, direction_rows
from makebreak.models import LanguageModel, ModelConfig, create_model, n_layers, open_model
from makebreak.plots import plot_class_separation, style
from makebreak.requests import evaluation_prompts, span_mask, text_requests
from makebreak.stats import auroc_interval

prompts, store = evaluation_prompts(), Store(Path("runs/store"))
at_hand = sorted(Path("runs/models").glob("*.gguf"))
if at_hand:
    found = open_model(at_hand[0], store=store)
else:
    bytes_ = ByteLevelBPETokenizer()
    bytes_.train_from_iterator([text for texts in prompts.values() for text in texts], vocab_size=600)
    words = PreTrainedTokenizerFast(tokenizer_object=bytes_._tokenizer, eos_token="!", pad_token="!")
    words.chat_template = "{% for m in messages %}Q: {{ m['content'] }}\n{% endfor %}A:"
    size = ModelConfig("llama", n_layers=3, n_heads=2, d_model=32, d_mlp=64)
    found = LanguageModel(
        "a tiny stand-in", create_model(size, d_vocab=len(words), n_ctx=128, seed=0).eval(), words
    )
model, words = found.model, found.tokenizer
print(found.name.rsplit("/", 1)[-1], n_layers(model), "layers")

# %% [markdown]
# ## Ask
# Requests are tokens with spans: where the request itself is, and the last token of the prompt. The log-odds that a
# refusal begins cost one forward.

# %%
asked = {
    f: text_requests(words, prompts[f][:48], family=f, unsafe=f == "harmful") for f in ("harmless", "harmful")
}
firm = {f: log_odds(next_token_log_probs(model, r), first_tokens(r, "refused")) for f, r in asked.items()}
pd.DataFrame({f: x.numpy() for f, x in firm.items()}).describe().loc[["mean", "min", "max"]].round(2)

# %%
few = asked["harmful"][:8]
texts = few.truth["request"].tolist()
answers = generate_texts(found, few, n_new=16)
pd.DataFrame(
    {"request": texts, "answer": answers, "broken": is_degenerate(answers)}
    | {n: j(texts, answers) for n, j in JUDGES.items()}
)

# %% [markdown]
# ## Where harmful and harmless requests separate
# Means are made from one half and the other is scored. The interval is over requests: this is one model.

# %%
fit, score = (Pair(*(asked[f][half::2] for f in ("harmless", "harmful"))) for half in (0, 1))
rows = cluster_rows(model, fit, {"harmful or harmless": score}, seed=0)
for row in rows:
    row["auroc_low"], row["auroc_high"] = auroc_interval(row["auroc"], len(score.safe), len(score.unsafe))
with style():
    plot_class_separation(pd.DataFrame(rows))

# %% [markdown]
# ## A refusal direction, and why each candidate is kept or not

# %%
eight = Pair(*(requests[:8] for requests in score))
candidates = pd.DataFrame(direction_rows(model, fit, eight, controls=False, seed=0))
candidates[["layer", "bypass", "induce", "kl", "reason"]].round(2).head(8)

# %% [markdown]
# ## By hand
# Any site, by its TransformerLens name; any intervention, by hook.

# %%
layer = n_layers(model) // 2
states = next(
    capture(model, torch.from_numpy(few.prompt), [f"blocks.{layer}.hook_resid_pre"], span_mask(few, "eot"))
)
vector = direction(model, fit, layer)
with ablated(model, (vector / vector.norm())[:, None]):
    without = log_odds(next_token_log_probs(model, few), first_tokens(few, "refused"))
print(
    states.at[f"blocks.{layer}.hook_resid_pre"].shape,
    f"{firm['harmful'][:8].mean():.2f} to {without.mean():.2f} nats",
)
