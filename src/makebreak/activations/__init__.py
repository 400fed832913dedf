"""Reading and changing activations of transformers models, at sites named as in TransformerLens."""

from makebreak.activations.blocks import run_blocks, states_after
from makebreak.activations.capture import ActivationBatch, capture, stream
from makebreak.activations.hooks import (
    attach,
    forward,
    forward_from_embeddings,
    hook_site,
    logits_at,
    logits_at_last,
)
from makebreak.activations.interventions import add, intervene, on_units, patch, project, scale
from makebreak.activations.prefix_cache import MIN_PREFIX_TOKENS, PrefixCache
from makebreak.activations.sites import resolve_site, site_names
from makebreak.activations.views import (
    activations_from_nnsight,
    activations_from_transformer_lens,
    nnsight_view,
    transformer_lens_view,
)

__all__ = [
    "MIN_PREFIX_TOKENS",
    "ActivationBatch",
    "PrefixCache",
    "activations_from_nnsight",
    "activations_from_transformer_lens",
    "add",
    "attach",
    "capture",
    "forward",
    "forward_from_embeddings",
    "hook_site",
    "intervene",
    "logits_at",
    "logits_at_last",
    "nnsight_view",
    "on_units",
    "patch",
    "project",
    "resolve_site",
    "run_blocks",
    "scale",
    "site_names",
    "states_after",
    "stream",
    "transformer_lens_view",
]
