"""How much does the decision hang on the request's tokens (Jain et al. 2024, Fig. 6)?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from makebreak.activations import at_last, run_embedded
from makebreak.behaviour import batches, prompts
from makebreak.requests import Requests


class Sensitivity(NamedTuple):
    """‖∂f/∂e‖_F over the embeddings e of every token before the last, per request.

    max_logit: f is the greatest logit at the end of the prompt, as published. log_p: the log probability of that token,
    which does not grow with the scale of the logits.
    """

    max_logit: Float[Tensor, " n"]
    log_p: Float[Tensor, " n"]


def sensitivity(model: PreTrainedModel, requests: Requests) -> Sensitivity:
    found: list[list[Tensor]] = [[], []]
    for part in batches(requests):
        tokens, last = prompts(part)
        embedded = model.get_input_embeddings()(tokens.to(model.device)).detach().requires_grad_()
        with at_last(model, last):
            logits = run_embedded(model, embedded).logits[:, 0].float()
        before = (torch.arange(tokens.shape[1]) < last[:, None])[..., None].to(embedded)
        for norms, scores in zip(found, (logits, logits.log_softmax(-1)), strict=True):
            [gradient] = torch.autograd.grad(scores.max(dim=1).values.sum(), embedded, retain_graph=True)
            norms.append((gradient * before).flatten(1).norm(dim=1).cpu())
    return Sensitivity(*(torch.cat(norms) for norms in found))


def sensitivity_rows(
    model: PreTrainedModel, base: PreTrainedModel, requests: Mapping[str, Requests]
) -> list[dict[str, Any]]:
    """One row per family and output: medians over requests of both models, and of their ratio request by request."""
    rows = []
    for family, asked in requests.items():
        aligned, before = (sensitivity(m, asked)._asdict() for m in (model, base))
        for output in Sensitivity._fields:
            a, b = aligned[output], before[output]
            medians = {
                "aligned": float(a.median()),
                "base": float(b.median()),
                "ratio": float((a / b).median()),
            }
            rows.append({"family": family, "output": output, **medians})
    return rows
