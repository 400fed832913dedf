"""Adversarial slots: positions of a prompt that the tokens of an attack fill."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from makebreak.prompts import Requests, request_span

SlotLocation = Literal["suffix", "prefix", "unused"]
"""Location of the slots: after the text, before it, or in place of tokens that the judged answer does not
depend on."""


class AdversarialSlots(NamedTuple):
    """Requests with slots for the tokens of an attack."""

    requests: Requests
    """The requests with the slots' present tokens in their prompts."""
    positions: np.ndarray
    """(n, k) ascending positions of the slots in each prompt."""


def insert_slots(
    requests: Requests,
    n_tokens: int,
    where: SlotLocation = "suffix",
    *,
    token: int,
    n_ctx: int | None = None,
) -> AdversarialSlots:
    """Makes slots in every prompt and moves the spans accordingly.

    Args:
        requests: The requests.
        n_tokens: Number of slots.
        where: `suffix` inserts them directly after the text, `prefix` directly before it. `unused` inserts
            nothing: it overwrites the last prompt positions other than the text, the end-of-text token and
            the task tokens of the judged output. Only requests of worlds with tasks have such positions.
        token: Id that fills the slots at first.
        n_ctx: Context length of the model; None for no check.

    Returns:
        The requests with their slots.

    Raises:
        ValueError: If `n_tokens` is below 1, `where` is unknown, prompt and answer would exceed `n_ctx`, or a
            prompt has fewer unused positions.
    """
    if n_tokens < 1:
        raise ValueError(f"n_tokens = {n_tokens}: expected at least 1 token of an attack")
    if where == "unused":
        return _unused_slots(requests, n_tokens, token)
    if where not in ("suffix", "prefix"):
        raise ValueError(f"where = {where!r}: expected 'suffix', 'prefix' or 'unused'")
    longest = int((requests.prompt_length + requests.judged[:, 1]).max()) + n_tokens
    if n_ctx is not None and longest > n_ctx:
        raise ValueError(
            f"an attack of {n_tokens} tokens makes prompt and answer {longest} tokens long, beyond the "
            f"model's context of {n_ctx}: choose fewer tokens"
        )
    begin = request_span(requests, "text")[:, 1 if where == "suffix" else 0]
    n, width = requests.prompt.shape
    column, first = np.arange(width + n_tokens), begin[:, None]
    source = np.where(column < first, column, column - n_tokens)
    prompt = np.take_along_axis(requests.prompt, source.clip(0, width - 1), axis=1)
    positions = first + np.arange(n_tokens)
    np.put_along_axis(prompt, positions, token, axis=1)
    spans = {}
    for name, span in requests.spans.items():
        start, stop = span.T
        after = start >= begin
        stops_after = after | (stop > begin)
        spans[name] = np.stack([start + n_tokens * after, stop + n_tokens * stops_after], axis=1)
    longer = replace(requests, prompt=prompt, prompt_length=requests.prompt_length + n_tokens, spans=spans)
    return AdversarialSlots(longer, np.broadcast_to(positions, (n, n_tokens)).copy())


def fill_slots(slots: AdversarialSlots, ids: Int[np.ndarray, "n k"]) -> Requests:
    """Returns the requests with these token ids in their slots."""
    prompt = slots.requests.prompt.copy()
    np.put_along_axis(prompt, slots.positions, ids, axis=1)
    return replace(slots.requests, prompt=prompt)


def _unused_slots(requests: Requests, n_tokens: int, token: int) -> AdversarialSlots:
    """Slots in place of the last tokens that the judged output does not depend on."""
    if "tasks" not in requests.spans:
        raise ValueError(
            f"where = 'unused': family {requests.family!r} has no tasks, so no position is known to be "
            "unused; expected 'suffix' or 'prefix'"
        )
    column = np.arange(requests.prompt.shape[1])
    used = column >= requests.prompt_length[:, None]
    for start, stop in (
        request_span(requests, "text").T,
        request_span(requests, "eot").T,
        _judged_tasks(requests),
    ):
        used |= (column >= start[:, None]) & (column < stop[:, None])
    n_unused = (~used).sum(axis=1)
    if n_unused.min() < n_tokens:
        raise ValueError(
            f"an attack of {n_tokens} tokens: some prompt has only {n_unused.min()} unused positions; "
            "choose fewer tokens"
        )
    unused_first = np.argsort(used, axis=1, kind="stable")
    positions = np.sort(unused_first[:, : n_unused.min()], axis=1)[:, -n_tokens:]
    ids = np.full_like(positions, token)
    return AdversarialSlots(fill_slots(AdversarialSlots(requests, positions), ids), positions)


def _judged_tasks(requests: Requests) -> tuple[np.ndarray, np.ndarray]:
    """Start and stop of the tasks that the judged output depends on: its own pair and the pairs before."""
    outputs = [
        span - requests.prompt_length[:, None] for name, span in requests.spans.items() if "output" in name
    ]
    pair = sum((output[:, 1] <= requests.judged[:, 0]).astype(np.int64) for output in outputs)
    start = requests.spans["tasks"][:, 0]
    return start, start + 2 * (pair + 1)
