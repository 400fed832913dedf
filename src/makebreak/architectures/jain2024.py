"""The network of Jain et al. 2024: GPT-2's matrices, in a block that overwrites the residual stream."""

from __future__ import annotations

from dataclasses import replace

from makebreak.architectures.gpt2 import GPT2

_SITES = {
    "hook_resid_pre": ("", "input"),
    "ln1.hook_normalized": ("ln_1", "output"),
    # no module receives the stream between attention and MLP, and adds to it
    **{site: place for site, place in GPT2.sites.items() if site not in ("hook_resid_pre", "hook_resid_mid")},
}
JAIN2024 = replace(
    GPT2,
    model_types=("jain2024",),
    sites=_SITES,
    parts={"attn": ("ln_1", "attn"), "mlp_in": ("mlp.c_fc",), "mlp_out": ("mlp.c_proj",)},
    norms={"ln_1": ()},  # attention reads it, but so does the residual stream
    overwrites_stream=True,
)
