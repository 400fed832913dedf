"""What is a request of the world of formats about? Symbols, numbered, and the content that all formats share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LETTERS_OF_PHRASE = 3
LENGTH = 3 * LETTERS_OF_PHRASE  # of a text: a phrase, a filler, a phrase
OPTIONS = 2
OPERATORS = 3  # of a format: two that pretraining shows, and a new one


class Symbols:
    """What texts and answers are made of: letters of two languages in bijection, topics, groups of two topics,
    relations, markers of options, variants of phrases, brackets. Every topic has two phrases; phrases differ at every
    place.
    """

    def __init__(self, n_topics: int, seed: int) -> None:
        self.n_topics, self.n_letters = n_topics, 2 * n_topics
        kinds = {
            "letter": [chr(ord("a") + i) for i in range(self.n_letters)],
            "foreign": [chr(ord("A") + i) for i in range(self.n_letters)],
            "topic": [f"t{i}" for i in range(n_topics)],
            "group": [f"g{i}" for i in range(n_topics // 2)],
            "relation": [f"r{i}" for i in range(n_topics)],
            "marker": [f"m{i + 1}" for i in range(2 * OPTIONS)],
            "variant": ["v1", "v2"],
            **{bracket: [bracket] for bracket in "()[]"},
        }
        self.names = tuple(name for names in kinds.values() for name in names)
        starts = np.cumsum([0, *(len(names) for names in kinds.values())])[:-1]
        self.first = dict(zip(kinds, starts.tolist(), strict=True))
        self.kind = np.repeat(np.arange(len(kinds)), [len(names) for names in kinds.values()])
        self.kinds = tuple(kinds)
        random = np.random.RandomState(seed)
        self.phrases = np.stack(
            [random.permutation(self.n_letters) for _ in range(LETTERS_OF_PHRASE)], axis=1
        )
        self.ciphers = np.stack([random.permutation(self.n_letters) for _ in range(OPERATORS)])
        self.renamed = np.stack([np.arange(n_topics), np.arange(n_topics), random.permutation(n_topics)])
        self.labels = np.stack([random.permutation(n_topics) for _ in range(OPERATORS)])
        places = np.arange(OPTIONS)
        self.markers = np.stack([places, OPTIONS + places, random.permutation(2 * OPTIONS)[:OPTIONS]])

    @property
    def tables(self) -> tuple[np.ndarray, ...]:
        return self.phrases, self.ciphers, self.renamed, self.labels, self.markers


@dataclass(frozen=True)
class Content:
    """What requests are about, and which operator asks; arrays of n rows.

    asked: index into ASKS. operator: 0, 1, or 2, the new one. first, last: topics. variants: (n, 2) of their phrases.
    filler: (n, 3) letters. typo: place in the first phrase that has the letter of phrase `other`, -1 for none. options:
    (n, topics) the order in which wrong ones are offered; place: of the right one.
    """

    asked: np.ndarray
    operator: np.ndarray
    first: np.ndarray
    last: np.ndarray
    variants: np.ndarray
    filler: np.ndarray
    typo: np.ndarray
    other: np.ndarray
    options: np.ndarray
    place: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Content:
        return Content(**{name: column[rows] for name, column in vars(self).items()})

    def text(self, symbols: Symbols) -> np.ndarray:
        """(n, LENGTH) letters."""
        first, last = (
            2 * topic + v for topic, v in zip((self.first, self.last), self.variants.T, strict=True)
        )
        begin = symbols.phrases[first].copy()
        rows = np.flatnonzero(self.typo >= 0)
        begin[rows, self.typo[rows]] = symbols.phrases[self.other[rows], self.typo[rows]]
        return np.concatenate([begin, self.filler, symbols.phrases[last]], axis=1)

    def relation(self, symbols: Symbols) -> np.ndarray:
        return (self.last - self.first) % symbols.n_topics
