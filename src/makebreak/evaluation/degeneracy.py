"""Degenerate text: answers that are empty or repeat themselves, by words and by characters."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from makebreak.evaluation.reasoning import final_answer

_MIN_REPEATS = 4
_MIN_CHARACTERS, _MIN_CHARACTERS_WITHOUT_LETTERS = 12, 24
_MIN_HALF = 32
_MIN_PERIODIC = 0.9
_MAX_CHARACTERS = 8192
_INVISIBLE = ("Z", "C")  # separators, and control, format and unassigned characters


def is_degenerate(answers: Sequence[str], *, min_words: int = 6, min_distinct: float = 0.3) -> np.ndarray:
    """Returns whether each answer is empty or repetitive, apart from its reasoning.

    An answer is repetitive by words (`repeats_words`), or by characters: apart from spaces, all of it or its
    last half equals itself shifted by some number of characters, at 90 % of the positions and four times or
    more. Texts of fewer than 12 characters, or 24 without a letter such as numbers, are never repetitive by
    characters. An answer that is all reasoning is empty.

    Args:
        answers: The answers; a block of reasoning at their beginning is not read.
        min_words: Number of words from which repetition of words is tested.
        min_distinct: An answer is repetitive if a smaller share of its word bigrams is distinct.

    Returns:
        (n,) bool.
    """
    answers = [final_answer(answer) for answer in answers]
    by_words = repeats_words(answers, min_words=min_words, min_distinct=min_distinct)
    return by_words | np.array([_repeats_characters(answer) for answer in answers], dtype=bool)


def repeats_words(answers: Sequence[str], *, min_words: int = 6, min_distinct: float = 0.3) -> np.ndarray:
    """Returns whether each answer has no word, or repeats its words.

    Args:
        answers: The answers.
        min_words: Number of words from which repetition is tested.
        min_distinct: An answer is repetitive if a smaller share of its word bigrams is distinct.

    Returns:
        (n,) bool.
    """
    degenerate = []
    for answer in answers:
        words = answer.split()
        bigrams = list(pairwise(words))
        repetitive = len(words) >= min_words and len(set(bigrams)) < min_distinct * len(bigrams)
        degenerate.append(not words or repetitive)
    return np.array(degenerate, dtype=bool)


def _repeats_characters(answer: str) -> bool:
    """Whether nothing is visible, or all of the answer or its last half is periodic."""
    visible = [c for c in answer[-_MAX_CHARACTERS:] if unicodedata.category(c)[0] not in _INVISIBLE]
    if not visible:
        return True
    if _is_periodic(visible):
        return True
    half = visible[len(visible) // 2 :]
    # half of an answer may be a line of a table
    return len(half) >= _MIN_HALF and _has_letters(half) and _is_periodic(half)


def _is_periodic(characters: Sequence[str]) -> bool:
    """Whether characters equal themselves shifted by a period, four times or more."""
    n = len(characters)
    if n < (_MIN_CHARACTERS if _has_letters(characters) else _MIN_CHARACTERS_WITHOUT_LETTERS):
        return False
    codes = np.fromiter(map(ord, characters), dtype=np.int64, count=n)
    periods = range(1, n // _MIN_REPEATS + 1)
    return any(float((codes[p:] == codes[:-p]).mean()) >= _MIN_PERIODIC for p in periods)


def _has_letters(characters: Sequence[str]) -> bool:
    return any(c.isalpha() for c in characters)
