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
# # One judge of four finds refusals in a language model that was never trained
#
# The same functions take language models. `make smollm` downloads SmolLM2-135M-Instruct, for which this
# notebook then runs; without it a tiny model with random weights is made here (one seed). It is a control of
# the measures: what they find in it is neither a refusal nor a mechanism of one.

# %%
import sys

if "google.colab" in sys.modules:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install makebreak")

# %%
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed
from transformers.utils import logging

import makebreak as mb

logging.disable_progress_bar()

# %% [markdown]
# ## The model
# Any folder of a transformers model will do, a .gguf file, or an id of the Hugging Face Hub.


# %%
def save_untrained(folder):
    set_seed(0)
    pairs = ByteLevelBPETokenizer()
    pairs.train_from_iterator(["Explain how tea is made.", "I cannot help with that."], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pairs._tokenizer, eos_token="!", pad_token="!")
    tokenizer.chat_template = "{% for m in messages %}Q: {{ m['content'] }}\n{% endfor %}A:"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


downloads = sorted(Path("runs/models").glob("SmolLM2*.gguf"))
model = mb.open_model(downloads[0] if downloads else save_untrained(Path("runs/untrained")))
model

# %% [markdown]
# ## Refusals, separation and refusal direction
# On prompts that ship with makebreak. Class means are fitted on half of them, and the other half is scored.
# Dotted: class means under shuffled labels.

# %%
inspection = mb.inspect(model, n=48)
inspection.plot()

# %%
print("\n\n".join(inspection.summary))

# %% [markdown]
# Refusal rates by judge. Three judges look for words of a refusal. The classifier learnt from answers of
# trained models, and random tokens are none of these.

# %%
inspection.table[["family", "judge", "n", "refuse", "low", "high", "degenerate"]].round(2)

# %% [markdown]
# The same as a page, with all tables and figures:

# %%
print(inspection.save("runs/notebook-page"))

# %%
harmful = inspection.table.query("family == 'harmful'").set_index("judge").refuse
assert downloads or harmful["classifier"] > 0.1 > harmful.drop("classifier").max()
