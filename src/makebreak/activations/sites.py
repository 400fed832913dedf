"""Where can a network be looked into? Sites carry TransformerLens names and are plain torch modules here.

A site is one side of a module, so that a hook there sees the tensor itself. Heads lie side by side in `attn.hook_z`,
(batch, pos, n_heads · d_head), where TransformerLens gives them an axis of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from torch import nn
from transformers import PreTrainedModel

from makebreak.configs import nearest
from makebreak.models import n_layers

Side = Literal["input", "output"]


class Site(NamedTuple):
    """A module, and which side of it is meant."""

    module: nn.Module
    side: Side


_GPT2: dict[str, tuple[str, Side]] = {
    "hook_resid_pre": ("transformer.h.{}", "input"),
    "attn.hook_z": ("transformer.h.{}.attn.c_proj", "input"),
    "hook_attn_out": ("transformer.h.{}.attn.c_proj", "output"),
    "hook_resid_mid": ("transformer.h.{}.ln_2", "input"),
    "mlp.hook_in": ("transformer.h.{}.mlp", "input"),
    "mlp.hook_pre": ("transformer.h.{}.mlp.c_fc", "output"),
    "mlp.hook_post": ("transformer.h.{}.mlp.c_proj", "input"),
    "hook_mlp_out": ("transformer.h.{}.mlp", "output"),
    "hook_resid_post": ("transformer.h.{}", "output"),
}
_LLAMA: dict[str, tuple[str, Side]] = {
    "hook_resid_pre": ("model.layers.{}", "input"),
    "attn.hook_z": ("model.layers.{}.self_attn.o_proj", "input"),
    "hook_attn_out": ("model.layers.{}.self_attn.o_proj", "output"),
    "hook_resid_mid": ("model.layers.{}.post_attention_layernorm", "input"),
    "mlp.hook_in": ("model.layers.{}.mlp", "input"),
    "mlp.hook_pre": ("model.layers.{}.mlp.gate_proj", "output"),
    "mlp.hook_pre_linear": ("model.layers.{}.mlp.up_proj", "output"),
    "mlp.hook_post": ("model.layers.{}.mlp.down_proj", "input"),
    "hook_mlp_out": ("model.layers.{}.mlp", "output"),
    "hook_resid_post": ("model.layers.{}", "output"),
}
# Gemma 3 normalises what attention and MLP write, before it is added
_GEMMA3: dict[str, tuple[str, Side]] = {
    **_LLAMA,
    "hook_attn_out": ("model.layers.{}.post_attention_layernorm", "output"),
    "hook_resid_mid": ("model.layers.{}.pre_feedforward_layernorm", "input"),
    "hook_mlp_out": ("model.layers.{}.post_feedforward_layernorm", "output"),
}
# attention and MLP read the same stream here, so there is no state between them
_NEOX: dict[str, tuple[str, Side]] = {
    "hook_resid_pre": ("gpt_neox.layers.{}", "input"),
    "attn.hook_z": ("gpt_neox.layers.{}.attention.dense", "input"),
    "hook_attn_out": ("gpt_neox.layers.{}.attention.dense", "output"),
    "mlp.hook_in": ("gpt_neox.layers.{}.mlp", "input"),
    "mlp.hook_pre": ("gpt_neox.layers.{}.mlp.dense_h_to_4h", "output"),
    "mlp.hook_post": ("gpt_neox.layers.{}.mlp.dense_4h_to_h", "input"),
    "hook_mlp_out": ("gpt_neox.layers.{}.mlp", "output"),
    "hook_resid_post": ("gpt_neox.layers.{}", "output"),
}
_LAYOUTS: dict[str, Mapping[str, tuple[str, Side]]] = {
    "gpt2": _GPT2,
    "llama": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma3_text": _GEMMA3,
    "gpt_neox": _NEOX,
}


def _layout(model: PreTrainedModel) -> Mapping[str, tuple[str, Side]]:
    kind = model.config.model_type
    if kind not in _LAYOUTS:
        raise ValueError(f"model type {kind!r} has no table of sites: expected one of {', '.join(_LAYOUTS)}")
    return _LAYOUTS[kind]


def site_names(model: PreTrainedModel) -> list[str]:
    """All names that hooks accept for this model, layer by layer."""
    return [f"blocks.{i}.{part}" for i in range(n_layers(model)) for part in _layout(model)]


def module_path(model: PreTrainedModel, name: str) -> tuple[str, Side]:
    """Where the module of a name is, and the side. Raises ValueError naming a near one where it does not exist."""
    known = site_names(model)
    if name not in known:
        raise ValueError(
            f"site {name!r} does not exist in this {type(model).__name__}; {nearest(name, known)}"
        )
    layer, part = re.fullmatch(r"blocks\.(\d+)\.(.+)", name).groups()  # type: ignore[union-attr]
    path, side = _layout(model)[part]
    return path.format(layer), side


def resolve(model: PreTrainedModel, name: str) -> Site:
    """The module and side of a name. Raises ValueError naming a near one where it does not exist."""
    path, side = module_path(model, name)
    return Site(model.get_submodule(path), side)
