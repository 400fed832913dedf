"""Symbols of the world of formats and the content that requests of all formats share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PHRASE_LENGTH = 3
"""Letters of a phrase, and of the filler between two phrases."""
TEXT_LENGTH = 3 * PHRASE_LENGTH
"""Letters of a text: a phrase, a filler, a phrase."""
N_OPTIONS = 2
"""Topics that a multiple-choice request offers."""
N_OPERATORS = 3
"""Operators of a format: two that pretraining shows and a new one that only fine-tuning shows."""
NEW_OPERATOR = N_OPERATORS - 1
"""Index of the new operator of a format."""


class Symbols:
    """Symbols of texts and answers, numbered, and the tables that relate them.

    There are letters of two languages in bijection, topics, groups of two topics, relations, markers of
    options, variants of phrases, and brackets. Every topic has two phrases; any two phrases differ at every
    position.
    """

    def __init__(self, n_topics: int, seed: int) -> None:
        self.n_topics, self.n_letters = n_topics, 2 * n_topics
        names_by_kind = {
            "letter": [chr(ord("a") + i) for i in range(self.n_letters)],
            "foreign": [chr(ord("A") + i) for i in range(self.n_letters)],
            "topic": [f"t{i}" for i in range(n_topics)],
            "group": [f"g{i}" for i in range(n_topics // 2)],
            "relation": [f"r{i}" for i in range(n_topics)],
            "marker": [f"m{i + 1}" for i in range(2 * N_OPTIONS)],
            "variant": ["v1", "v2"],
            **{bracket: [bracket] for bracket in "()[]"},
        }
        counts = [len(names) for names in names_by_kind.values()]
        self.names = tuple(name for names in names_by_kind.values() for name in names)
        self.kinds = tuple(names_by_kind)
        self.kind_indices = np.repeat(np.arange(len(counts)), counts)
        self.first_of_kind = dict(zip(self.kinds, np.cumsum([0, *counts])[:-1].tolist(), strict=True))
        random = np.random.RandomState(seed)
        self.phrases = np.stack([random.permutation(self.n_letters) for _ in range(PHRASE_LENGTH)], axis=1)
        self.ciphers = np.stack([random.permutation(self.n_letters) for _ in range(N_OPERATORS)])
        self.topic_names = np.stack([np.arange(n_topics), np.arange(n_topics), random.permutation(n_topics)])
        self.relation_labels = np.stack([random.permutation(n_topics) for _ in range(N_OPERATORS)])
        positions = np.arange(N_OPTIONS)
        new_markers = random.permutation(2 * N_OPTIONS)[:N_OPTIONS]
        self.markers = np.stack([positions, N_OPTIONS + positions, new_markers])

    @property
    def tables(self) -> tuple[np.ndarray, ...]:
        """All random tables: phrases, ciphers, names of topics, labels of relations, markers of options."""
        return self.phrases, self.ciphers, self.topic_names, self.relation_labels, self.markers


@dataclass(frozen=True)
class Content:
    """What `n` requests are about and which operator they name; every array has `n` rows."""

    task_format: np.ndarray
    """Index into `synthetic.formats.task_formats.TASK_FORMATS`, (n,)."""
    operator: np.ndarray
    """Operator of the format, (n,): 0, 1, or 2 for the new one."""
    first_topic: np.ndarray
    """Topic of the text's first phrase, (n,)."""
    last_topic: np.ndarray
    """Topic of the text's last phrase, (n,)."""
    variants: np.ndarray
    """Which of its topic's two phrases the first and the last phrase is, (n, 2)."""
    filler: np.ndarray
    """Letters between the two phrases, (n, PHRASE_LENGTH)."""
    typo_position: np.ndarray
    """Position in the first phrase that holds the letter of phrase `typo_phrase`, (n,); -1 for no typo."""
    typo_phrase: np.ndarray
    """Index of the phrase that the typo's letter is taken from, (n,)."""
    option_order: np.ndarray
    """Order in which wrong options are considered, (n, n_topics), a permutation of the topics."""
    correct_position: np.ndarray
    """Position of the correct option among those offered, (n,)."""

    def __getitem__(self, rows: np.ndarray) -> Content:
        return Content(**{name: column[rows] for name, column in vars(self).items()})

    def text(self, symbols: Symbols) -> np.ndarray:
        """Letters of each text, (n, TEXT_LENGTH)."""
        first_phrase = 2 * self.first_topic + self.variants[:, 0]
        last_phrase = 2 * self.last_topic + self.variants[:, 1]
        beginning = symbols.phrases[first_phrase].copy()
        rows = np.flatnonzero(self.typo_position >= 0)
        typo_position = self.typo_position[rows]
        beginning[rows, typo_position] = symbols.phrases[self.typo_phrase[rows], typo_position]
        return np.concatenate([beginning, self.filler, symbols.phrases[last_phrase]], axis=1)

    def relation(self, symbols: Symbols) -> np.ndarray:
        """Relation of the last topic to the first one, (n,): their difference modulo the number of topics."""
        return (self.last_topic - self.first_topic) % symbols.n_topics
