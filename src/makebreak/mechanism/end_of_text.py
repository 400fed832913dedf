"""Activations at the end of text, where the request has been read and the answer begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import ActivationBatch, capture
from makebreak.prompts import Requests, span_mask


def capture_end_of_text(
    model: PreTrainedModel, requests: Requests, sites: Sequence[str]
) -> Iterator[ActivationBatch]:
    """Batches of activations at the end of text, one position per request."""
    return capture(model, torch.from_numpy(requests.prompt), sites, span_mask(requests, "eot"))


def end_of_text_activations(model: PreTrainedModel, requests: Requests, sites: Sequence[str]) -> list[Tensor]:
    """Activations of all requests at the end of text, (n, d) for each site."""
    batches = [batch.activations for batch in capture_end_of_text(model, requests, sites)]
    return [torch.cat([batch[site] for batch in batches]) for site in sites]
