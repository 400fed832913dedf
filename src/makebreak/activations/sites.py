"""Sites of transformers models under their TransformerLens names, each the input or output of a torch module.

A hook at a site therefore receives the tensor itself. In `attn.hook_z` the heads are concatenated,
(batch, pos, n_heads · d_head); TransformerLens gives them an axis of their own.
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
"""Side of a module at which a hook is attached."""


class Site(NamedTuple):
    """One side of a torch module, at which activations are read or changed."""

    module: nn.Module
    """Module at which the hook is attached."""
    side: Side
    """Whether the site is the module's input or its output."""


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
# Gemma 3 normalises the outputs of attention and MLP before they are added to the residual stream.
_GEMMA3: dict[str, tuple[str, Side]] = {
    **_LLAMA,
    "hook_attn_out": ("model.layers.{}.post_attention_layernorm", "output"),
    "hook_resid_mid": ("model.layers.{}.pre_feedforward_layernorm", "input"),
    "hook_mlp_out": ("model.layers.{}.post_feedforward_layernorm", "output"),
}
# GPT-NeoX computes attention and MLP in parallel from the same residual stream: it has no hook_resid_mid.
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
    """Module path and side of each site of a layer, for the model's architecture."""
    model_type = model.config.model_type
    if model_type not in _LAYOUTS:
        raise ValueError(
            f"model type {model_type!r} has no table of sites: expected one of {', '.join(_LAYOUTS)}; "
            "add a table to makebreak.activations.sites"
        )
    return _LAYOUTS[model_type]


def site_names(model: PreTrainedModel) -> list[str]:
    """Names of all sites of a model, layer by layer, such as `blocks.0.hook_resid_pre`."""
    return [f"blocks.{i}.{part}" for i in range(n_layers(model)) for part in _layout(model)]


def module_path(model: PreTrainedModel, name: str) -> tuple[str, Side]:
    """Dotted path of the module at a site, and the side.

    Args:
        model: Model whose architecture determines the path.
        name: Site name, as listed by `site_names`.

    Returns:
        Path for `model.get_submodule`, and whether the site is its input or output.

    Raises:
        ValueError: If the site does not exist; the message suggests the nearest name.
    """
    known = site_names(model)
    if name not in known:
        raise ValueError(
            f"site {name!r} does not exist in this {type(model).__name__}; {nearest(name, known)}"
        )
    layer, part = re.fullmatch(r"blocks\.(\d+)\.(.+)", name).groups()  # type: ignore[union-attr]
    path, side = _layout(model)[part]
    return path.format(layer), side


def resolve_site(model: PreTrainedModel, name: str) -> Site:
    """Module and side of a site.

    Args:
        model: Model with the site.
        name: Site name, as listed by `site_names`.

    Returns:
        The module at which a hook is attached, and whether to its input or its output.

    Raises:
        ValueError: If the site does not exist; the message suggests the nearest name.
    """
    path, side = module_path(model, name)
    return Site(model.get_submodule(path), side)
