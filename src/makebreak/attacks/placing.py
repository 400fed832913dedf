"""Where does an attack stand? Behind the request, before it, or in place of tokens that its answer does not hang on."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from makebreak.requests import Requests

Where = Literal["suffix", "prefix", "idle"]


class Placed(NamedTuple):
    """requests: with the attack's tokens in them. at: (n, k) their positions in the prompt, ascending."""

    requests: Requests
    at: np.ndarray


def place(
    requests: Requests, n_tokens: int, where: Where = "suffix", *, token: int, n_ctx: int | None = None
) -> Placed:
    """Room for an attack in every prompt, filled with `token`; spans are moved.

    where: `suffix`, right behind the text; `prefix`, right before it; `idle`, in place of all tokens but the text, its
    end and the tasks of the judged output (`n_tokens` is then at most as many as there are, the last ones). n_ctx: of
    the model. Raises ValueError where there is no such room.
    """
    if n_tokens < 1:
        raise ValueError(f"an attack of {n_tokens} tokens: expected at least 1")
    if where == "idle":
        return _idle(requests, n_tokens, token)
    if where not in ("suffix", "prefix"):
        raise ValueError(f"where = {where!r}: expected 'suffix', 'prefix' or 'idle'")
    longest = int((requests.prompt_length + requests.judged[:, 1]).max()) + n_tokens
    if n_ctx is not None and longest > n_ctx:
        raise ValueError(
            f"an attack of {n_tokens} tokens makes prompt and answer {longest} tokens long; the model reads {n_ctx}: "
            "choose a shorter one"
        )
    begin = requests.spans["text"][:, 1 if where == "suffix" else 0]
    n, old = requests.prompt.shape
    column, first = np.arange(old + n_tokens), begin[:, None]
    source = np.where(column < first, column, column - n_tokens)
    prompt = np.take_along_axis(requests.prompt, source.clip(0, old - 1), axis=1)
    at = first + np.arange(n_tokens)
    np.put_along_axis(prompt, at, token, axis=1)
    spans = {}
    for name, span in requests.spans.items():
        start, stop = span.T
        behind = start >= begin
        spans[name] = np.stack(
            [start + n_tokens * behind, stop + n_tokens * (behind | (stop > begin))], axis=1
        )
    placed = replace(requests, prompt=prompt, prompt_length=requests.prompt_length + n_tokens, spans=spans)
    return Placed(placed, np.broadcast_to(at, (n, n_tokens)).copy())


def written(placed: Placed, ids: Int[np.ndarray, "n k"]) -> Requests:
    """The requests with these ids at the attack's positions."""
    prompt = placed.requests.prompt.copy()
    np.put_along_axis(prompt, placed.at, ids, axis=1)
    return replace(placed.requests, prompt=prompt)


def _idle(requests: Requests, n_tokens: int, token: int) -> Placed:
    if "tasks" not in requests.spans:
        raise ValueError(
            "idle positions are those of a world's requests; expected 'suffix' or 'prefix' for text"
        )
    column = np.arange(requests.prompt.shape[1])
    used = column >= requests.prompt_length[:, None]
    for start, stop in (requests.spans["text"].T, requests.spans["eot"].T, _judged_tasks(requests)):
        used |= (column >= start[:, None]) & (column < stop[:, None])
    free = (~used).sum(axis=1)
    if free.min() < n_tokens:
        raise ValueError(
            f"an attack of {n_tokens} tokens: {free.min()} positions are idle in some prompt; ask for fewer"
        )
    at = np.sort(np.argsort(used, axis=1, kind="stable")[:, : free.min()], axis=1)[:, -n_tokens:]
    return Placed(written(Placed(requests, at), np.full_like(at, token)), at)


def _judged_tasks(requests: Requests) -> tuple[np.ndarray, np.ndarray]:
    """Tasks that the judged output hangs on: those of its pair and of every pair before it."""
    outputs = [
        span - requests.prompt_length[:, None] for name, span in requests.spans.items() if "output" in name
    ]
    pair = sum((output[:, 1] <= requests.judged[:, 0]).astype(np.int64) for output in outputs)
    start = requests.spans["tasks"][:, 0]
    return start, start + 2 * (pair + 1)
