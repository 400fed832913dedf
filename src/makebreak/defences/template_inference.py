"""Inference of a user's prompt template from a few examples, and requests rewritten in that template.

Tokens with which every prompt begins or ends are the template; what lies between them is the slot. Tokens
with which every answer begins are the answer prefix. (SafeStyle does this on words, with a language model;
here it is done on tokens.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from makebreak.prompts import Requests


@dataclass(frozen=True)
class InferredTemplate:
    """What the prompts and answers of a user have in common; false if the prompts have nothing in common."""

    prefix: tuple[int, ...]
    """Tokens with which every prompt begins."""
    suffix: tuple[int, ...]
    """Tokens with which every prompt ends."""
    answer_prefix: tuple[int, ...]
    """Tokens with which every answer begins."""
    slot_lengths: tuple[int, ...]
    """Number of tokens between prefix and suffix, for each prompt."""

    def __bool__(self) -> bool:
        return bool(self.prefix or self.suffix)


def infer_template(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> InferredTemplate:
    """Infers the template of a user's examples.

    Args:
        prompts: Token ids of the prompts, of any length.
        answers: Token ids of the answers; at least the last token of each is not part of the answer prefix.

    Returns:
        The longest common beginnings and endings.

    Raises:
        ValueError: If there are fewer than two prompts.
    """
    if len(prompts) < 2:
        raise ValueError(
            f"{len(prompts)} examples of a user: expected two at least, what they share is the template"
        )
    shortest = min(map(len, prompts))
    prefix = _common_prefix(prompts)[:shortest]
    suffix = _common_prefix([row[::-1] for row in prompts])[: shortest - len(prefix)][::-1]
    answer_prefix = _common_prefix(answers)[: min(map(len, answers)) - 1]
    slot_lengths = tuple(len(row) - len(prefix) - len(suffix) for row in prompts)
    return InferredTemplate(prefix, suffix, answer_prefix, slot_lengths)


def _common_prefix(rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
    prefix = []
    for column in zip(*rows, strict=False):
        if len(set(column)) > 1:
            break
        prefix.append(int(column[0]))
    return tuple(prefix)


def rewrite_in_template(forms: Sequence[Requests], user: Requests) -> Requests:
    """Rewrites unsafe requests in the template of a user's examples.

    Refusals and instructed answers follow the user's answer prefix.

    Args:
        forms: The same unsafe requests in several forms. The span `text` of the form whose median length is
            nearest to that of the user's slots is put into the slot.
        user: A few examples of the user.

    Returns:
        As many requests as each form has.

    Raises:
        ValueError: If the user's prompts have no tokens in common.
    """
    prompts = [row[:n].tolist() for row, n in zip(user.prompt, user.prompt_length, strict=True)]
    answers = [row[:n].tolist() for row, n in zip(user.instructed, user.judged[:, 1], strict=True)]
    template = infer_template(prompts, answers)
    if not template:
        raise ValueError(
            f"{len(user)} prompts of {user.family} begin and end in different tokens: there is no template"
        )
    source = _nearest_in_length(forms, float(np.median(template.slot_lengths)))
    start, text_length = source.spans["text"][:, 0], np.ptp(source.spans["text"], axis=1)
    n, n_prefix, n_suffix = len(source), len(template.prefix), len(template.suffix)
    length = n_prefix + text_length + n_suffix
    prompt = np.zeros((n, int(length.max())), dtype=np.int64)
    prompt[:, :n_prefix] = template.prefix
    row, column = np.nonzero(np.arange(int(text_length.max())) < text_length[:, None])
    prompt[row, n_prefix + column] = source.prompt[row, start[row] + column]
    row, column = np.nonzero(np.ones((n, n_suffix), dtype=bool))
    prompt[row, n_prefix + text_length[row] + column] = np.array(template.suffix, dtype=np.int64)[column]
    answer_prefix = np.tile(np.array(template.answer_prefix, dtype=np.int64), (n, 1))
    return replace(
        source,
        family=f"{source.family} as {user.family}",
        prompt=prompt,
        prompt_length=length,
        refused=np.concatenate([answer_prefix, source.refused], axis=1),
        instructed=np.concatenate([answer_prefix, source.instructed], axis=1),
        judged=source.judged + np.array([0, len(template.answer_prefix)]),
        spans={
            "text": np.stack([np.full(n, n_prefix), n_prefix + text_length], axis=1),
            "eot": np.stack([length - 1, length], axis=1),
        },
    )


def _nearest_in_length(forms: Sequence[Requests], length: float) -> Requests:
    """The form whose texts have the median number of tokens nearest to `length`."""

    def distance(form: Requests) -> float:
        return abs(float(np.median(np.ptp(form.spans["text"], axis=1))) - length)

    return min(forms, key=distance)
