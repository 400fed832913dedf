"""Sensitivity of the decision to the request's tokens (Jain et al. 2024, Fig. 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import forward_from_embeddings, logits_at_last
from makebreak.evaluation import batches, prompt_tokens
from makebreak.models import check_same_shapes
from makebreak.prompts import Requests
from makebreak.revisions import cache_revision


class Sensitivity(NamedTuple):
    """‖∂f/∂e‖_F over the embeddings e of all tokens before the last, per request, for two functions f."""

    max_logit: Float[Tensor, " n"]
    """f is the greatest logit at the end of the prompt, as published."""
    log_p: Float[Tensor, " n"]
    """f is the log probability of that token, which does not grow with the scale of the logits."""


class SensitivityRow(NamedTuple):
    """Sensitivity of both models for one family and function, medians over requests."""

    family: str
    """Family of the requests."""
    output: str
    """The function that is differentiated: `max_logit` or `log_p`."""
    aligned_median: float
    """Median of the aligned model."""
    base_median: float
    """Median of the base model."""
    ratio_median: float
    """Median of the ratio aligned / base, request by request."""


def sensitivity(model: PreTrainedModel, requests: Requests) -> Sensitivity:
    """Gradient norms of the decision with respect to the embeddings of every token before the last."""
    max_logit_norms: list[Tensor] = []
    log_p_norms: list[Tensor] = []
    for part in batches(requests, model):
        tokens, last = prompt_tokens(part)
        embeddings = model.get_input_embeddings()(tokens.to(model.device)).detach().requires_grad_()
        with logits_at_last(model, last, narrow=True):
            logits = forward_from_embeddings(model, embeddings).logits[:, 0].float()
        before_last = (torch.arange(tokens.shape[1]) < last[:, None])[..., None].to(embeddings)
        for norms, scores in ((max_logit_norms, logits), (log_p_norms, logits.log_softmax(-1))):
            total = scores.max(dim=1).values.sum()
            [gradient] = torch.autograd.grad(total, embeddings, retain_graph=True)
            norms.append((gradient * before_last).flatten(1).norm(dim=1).cpu())
    return Sensitivity(torch.cat(max_logit_norms), torch.cat(log_p_norms))


@cache_revision(2)
def sensitivity_rows(
    requests: Mapping[str, Requests], *, base: PreTrainedModel, tuned: PreTrainedModel
) -> list[SensitivityRow]:
    """Sensitivity of an aligned model and its base, one row per family and function."""
    check_same_shapes(base=base, tuned=tuned)
    rows = []
    for family, batch in requests.items():
        aligned, reference = sensitivity(tuned, batch)._asdict(), sensitivity(base, batch)._asdict()
        for output in Sensitivity._fields:
            a, b = aligned[output], reference[output]
            medians = (float(a.median()), float(b.median()), float((a / b).median()))
            rows.append(SensitivityRow(family, output, *medians))
    return rows
