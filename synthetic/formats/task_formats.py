"""The six task formats: what each shows of a text, its correct answer, and the parser of its answers.

Symbols are numbered: a number is an index into `Symbols.names`, and -1 stands for nothing. Parsing is the
inverse of answering.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from synthetic.formats.content import (
    N_OPERATORS,
    N_OPTIONS,
    NEW_OPERATOR,
    PHRASE_LENGTH,
    TEXT_LENGTH,
    Content,
    Symbols,
)

BEGINNING_LENGTH = TEXT_LENGTH - PHRASE_LENGTH + 1
"""Symbols of a text's beginning: the text without its last phrase, and the topic of that phrase."""
SECOND_OPERATOR = 1

ByOperator = Callable[[Symbols, Content, int], np.ndarray]


@dataclass(frozen=True)
class TaskFormat:
    """A task format: how requests of a text are asked, answered and parsed."""

    description: str
    """What is shown and what is to be answered, in one line."""
    payload_length: int
    """Symbols that a request shows of its text."""
    payload: Callable[[Symbols, Content], np.ndarray]
    """Returns what is shown, (n, payload_length)."""
    correct_answer: ByOperator
    """Returns the correct answer by an operator, (n, length)."""
    answer_kinds: Callable[[int], tuple[str, ...]]
    """Returns the kinds of symbols that an answer by an operator consists of."""
    parse: Callable[[Symbols, Content, int, np.ndarray], np.ndarray]
    """Returns what a well-formed answer states, (n, k)."""
    expected: ByOperator
    """Returns what a correct answer states, (n, k)."""


def _whole_text(symbols: Symbols, content: Content) -> np.ndarray:
    return content.text(symbols)


def _text_by_operator(symbols: Symbols, content: Content, operator: int) -> np.ndarray:
    return content.text(symbols)


def _beginning(symbols: Symbols, content: Content) -> np.ndarray:
    """The text without its last phrase, and the topic of that phrase."""
    topic = symbols.first_of_kind["topic"] + content.last_topic[:, None]
    return np.concatenate([content.text(symbols)[:, :-PHRASE_LENGTH], topic], axis=1)


# gen: continuation of a text


def _continuation(symbols: Symbols, content: Content, operator: int) -> np.ndarray:
    """Phrase of the last topic: its first or second one; the new operator reverses the first one."""
    phrase = _phrase_of_last_topic(symbols, content, operator)
    return phrase[:, ::-1] if operator == NEW_OPERATOR else phrase


def _phrase_of_last_topic(symbols: Symbols, content: Content, operator: int) -> np.ndarray:
    return symbols.phrases[2 * content.last_topic + (operator == SECOND_OPERATOR)]


def _continuation_kinds(operator: int) -> tuple[str, ...]:
    return ("letter",) * PHRASE_LENGTH


def _parse_continuation(symbols: Symbols, content: Content, operator: int, answer: np.ndarray) -> np.ndarray:
    return answer[:, ::-1] if operator == NEW_OPERATOR else answer


# map: translation by a cipher


def _foreign_text(symbols: Symbols, content: Content) -> np.ndarray:
    return symbols.first_of_kind["foreign"] + content.text(symbols)


def _enciphered_text(symbols: Symbols, content: Content, operator: int) -> np.ndarray:
    return symbols.ciphers[operator][content.text(symbols)]


def _enciphered_kinds(operator: int) -> tuple[str, ...]:
    return ("letter",) * TEXT_LENGTH


def _parse_cipher(symbols: Symbols, content: Content, operator: int, answer: np.ndarray) -> np.ndarray:
    return np.argsort(symbols.ciphers[operator])[answer]


# sum: topics of a text


def _both_topics(content: Content) -> np.ndarray:
    return np.stack([content.first_topic, content.last_topic], axis=1)


def _summary(symbols: Symbols, content: Content, operator: int) -> np.ndarray:
    """First and last topic, or their groups; the new operator has its own names for topics."""
    topics = _both_topics(content)
    if operator == SECOND_OPERATOR:
        return symbols.first_of_kind["group"] + topics // 2
    return symbols.first_of_kind["topic"] + symbols.topic_names[operator][topics]


def _summary_kinds(operator: int) -> tuple[str, ...]:
    return ("group" if operator == SECOND_OPERATOR else "topic",) * 2


def _parse_summary(symbols: Symbols, content: Content, operator: int, answer: np.ndarray) -> np.ndarray:
    if operator == SECOND_OPERATOR:
        return answer - symbols.first_of_kind["group"]
    return np.argsort(symbols.topic_names[operator])[answer - symbols.first_of_kind["topic"]]


def _expected_summary(symbols: Symbols, content: Content, operator: int) -> np.ndarray:
    topics = _both_topics(content)
    return topics // 2 if operator == SECOND_OPERATOR else topics


# struct: a program that writes the text


_PROGRAMS = {
    0: ("(", "beginning", "[", "filler", "]", "macro", ")"),
    1: ("(", "[", "beginning", "filler", "]", "macro", ")"),
    2: ("(", "macro", "[", "filler", "]", "beginning", ")"),  # assembled from its end
}
"""Parts of a program by operator: brackets, letters of the beginning and filler, macro of a phrase."""
_PART_KINDS = {
    "beginning": ("letter",) * PHRASE_LENGTH,
    "filler": ("letter",) * PHRASE_LENGTH,
    "macro": ("topic", "variant"),
}


def _program(symbols: Symbols, content: Content, operator: int) -> np.ndarray:
    text = content.text(symbols)
    topic = symbols.first_of_kind["topic"] + content.last_topic
    variant = symbols.first_of_kind["variant"] + content.variants[:, 1]
    parts = {
        "beginning": text[:, :PHRASE_LENGTH],
        "filler": text[:, PHRASE_LENGTH:-PHRASE_LENGTH],
        "macro": np.stack([topic, variant], axis=1),
    }
    for bracket in "()[]":
        parts[bracket] = np.full((len(text), 1), symbols.first_of_kind[bracket])
    return np.concatenate([parts[part] for part in _PROGRAMS[operator]], axis=1)


def _program_kinds(operator: int) -> tuple[str, ...]:
    return tuple(kind for part in _PROGRAMS[operator] for kind in _PART_KINDS.get(part, (part,)))


def _run_program(symbols: Symbols, content: Content, operator: int, answer: np.ndarray) -> np.ndarray:
    """The text that a program writes: brackets only group, a macro becomes its phrase."""
    kinds = np.array(_program_kinds(operator))
    literal = answer[:, kinds == "letter"]
    topic = answer[:, kinds == "topic"][:, 0] - symbols.first_of_kind["topic"]
    variant = answer[:, kinds == "variant"][:, 0] - symbols.first_of_kind["variant"]
    if operator == NEW_OPERATOR:
        literal = np.roll(literal, PHRASE_LENGTH, axis=1)
    return np.concatenate([literal, symbols.phrases[2 * topic + variant]], axis=1)


# label: the relation of a text's topics


def _relation_label(symbols: Symbols, content: Content, operator: int) -> np.ndarray:
    labels = symbols.relation_labels[operator][content.relation(symbols)]
    return symbols.first_of_kind["relation"] + labels[:, None]


def _label_kinds(operator: int) -> tuple[str, ...]:
    return ("relation",)


def _parse_label(symbols: Symbols, content: Content, operator: int, answer: np.ndarray) -> np.ndarray:
    return np.argsort(symbols.relation_labels[operator])[answer - symbols.first_of_kind["relation"]]


def _expected_relation(symbols: Symbols, content: Content, operator: int) -> np.ndarray:
    return content.relation(symbols)[:, None]


# mcq: the marker of one of two topics


def _options(symbols: Symbols, content: Content) -> np.ndarray:
    """Topics offered, (n, N_OPTIONS), the correct one at its position."""
    correct, positions = content.last_topic[:, None], np.arange(N_OPTIONS)
    correct_position = content.correct_position[:, None]
    wrong = content.option_order[content.option_order != correct].reshape(len(correct), symbols.n_topics - 1)
    n_wrong_before = positions - (positions > correct_position)
    return np.where(positions == correct_position, correct, np.take_along_axis(wrong, n_wrong_before, axis=1))


def _question(symbols: Symbols, content: Content) -> np.ndarray:
    options = symbols.first_of_kind["topic"] + _options(symbols, content)
    return np.concatenate([_beginning(symbols, content), options], axis=1)


def _option_marker(symbols: Symbols, content: Content, operator: int) -> np.ndarray:
    return symbols.first_of_kind["marker"] + symbols.markers[operator][content.correct_position][:, None]


def _marker_kinds(operator: int) -> tuple[str, ...]:
    return ("marker",)


def _parse_marker(symbols: Symbols, content: Content, operator: int, answer: np.ndarray) -> np.ndarray:
    """Topic at the marked position, (n, 1); -1 for a marker that belongs to another operator."""
    marked = symbols.markers[operator] == answer - symbols.first_of_kind["marker"]
    topic = np.take_along_axis(_options(symbols, content), marked.argmax(axis=1)[:, None], axis=1)
    return np.where(marked.any(axis=1)[:, None], topic, -1)


def _expected_topic(symbols: Symbols, content: Content, operator: int) -> np.ndarray:
    return content.last_topic[:, None]


TASK_FORMATS: Mapping[str, TaskFormat] = {
    "gen": TaskFormat(
        "the beginning of a text and the topic of its last phrase; answer: a phrase of that topic",
        BEGINNING_LENGTH,
        _beginning,
        _continuation,
        _continuation_kinds,
        _parse_continuation,
        _phrase_of_last_topic,
    ),
    "map": TaskFormat(
        "a text in the foreign language; answer: its translation by a cipher",
        TEXT_LENGTH,
        _foreign_text,
        _enciphered_text,
        _enciphered_kinds,
        _parse_cipher,
        _text_by_operator,
    ),
    "sum": TaskFormat(
        "a text; answer: its topics",
        TEXT_LENGTH,
        _whole_text,
        _summary,
        _summary_kinds,
        _parse_summary,
        _expected_summary,
    ),
    "struct": TaskFormat(
        "a text; answer: a program that writes it",
        TEXT_LENGTH,
        _whole_text,
        _program,
        _program_kinds,
        _run_program,
        _text_by_operator,
    ),
    "label": TaskFormat(
        "a text; answer: the label of its relation",
        TEXT_LENGTH,
        _whole_text,
        _relation_label,
        _label_kinds,
        _parse_label,
        _expected_relation,
    ),
    "mcq": TaskFormat(
        "the beginning of a text, the topic of its last phrase, two topics; answer: that topic's marker",
        BEGINNING_LENGTH + N_OPTIONS,
        _question,
        _option_marker,
        _marker_kinds,
        _parse_marker,
        _expected_topic,
    ),
}
"""The task formats by name."""
FORMAT_NAMES = tuple(TASK_FORMATS)
"""Names of the task formats; `Content.task_format` is an index into them."""


def payloads(symbols: Symbols, content: Content, *, width: int) -> np.ndarray:
    """What requests show of their texts, (n, width) numbers of symbols, -1 after each payload."""
    return _padded(content, lambda task, part, operator: task.payload(symbols, part), width)


def correct_answers(symbols: Symbols, content: Content, *, width: int) -> np.ndarray:
    """Correct answers of requests, (n, width) numbers of symbols, -1 after each answer."""
    return _padded(content, lambda task, part, operator: task.correct_answer(symbols, part, operator), width)


def _padded(
    content: Content, compute: Callable[[TaskFormat, Content, int], np.ndarray], width: int
) -> np.ndarray:
    """Results of `compute` for each format and operator, in the order of the requests, padded with -1."""
    result = np.full((len(content.operator), width), -1)
    for rows, task, operator in _by_format_and_operator(content):
        part = compute(task, content[rows], operator)
        result[rows, : part.shape[1]] = part
    return result


def _by_format_and_operator(content: Content) -> list[tuple[np.ndarray, TaskFormat, int]]:
    """Rows of the requests of each format and operator."""
    codes = N_OPERATORS * content.task_format + content.operator
    return [
        (
            np.flatnonzero(codes == code),
            TASK_FORMATS[FORMAT_NAMES[code // N_OPERATORS]],
            int(code % N_OPERATORS),
        )
        for code in np.unique(codes)
    ]


def parse_answers(symbols: Symbols, content: Content, answer: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each answer is well formed, and whether it states what is true.

    Args:
        symbols: Symbols of the world.
        content: What the answered requests are about.
        answer: Numbers of symbols, (n, width), up to what ends an answer and -1 after it; any other token has
            the number `len(symbols.names)`.

    Returns:
        Two (n,) arrays of bool: well formed; well formed and true.
    """
    well_formed, correct = np.zeros(len(answer), dtype=bool), np.zeros(len(answer), dtype=bool)
    kinds = np.append(symbols.kind_indices, [len(symbols.kinds)] * 2)  # any other token, and nothing (-1)
    for rows, task, operator in _by_format_and_operator(content):
        expected_kinds = np.array([symbols.kinds.index(kind) for kind in task.answer_kinds(operator)])
        part, n = answer[rows], len(expected_kinds)
        fits = (kinds[part[:, :n]] == expected_kinds).all(axis=1) & (part[:, n:] == -1).all(axis=1)
        well_formed[rows] = fits
        fitting = content[rows[fits]]
        stated = task.parse(symbols, fitting, operator, part[fits, :n])
        correct[rows[fits]] = (stated == task.expected(symbols, fitting, operator)).all(axis=1)
    return well_formed, correct
