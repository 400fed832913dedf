"""A point of a landscape the way Peng et al. 2024 released it: a full copy, reloaded, generated from to the end."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel


def generated_at(
    model: PreTrainedModel,
    step: Mapping[str, Tensor],
    at: float,
    prompts: np.ndarray,
    *,
    n_new: int,
    batch: int = 4,
) -> np.ndarray:
    """(n, n_new) greedy tokens at T0 + at · step, for prompts of one length, `batch` at a time."""
    moved = copy.deepcopy(model)
    state = moved.state_dict()
    moved.load_state_dict({k: v + at * step[k] if k in step else v for k, v in state.items()})
    with torch.no_grad():
        parts = [
            moved.generate(  # type: ignore[operator]
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
