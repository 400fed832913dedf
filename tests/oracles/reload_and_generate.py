"""A point of a landscape as evaluated in the release of Peng et al. 2024: copy, reload, generate."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel


def generate_at(
    model: PreTrainedModel,
    direction: Mapping[str, Tensor],
    distance: float,
    prompts: np.ndarray,
    *,
    n_new: int,
    batch: int = 4,
) -> np.ndarray:
    """(n, n_new) greedy tokens at θ0 + distance · direction, for prompts of one length, `batch` at a time."""
    perturbed = copy.deepcopy(model)
    state = perturbed.state_dict()
    perturbed.load_state_dict(
        {k: v + distance * direction[k] if k in direction else v for k, v in state.items()}
    )
    with torch.no_grad():
        parts = [
            perturbed.generate(  # type: ignore[operator]
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=n_new,
                min_new_tokens=n_new,
                do_sample=False,
                pad_token_id=0,
            )[:, ids.shape[1] :]
            for ids in torch.from_numpy(prompts).split(batch)
        ]
    return torch.cat(parts).numpy()
