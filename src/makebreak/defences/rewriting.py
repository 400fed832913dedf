"""How are safety examples put into a user's format that nobody told? By what a few of its prompts have in common.

Tokens that begin or end every prompt are its template, what lies between is the slot; the same for answers, whose
common beginning is a header. (SafeStyle does so with words and a language model; here are tokens.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from makebreak.requests import Requests


@dataclass(frozen=True)
class Found:
    """before, after: tokens around the slot. header: what begins every answer. slots: length of each slot."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    header: tuple[int, ...]
    slots: tuple[int, ...]

    def __bool__(self) -> bool:
        """Whether there is a template at all."""
        return bool(self.before or self.after)


def found_in(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Found:
    """What rows of tokens, of any length, have in common. Raises ValueError for fewer than two."""
    if len(prompts) < 2:
        raise ValueError(
            f"{len(prompts)} examples of a user: expected two at least, what they share is the template"
        )
    shortest = min(map(len, prompts))
    before = _shared(prompts)[:shortest]
    after = _shared([row[::-1] for row in prompts])[: shortest - len(before)][::-1]
    header = _shared(answers)[: min(map(len, answers)) - 1]  # an answer says something
    slots = tuple(len(row) - len(before) - len(after) for row in prompts)
    return Found(before, after, header, slots)


def _shared(rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The longest common beginning."""
    columns = zip(*rows, strict=False)
    shared = []
    for column in columns:
        if len(set(column)) > 1:
            break
        shared.append(int(column[0]))
    return tuple(shared)


def rewritten(texts: Sequence[Requests], user: Requests) -> Requests:
    """Unsafe requests in the template that the user's have in common, refused behind their header.

    texts: the same requests in several forms; what is put into the slot is the span `text` of the form that is nearest
    to it in length. Raises ValueError where the user's prompts have nothing in common.
    """
    prompts = [row[:n].tolist() for row, n in zip(user.prompt, user.prompt_length, strict=True)]
    found = found_in(
        prompts, [row[:n].tolist() for row, n in zip(user.instructed, user.judged[:, 1], strict=True)]
    )
    if not found:
        raise ValueError(
            f"{len(user)} prompts of {user.family} begin and end in different tokens: there is no template"
        )
    slot = float(np.median(found.slots))
    own = min(texts, key=lambda form: abs(float(np.median(np.ptp(form.spans["text"], axis=1))) - slot))
    lengths = np.ptp(own.spans["text"], axis=1)
    n, before, after, header = len(own), len(found.before), len(found.after), len(found.header)
    whole = before + lengths + after
    prompt = np.zeros((n, int(whole.max())), dtype=np.int64)
    prompt[:, :before] = found.before
    row, column = np.nonzero(np.arange(int(lengths.max())) < lengths[:, None])
    prompt[row, before + column] = own.prompt[row, own.spans["text"][row, 0] + column]
    row, column = np.nonzero(np.ones((n, after), dtype=bool))
    prompt[row, before + lengths[row] + column] = np.array(found.after, dtype=np.int64)[column]
    begun = np.tile(np.array(found.header, dtype=np.int64), (n, 1))
    at = {"text": np.stack([np.full(n, before), before + lengths], axis=1)}
    at["eot"] = np.stack([whole - 1, whole], axis=1)
    return replace(
        own,
        family=f"{own.family} as {user.family}",
        prompt=prompt,
        prompt_length=whole,
        refused=np.concatenate([begun, own.refused], axis=1),
        instructed=np.concatenate([begun, own.instructed], axis=1),
        judged=own.judged + np.array([0, header]),
        spans=at,
    )
