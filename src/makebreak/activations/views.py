"""How does one go on in TransformerLens or nnsight? The same weights, their own ways to look.

Both views read what `capture` reads, under the same names: tests hold them to the same numbers. From there on use
their own documentation: `transformer_lens_view(model).run_with_cache(...)`, `nnsight_view(model).trace(...)`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations.sites import module_path, site_names

Read = Mapping[str, Float[Tensor, "batch pos d"]]


def transformer_lens_view(model: PreTrainedModel) -> Any:
    """A TransformerBridge over a copy: wrapping changes a model, which could no longer be saved.

    It has no tokenizer: pass ids, and `prepend_bos=False`. Its weights are raw, LayerNorm unfolded.
    """
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    own = copy.deepcopy(model)
    return build_bridge_from_module(own, type(own).__name__, hf_config=own.config)


def read_with_transformer_lens(
    model: PreTrainedModel, tokens: Int[Tensor, "batch pos"], sites: Sequence[str]
) -> Read:
    """site → activations, heads side by side. Raises ValueError for an unknown site."""
    for site in sites:
        module_path(model, site)
    with torch.no_grad():
        _, cache = transformer_lens_view(model).run_with_cache(
            tokens, prepend_bos=False, names_filter=list(sites)
        )
    return {site: cache[site].flatten(2) for site in sites}


def nnsight_view(model: PreTrainedModel) -> Any:
    """An NNsight over the model itself, which it does not copy or change."""
    from nnsight import NNsight

    return NNsight(model)


def read_with_nnsight(model: PreTrainedModel, tokens: Int[Tensor, "batch pos"], sites: Sequence[str]) -> Read:
    """site → activations. Raises ValueError for an unknown site."""
    import nnsight

    where = {site: module_path(model, site) for site in sites}
    view = nnsight_view(model)
    envoys = [(site, view.get(where[site][0]), where[site][1]) for site in site_names(model) if site in where]
    with torch.no_grad(), view.trace(tokens):
        found = nnsight.save({})
        for site, envoy, side in envoys:
            found[site] = envoy.input if side == "input" else envoy.output
    return {site: found[site] for site in sites}
