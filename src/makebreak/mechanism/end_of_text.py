"""Activations at the end of text, where the request has been read and the answer begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import ActivationBatch, capture
from makebreak.architectures import architecture_of
from makebreak.models import n_layers
from makebreak.prompts import Requests, span_mask

_SHARED_SITES = ("mlp.hook_in", "hook_attn_out", "mlp.hook_post", "hook_resid_post")
"""Sites of every block whose activations are captured together within `shared_activations`."""
_shared: ContextVar[dict[tuple[int, int], Any] | None] = ContextVar("shared", default=None)


def capture_end_of_text(
    model: PreTrainedModel, requests: Requests, sites: Sequence[str]
) -> Iterator[ActivationBatch]:
    """Batches of activations at the end of text, one position per request."""
    return capture(model, torch.from_numpy(requests.prompt), sites, span_mask(requests, "eot"))


def end_of_text_activations(model: PreTrainedModel, requests: Requests, sites: Sequence[str]) -> list[Tensor]:
    """Activations of all requests at the end of text, (n, d) for each site."""
    shared = _shared.get()
    blocks, of_block = range(n_layers(model)), architecture_of(model).sites
    known = [f"blocks.{layer}.{site}" for layer in blocks for site in _SHARED_SITES if site in of_block]
    if shared is None or not set(sites) <= set(known):
        return _activations(model, requests, sites)
    key = (id(model), id(requests))
    if key not in shared:  # the model and the requests are kept, so that no other ones get their numbers
        shared[key] = model, requests, dict(zip(known, _activations(model, requests, known), strict=True))
    return [shared[key][2][site] for site in sites]


def tau_sites(model: PreTrainedModel) -> list[str]:
    """Site of each layer from which τ is taken.

    Args:
        model: The model.

    Returns:
        `mlp.hook_post`; `hook_mlp_out` of a mixture of experts, whose units differ between tokens.
    """
    site = "hook_mlp_out" if architecture_of(model).has_experts else "mlp.hook_post"
    return [f"blocks.{layer}.{site}" for layer in range(n_layers(model))]


def _activations(model: PreTrainedModel, requests: Requests, sites: Sequence[str]) -> list[Tensor]:
    batches = [batch.activations for batch in capture_end_of_text(model, requests, sites)]
    return [torch.cat([batch[site] for batch in batches]) for site in sites]


@contextmanager
def shared_activations(activations: dict[tuple[int, int], Any]) -> Iterator[None]:
    """A context in which several functions of the same models and requests share the forward passes.

    It is for models whose weights stay as they are, without interventions.

    Args:
        activations: Where activations are kept, empty at first; give the same again to share them with
            later functions.
    """
    token = _shared.set(activations)
    try:
        yield
    finally:
        _shared.reset(token)
