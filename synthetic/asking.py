"""In which ways can one text be asked about? Six formats: what they show, what is right, and how an answer is read.

Everything is numbered: a number is an index into `Symbols.names`, -1 nothing. Reading is the inverse of answering.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from synthetic.content import LENGTH, LETTERS_OF_PHRASE, OPERATORS, OPTIONS, Content, Symbols

BEGUN = LENGTH - LETTERS_OF_PHRASE + 1  # symbols of a beginning with the topic it goes on with

Part = Callable[[Symbols, Content, int], np.ndarray]


@dataclass(frozen=True)
class Ask:
    """A format. payload: what is shown, (n, `shown`). answer: what is right, by operator. pattern: kinds of the symbols
    of an answer, by operator. read: what an answer of that pattern says; truth: what it should say.
    """

    says: str
    shown: int
    payload: Callable[[Symbols, Content], np.ndarray]
    answer: Part
    pattern: Callable[[int], tuple[str, ...]]
    read: Callable[[Symbols, Content, int, np.ndarray], np.ndarray]
    truth: Part


def _shown(symbols: Symbols, content: Content) -> np.ndarray:
    return content.text(symbols)


def _begun(symbols: Symbols, content: Content) -> np.ndarray:
    """Without the last phrase, whose topic is named."""
    topic = symbols.first["topic"] + content.last[:, None]
    return np.concatenate([content.text(symbols)[:, :-LETTERS_OF_PHRASE], topic], axis=1)


def _phrase(symbols: Symbols, content: Content, operator: int) -> np.ndarray:
    """Of the last topic: its first or second one; the new operator has the first one backwards."""
    return symbols.phrases[2 * content.last + (operator == 1)][:, :: -1 if operator == 2 else 1]


def _foreign(symbols: Symbols, content: Content) -> np.ndarray:
    return symbols.first["foreign"] + content.text(symbols)


def _deciphered(symbols: Symbols, content: Content, operator: int, answer: np.ndarray) -> np.ndarray:
    return np.argsort(symbols.ciphers[operator])[answer]


def _skeleton(symbols: Symbols, content: Content, operator: int) -> np.ndarray:
    """First and last topic, or their groups; the new operator has its own names for topics."""
    both = np.stack([content.first, content.last], axis=1)
    if operator == 1:
        return symbols.first["group"] + both // 2
    return symbols.first["topic"] + symbols.renamed[operator][both]


def _skeleton_read(symbols: Symbols, content: Content, operator: int, answer: np.ndarray) -> np.ndarray:
    if operator == 1:
        return answer - symbols.first["group"]
    return np.argsort(symbols.renamed[operator])[answer - symbols.first["topic"]]


_PROGRAMS = {  # parts: literal letters of the beginning (x) and the filler (q), and the macro of a phrase
    0: ("(", "x", "[", "q", "]", "macro", ")"),
    1: ("(", "[", "x", "q", "]", "macro", ")"),
    2: ("(", "macro", "[", "q", "]", "x", ")"),  # put together from its end
}
_PARTS = {
    "x": ("letter",) * LETTERS_OF_PHRASE,
    "q": ("letter",) * LETTERS_OF_PHRASE,
    "macro": ("topic", "variant"),
}


def _program(symbols: Symbols, content: Content, operator: int) -> np.ndarray:
    text = content.text(symbols)
    macro = np.stack(
        [symbols.first["topic"] + content.last, symbols.first["variant"] + content.variants[:, 1]], axis=1
    )
    parts = {
        "x": text[:, :LETTERS_OF_PHRASE],
        "q": text[:, LETTERS_OF_PHRASE:-LETTERS_OF_PHRASE],
        "macro": macro,
    }
    columns = [parts.get(p, np.full((len(text), 1), symbols.first.get(p, 0))) for p in _PROGRAMS[operator]]
    return np.concatenate(columns, axis=1)


def _program_pattern(operator: int) -> tuple[str, ...]:
    return tuple(kind for part in _PROGRAMS[operator] for kind in _PARTS.get(part, (part,)))


def _expanded(symbols: Symbols, content: Content, operator: int, answer: np.ndarray) -> np.ndarray:
    """The text that a program writes: brackets only group, a macro becomes its phrase."""
    kinds = np.array(_program_pattern(operator))
    literal = answer[:, kinds == "letter"]
    topic = answer[:, kinds == "topic"][:, 0] - symbols.first["topic"]
    phrase = symbols.phrases[2 * topic + answer[:, kinds == "variant"][:, 0] - symbols.first["variant"]]
    if operator == 2:
        literal = np.roll(literal, LETTERS_OF_PHRASE, axis=1)
    return np.concatenate([literal, phrase], axis=1)


def _offered(symbols: Symbols, content: Content) -> np.ndarray:
    """(n, OPTIONS) topics, the right one at its place."""
    right, place = content.last[:, None], np.arange(OPTIONS)
    wrong = content.options[content.options != right].reshape(len(right), symbols.n_topics - 1)
    behind = place - (place > content.place[:, None])
    return np.where(place == content.place[:, None], right, np.take_along_axis(wrong, behind, axis=1))


def _choice(symbols: Symbols, content: Content) -> np.ndarray:
    offered = symbols.first["topic"] + _offered(symbols, content)
    return np.concatenate([_begun(symbols, content), offered], axis=1)


def _chosen(symbols: Symbols, content: Content, operator: int, answer: np.ndarray) -> np.ndarray:
    """(n, 1) the topic at the marked place; -1 for a marker that this operator has not."""
    marked = symbols.markers[operator] == answer - symbols.first["marker"]
    topic = np.take_along_axis(_offered(symbols, content), marked.argmax(axis=1)[:, None], axis=1)
    return np.where(marked.any(axis=1)[:, None], topic, -1)


ASKS: Mapping[str, Ask] = {
    "gen": Ask(
        "the beginning of a text and the topic to go on with: its phrase",
        BEGUN,
        _begun,
        _phrase,
        lambda operator: ("letter",) * LETTERS_OF_PHRASE,
        lambda symbols, content, operator, answer: answer[:, :: -1 if operator == 2 else 1],
        lambda symbols, content, operator: symbols.phrases[2 * content.last + (operator == 1)],
    ),
    "map": Ask(
        "a text in the foreign language: the same in the other one, by a cipher",
        LENGTH,
        _foreign,
        lambda symbols, content, operator: symbols.ciphers[operator][content.text(symbols)],
        lambda operator: ("letter",) * LENGTH,
        _deciphered,
        lambda symbols, content, operator: content.text(symbols),
    ),
    "sum": Ask(
        "a text: its topics",
        LENGTH,
        _shown,
        _skeleton,
        lambda operator: ("group" if operator == 1 else "topic",) * 2,
        _skeleton_read,
        lambda symbols, content, operator: (
            np.stack([content.first, content.last], axis=1) // (1 + (operator == 1))
        ),
    ),
    "struct": Ask(
        "a text: a program that writes it",
        LENGTH,
        _shown,
        _program,
        _program_pattern,
        _expanded,
        lambda symbols, content, operator: content.text(symbols),
    ),
    "label": Ask(
        "a text: the label of its relation",
        LENGTH,
        _shown,
        lambda symbols, content, operator: (
            symbols.first["relation"] + symbols.labels[operator][content.relation(symbols)][:, None]
        ),
        lambda operator: ("relation",),
        lambda symbols, content, operator, answer: np.argsort(symbols.labels[operator])[
            answer - symbols.first["relation"]
        ],
        lambda symbols, content, operator: content.relation(symbols)[:, None],
    ),
    "mcq": Ask(
        "the beginning of a text, the topic it goes on with, and two topics: the marker of the place of that one",
        BEGUN + OPTIONS,
        _choice,
        lambda symbols, content, operator: (
            symbols.first["marker"] + symbols.markers[operator][content.place][:, None]
        ),
        lambda operator: ("marker",),
        _chosen,
        lambda symbols, content, operator: content.last[:, None],
    ),
}
NAMES = tuple(ASKS)


def payload(symbols: Symbols, content: Content, *, width: int) -> np.ndarray:
    """(n, width) numbers, -1 behind each payload."""
    return _filled(content, lambda ask, part, operator: ask.payload(symbols, part), width)


def right_answer(symbols: Symbols, content: Content, *, width: int) -> np.ndarray:
    """(n, width) numbers, -1 behind each answer."""
    return _filled(content, lambda ask, part, operator: ask.answer(symbols, part, operator), width)


def _filled(content: Content, of: Callable[[Ask, Content, int], np.ndarray], width: int) -> np.ndarray:
    whole = np.full((len(content.first), width), -1)
    for rows, ask, operator in _groups(content):
        part = of(ask, content[rows], operator)
        whole[rows, : part.shape[1]] = part
    return whole


def _groups(content: Content) -> list[tuple[np.ndarray, Ask, int]]:
    """Rows that are asked alike."""
    alike = OPERATORS * content.asked + content.operator
    return [
        (np.flatnonzero(alike == key), ASKS[NAMES[key // OPERATORS]], int(key % OPERATORS))
        for key in np.unique(alike)
    ]


def read(symbols: Symbols, content: Content, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) whether each answer is well formed, and whether it says what is true.

    answer: (n, width) numbers up to what ends an answer, -1 behind it; of other symbols, the number of names.
    """
    formed, true = np.zeros(len(answer), dtype=bool), np.zeros(len(answer), dtype=bool)
    kinds = np.append(symbols.kind, [len(symbols.kinds)] * 2)  # other symbols, and nothing (-1)
    for rows, ask, operator in _groups(content):
        pattern = ask.pattern(operator)
        wanted = np.array([symbols.kinds.index(kind) for kind in pattern])
        given, n = answer[rows], len(pattern)
        fits = (kinds[given[:, :n]] == wanted).all(axis=1) & (given[:, n:] == -1).all(axis=1)
        formed[rows] = fits
        part, some = content[rows[fits]], given[fits, :n]
        true[rows[fits]] = (
            ask.read(symbols, part, operator, some) == ask.truth(symbols, part, operator)
        ).all(axis=1)
    return formed, true
