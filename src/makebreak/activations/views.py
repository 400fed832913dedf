"""Views of a transformers model in TransformerLens and nnsight, with the same weights and site names.

Both libraries are optional: `pip install 'makebreak[interp]'`. Both views return the numbers that `capture`
returns. Continue with the libraries' own documentation:
`transformer_lens_view(model).run_with_cache(...)`, `nnsight_view(model).trace(...)`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations.sites import module_path, resolve_site, site_names
from makebreak.optional_packages import import_optional


def transformer_lens_view(model: PreTrainedModel) -> Any:
    """A TransformerLens `TransformerBridge` over a copy of the model.

    A copy, because wrapping changes a model so that it can no longer be saved. The bridge has no tokenizer:
    pass token ids and `prepend_bos=False`. Its weights are unprocessed (LayerNorm is not folded).
    """
    builder = import_optional(
        "transformer_lens.model_bridge.sources._bridge_builder", "a view in TransformerLens"
    )
    model_copy = copy.deepcopy(model)
    return builder.build_bridge_from_module(
        model_copy, type(model_copy).__name__, hf_config=model_copy.config
    )


def activations_from_transformer_lens(
    model: PreTrainedModel, tokens: Int[Tensor, "batch pos"], sites: Sequence[str]
) -> Mapping[str, Float[Tensor, "batch pos d"]]:
    """Activations at all positions, by site, computed by TransformerLens.

    Args:
        model: Model that is copied into TransformerLens.
        tokens: Token ids, one sequence per row.
        sites: Site names, as listed by `site_names`.

    Returns:
        Activations by site name, heads concatenated.

    Raises:
        ValueError: If a site is unknown.
    """
    for site in sites:
        module_path(model, site)
    with torch.no_grad():
        _, cache = transformer_lens_view(model).run_with_cache(
            tokens, prepend_bos=False, names_filter=list(sites)
        )
    return {site: cache[site].flatten(2) for site in sites}


def nnsight_view(model: PreTrainedModel) -> Any:
    """An `nnsight.NNsight` over the model itself, which is neither copied nor changed."""
    return import_optional("nnsight", "a view in nnsight").NNsight(model)


def activations_from_nnsight(
    model: PreTrainedModel, tokens: Int[Tensor, "batch pos"], sites: Sequence[str]
) -> Mapping[str, Float[Tensor, "batch pos d"]]:
    """Activations at all positions, by site, computed by nnsight.

    Args:
        model: Model that is run.
        tokens: Token ids, one sequence per row.
        sites: Site names, as listed by `site_names`.

    Returns:
        Activations by site name, heads concatenated.

    Raises:
        ValueError: If a site is unknown.
    """
    nnsight = import_optional("nnsight", "a view in nnsight")
    paths = {site: module_path(model, site) for site in sites}
    scales = {site: resolve_site(model, site).scale for site in sites}
    view = nnsight_view(model)
    in_forward_order = [site for site in site_names(model) if site in paths]
    envoys = [(site, view.get(paths[site][0]), paths[site][1]) for site in in_forward_order]
    with torch.no_grad(), view.trace(tokens):
        activations = nnsight.save({})
        for site, envoy, side in envoys:
            states = envoy.input if side == "input" else envoy.output
            activations[site] = states.clone()  # a block may go on in place
    return {site: (activations[site] * scales[site]).view(*tokens.shape, -1) for site in sites}
