"""What does a model answer whose answer has been begun for it?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Int

from makebreak.requests import TextRequests, with_prefill


def prefilled(requests: TextRequests, n: Int[np.ndarray, " n"]) -> TextRequests:
    """The first n tokens of each target at the end of its prompt; what is left of it, which may be nothing, is the
    target. Raises ValueError where a target is shorter."""
    if (n > requests.judged[:, 1]).any():
        raise ValueError(
            f"{int(n.max())} tokens to force: targets have {requests.judged[:, 1].min()} or more"
        )
    left = np.zeros_like(requests.instructed)
    for i, forced in enumerate(n.tolist()):
        left[i, : left.shape[1] - forced] = requests.instructed[i, forced:]
    judged = np.stack([np.zeros_like(n), requests.judged[:, 1] - n], axis=1)
    return replace(with_prefill(requests, n), instructed=left, judged=judged)
