"""Where can a network be looked into? Sites carry TransformerLens names and are plain torch modules here."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from torch import nn
from transformers import PreTrainedModel

from makebreak.configs import nearest
from makebreak.models import n_layers


class Site(NamedTuple):
    """A module, and which side of it is meant."""

    module: nn.Module
    side: Literal["input", "output"]


_GPT2 = {
    "hook_resid_pre": ("transformer.h.{}", "input"),
    "hook_resid_mid": ("transformer.h.{}.ln_2", "input"),
    "hook_resid_post": ("transformer.h.{}", "output"),
    "mlp.hook_in": ("transformer.h.{}.mlp", "input"),
    "mlp.hook_pre": ("transformer.h.{}.mlp.c_fc", "output"),
    "mlp.hook_post": ("transformer.h.{}.mlp.c_proj", "input"),
    "hook_mlp_out": ("transformer.h.{}.mlp", "output"),
}
_LLAMA = {
    "hook_resid_pre": ("model.layers.{}", "input"),
    "hook_resid_mid": ("model.layers.{}.post_attention_layernorm", "input"),
    "hook_resid_post": ("model.layers.{}", "output"),
    "mlp.hook_in": ("model.layers.{}.mlp", "input"),
    "mlp.hook_pre": ("model.layers.{}.mlp.gate_proj", "output"),
    "mlp.hook_pre_linear": ("model.layers.{}.mlp.up_proj", "output"),
    "mlp.hook_post": ("model.layers.{}.mlp.down_proj", "input"),
    "hook_mlp_out": ("model.layers.{}.mlp", "output"),
}
_LAYOUTS: dict[str, dict[str, tuple[str, Literal["input", "output"]]]] = {"gpt2": _GPT2, "llama": _LLAMA}  # type: ignore[dict-item]


def _layout(model: PreTrainedModel) -> dict[str, tuple[str, Literal["input", "output"]]]:
    kind = model.config.model_type
    if kind not in _LAYOUTS:
        raise ValueError(f"model type {kind!r} has no table of sites: expected one of {', '.join(_LAYOUTS)}")
    return _LAYOUTS[kind]


def site_names(model: PreTrainedModel) -> list[str]:
    """All names that `capture` accepts for this model, layer by layer."""
    return [f"blocks.{i}.{part}" for i in range(n_layers(model)) for part in _layout(model)]


def resolve(model: PreTrainedModel, name: str) -> Site:
    """The module and side of a name. Raises ValueError naming a near one where it does not exist."""
    known = site_names(model)
    if name not in known:
        raise ValueError(f"site {name!r} does not exist in this {type(model).__name__}; {nearest(name, known)}")
    layer, part = re.fullmatch(r"blocks\.(\d+)\.(.+)", name).groups()  # type: ignore[union-attr]
    path, side = _layout(model)[part]
    return Site(model.get_submodule(path.format(layer)), side)
