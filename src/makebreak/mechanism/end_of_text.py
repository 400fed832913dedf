"""What are a network's activations where it has read the whole request and is about to answer?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import Captured, capture
from makebreak.requests import Requests


def stream(model: PreTrainedModel, requests: Requests, sites: Sequence[str]) -> Iterator[tuple[slice, Captured]]:
    """Batch by batch, as `capture`: (rows, site → (rows, d)) at the end of text."""
    return capture(model, torch.from_numpy(requests.prompt), sites, torch.from_numpy(requests.spans["eot"][:, 0]))


def collect(model: PreTrainedModel, requests: Requests, sites: Sequence[str]) -> list[Tensor]:
    """All requests at once: (n, d) for each site."""
    batches = [found for _, found in stream(model, requests, sites)]
    return [torch.cat([batch[site] for batch in batches]) for site in sites]
