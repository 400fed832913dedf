"""Check that requests and their answers fit into the context of a model."""

from __future__ import annotations

import numpy as np

from makebreak.errors import InvalidInput
from makebreak.models import LanguageModel, context_length
from makebreak.prompts import Requests

_SHOWN = 40  # characters of a request that an error shows


def check_context(lm: LanguageModel, requests: Requests, n_new: int = 0) -> None:
    """Checks that the longest request and its answer fit into the context of a model.

    Args:
        lm: The model.
        requests: Requests with their prompt template.
        n_new: Tokens that are generated or scored behind a request.

    Raises:
        InvalidInput: If they do not: the longest request, its tokens and the context are named.
    """
    n_ctx = context_length(lm.model.config)
    longest = int(np.argmax(requests.prompt_length))
    n_prompt = int(requests.prompt_length[longest])
    if n_ctx is None or n_prompt + n_new <= n_ctx:
        return
    text = str(requests.truth["request"][longest]) if "request" in requests.truth else "a request"
    answer = f" and its answer {n_new}" if n_new else ""
    raise InvalidInput(
        f"{text[:_SHOWN]!r} has {n_prompt} tokens with its template{answer}: expected at most {n_ctx} in "
        f"all, the context of {lm.name}; shorten or remove it"
        + (", or choose a smaller --max-new-tokens" if n_new else "")
    )
