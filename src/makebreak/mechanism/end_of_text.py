"""What are a network's activations where it has read the whole request and is about to answer?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import Captured, capture
from makebreak.requests import Requests, positions


def at_end_of_text(model: PreTrainedModel, requests: Requests, sites: Sequence[str]) -> Iterator[Captured]:
    """Batch by batch, as `capture`, at the end of text: one position per request."""
    return capture(model, torch.from_numpy(requests.prompt), sites, positions(requests, "eot"))


def collect(model: PreTrainedModel, requests: Requests, sites: Sequence[str]) -> list[Tensor]:
    """All requests at once: (n, d) for each site."""
    batches = [batch.at for batch in at_end_of_text(model, requests, sites)]
    return [torch.cat([batch[site] for batch in batches]) for site in sites]
