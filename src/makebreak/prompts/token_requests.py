"""Requests of one's own from token ids, and access to their fields with errors that name what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from makebreak.configs import nearest
from synthetic import Requests

_REMEDY = "makebreak.prompts.token_requests makes requests with every field, text_requests those of texts"


def token_requests(
    prompts: Sequence[Sequence[int]],
    *,
    instructed_answers: Sequence[Sequence[int]],
    refusals: Sequence[Sequence[int]],
    unsafe: bool | Sequence[bool] = True,
    text: Sequence[tuple[int, int]] | None = None,
    family: str = "requests",
) -> Requests:
    """Requests from token ids, with all fields that measures need.

    Args:
        prompts: Token ids of each prompt; the last one is the end of text, where a request has been read.
        instructed_answers: Token ids of the answer to each request that complies.
        refusals: Token ids of the answer to each request that refuses. Of the two answers to a request, as
            many tokens are judged as the shorter one has.
        unsafe: Whether the requests are to be refused, for all or for each.
        text: Start and stop of the text within each prompt, where attacks insert tokens; by default all
            but the last token, or the whole of a prompt of one token.
        family: Name of the requests.

    Returns:
        The requests. `truth` numbers them (`request`) and gives all the same `grammar`; replace these columns
        where texts recur or groups of requests are to weigh the same.

    Raises:
        ValueError: If there are no requests, a prompt or an answer is empty, the numbers differ, the two
            answers to a request begin with the same token, or a text is no part of its prompt.
    """
    n = len(prompts)
    widths = len(instructed_answers), len(refusals), _n_flags(unsafe, n), n if text is None else len(text)
    if not n or set(widths) != {n}:
        raise ValueError(
            f"{n} prompts with {widths[0]} instructed answers and {widths[1]} refusals, {widths[2]} values "
            f"of unsafe and {widths[3]} texts: expected one of each for every prompt, and at least one prompt"
        )
    for name, sequences in (
        ("prompt", prompts),
        ("instructed answer", instructed_answers),
        ("refusal", refusals),
    ):
        if not all(len(ids) for ids in sequences):
            raise ValueError(
                f"{name} {[len(ids) for ids in sequences].index(0)} is empty: expected token ids"
            )
    length = np.array([len(ids) for ids in prompts])
    _check_first_tokens(instructed_answers, refusals)
    if text is not None:
        _check_texts(text, length)
    stop = np.array([min(len(a), len(b)) for a, b in zip(instructed_answers, refusals, strict=True)])
    answers = max(len(ids) for ids in (*instructed_answers, *refusals))
    spans = {
        "text": np.stack([0 * length, np.maximum(length - 1, 1)], axis=1) if text is None else np.array(text),
        "eot": np.stack([length - 1, length], axis=1),
        "output1": np.stack([length, length + stop], axis=1),
    }
    return Requests(
        family=family,
        seed=0,
        prompt=_pad(prompts, int(length.max())),
        prompt_length=length,
        instructed=_pad(instructed_answers, answers),
        refused=_pad(refusals, answers),
        judged=np.stack([0 * stop, stop], axis=1),
        unsafe=np.broadcast_to(np.asarray(unsafe, dtype=bool), n).copy(),
        spans=spans,
        truth={"request": np.arange(n), "grammar": np.zeros(n, dtype=np.int64)},
    )


def request_span(requests: Requests, name: str) -> np.ndarray:
    """Start and stop of a named span of each request, (n, 2).

    Args:
        requests: The requests.
        name: Name of the span.

    Returns:
        The span.

    Raises:
        ValueError: If these requests lack the span.
    """
    if name not in requests.spans:
        raise ValueError(f"span {name!r} is not in these requests; {_remedy('spans', name, requests.spans)}")
    return requests.spans[name]


def request_truth(requests: Requests, name: str) -> np.ndarray:
    """Column of what is known of each request.

    Args:
        requests: The requests.
        name: Name of the column.

    Returns:
        The column, n rows.

    Raises:
        ValueError: If these requests lack the column.
    """
    if name not in requests.truth:
        raise ValueError(
            f"column {name!r} is not in the truth of these requests; {_remedy('truth', name, requests.truth)}"
        )
    return requests.truth[name]


def _check_first_tokens(
    instructed_answers: Sequence[Sequence[int]], refusals: Sequence[Sequence[int]]
) -> None:
    """Raises ValueError where the first token, which most measures score, does not tell a refusal."""
    for i, (answer, refusal) in enumerate(zip(instructed_answers, refusals, strict=True)):
        if answer[0] == refusal[0]:
            raise ValueError(
                f"request {i}: instructed answer and refusal both begin with token {answer[0]}; expected "
                "answers that differ from the first token on, so leave out tokens that both begin with"
            )


def _check_texts(text: Sequence[tuple[int, int]], length: np.ndarray) -> None:
    """Raises ValueError for a span that is empty or reaches beyond its prompt."""
    for i, ((start, stop), n) in enumerate(zip(text, length.tolist(), strict=True)):
        if not 0 <= start < stop <= n:
            raise ValueError(
                f"text {i} is ({start}, {stop}) in a prompt of {n} tokens: expected 0 <= start < stop <= {n}"
            )


def _n_flags(unsafe: bool | Sequence[bool], n: int) -> int:
    """Number of values of `unsafe`; n where one is for all."""
    return n if np.ndim(unsafe) == 0 else len(np.asarray(unsafe))


def _remedy(field: str, name: str, options: Iterable[str]) -> str:
    """What to do about a missing name."""
    guess = nearest(name, list(options)) if list(options) else f"{field} is empty"
    return f'{guess}, or set {field}["{name}"]: {_REMEDY}'


def _pad(sequences: Sequence[Sequence[int]], width: int) -> np.ndarray:
    """(n, width) ids, padded on the right."""
    ids = np.zeros((len(sequences), width), dtype=np.int64)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = sequence
    return ids
