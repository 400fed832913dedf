"""Encoding of composition requests as token ids, with the spans of their parts.

    <bos> [system] tasks <sot> text <eot> output1 <stop> [output2 <stop>] <pad> ... <eos>

In a request without a system span, everything after it stands that many positions further to the left. As in
the released data classes of Jain et al. (2024), the end of sequence is always the last token, after the
padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthetic.composition.families import CompositionFamily
from synthetic.composition.tables import CompositionTables
from synthetic.types import Requests, span


@dataclass(frozen=True)
class _Answers:
    """Both answers of `n` requests and the positions of their outputs, from the first answer token."""

    instructed: np.ndarray
    """Token ids of the instructed answer, (n, A)."""
    refused: np.ndarray
    """Token ids of the refusal, (n, A)."""
    outputs: list[np.ndarray]
    """Start and stop of each pair's output within the instructed answer, (n, 2) by pair, STOP included."""


def encode_requests(
    tables: CompositionTables,
    name: str,
    seed: int,
    truth: dict[str, np.ndarray],
    *,
    family: CompositionFamily,
    has_system: np.ndarray,
) -> Requests:
    """Requests with prompts, both answers, spans and judged segments.

    Args:
        tables: Tables of the tables.
        name: Name of the family as it was asked for.
        seed: Seed of the requests.
        truth: Columns of truth: text, length, tasks, outputs and others.
        family: Family of the requests.
        has_system: Whether each request has the system span, (n,) bool.

    Returns:
        The requests, with `truth` as their columns of truth.
    """
    n, length = len(truth["text"]), truth["length"]
    system_length = np.where(has_system, len(tables.config.system), 0)
    tasks_stop = 1 + system_length + tables.n_slots
    text_start = tasks_stop + 1
    eot = text_start + length
    answers = _encode_answers(tables, truth, judged_pair=family.judged_pair)
    spans = {
        "system": span(np.full(n, 1), 1 + system_length),
        "tasks": span(1 + system_length, tasks_stop),
        "text": span(text_start, eot),
        "eot": span(eot, eot + 1),
    }
    for pair, output in enumerate(answers.outputs):
        spans[f"output{pair + 1}"] = (eot + 1)[:, None] + output
    judged_start = _output_start(family.judged_pair, length)
    return Requests(
        family=name,
        seed=seed,
        prompt=_encode_prompts(tables, truth, system_length),
        prompt_length=eot + 1,
        instructed=answers.instructed,
        refused=answers.refused,
        judged=span(judged_start, judged_start + length + 1),
        unsafe=np.full(n, bool(family.unsafe)),
        spans=spans,
        truth=truth,
    )


def _encode_prompts(
    tables: CompositionTables, truth: dict[str, np.ndarray], system_length: np.ndarray
) -> np.ndarray:
    """Token ids of prompts, (n, P), padded on the right; system_length: (n,) tokens of each system span."""
    vocabulary = tables.vocabulary
    n, longest_text = truth["text"].shape
    pad_id = vocabulary.id("<pad>")
    system = np.array([vocabulary.id(symbol) for symbol in tables.config.system], dtype=np.int64)
    before_text = [
        np.full((n, 1), vocabulary.id("<bos>")),
        np.tile(system, (n, 1)),
        tables.task_ids[truth["tasks"]],
        np.full((n, 1), vocabulary.id("<sot>")),
    ]
    text = np.full((n, longest_text + 1), pad_id)
    text[:, :-1] = np.where(truth["text"] >= 0, tables.output_ids[np.maximum(truth["text"], 0)], pad_id)
    text[np.arange(n), truth["length"]] = vocabulary.id("<eot>")
    prompt = np.concatenate([*before_text, text], axis=1)
    return _without_second_tokens(prompt, len(system) - system_length, pad_id)


def _without_second_tokens(prompt: np.ndarray, n_removed: np.ndarray, pad_id: int) -> np.ndarray:
    """Each row without the `n_removed`, (n,), tokens after its first, padded to the longest one left."""
    column = np.arange(prompt.shape[1] - int(n_removed.min()))
    padded = np.pad(prompt, ((0, 0), (0, int(n_removed.max()))), constant_values=pad_id)
    return np.take_along_axis(padded, column + n_removed[:, None] * (column > 0), axis=1)


def _encode_answers(tables: CompositionTables, truth: dict[str, np.ndarray], *, judged_pair: int) -> _Answers:
    """Both answers: the instructed one, and the one with the null in place of the judged pair's output."""
    n, longest_text = truth["text"].shape
    length, rows = truth["length"], np.arange(n)
    n_answered = _answered_pairs(tables, truth["tasks"])
    column = np.arange(tables.config.n_pairs * (longest_text + 1))
    instructed = np.full((n, len(column)), tables.vocabulary.id("<pad>"))
    refused, stop_id = instructed.copy(), tables.vocabulary.id("<stop>")
    outputs = []
    for pair in range(tables.config.n_pairs):
        start = _output_start(pair, length)
        is_output = (column >= start[:, None]) & (column < (start + length)[:, None])
        position = np.clip(column - start[:, None], 0, longest_text - 1)
        letters = np.take_along_axis(truth["outputs"][:, pair], position, axis=1)
        output = tables.output_ids[np.maximum(letters, 0)]
        is_answered = pair < n_answered
        instructed = np.where(is_output & is_answered[:, None], output, instructed)
        instructed[rows[is_answered], (start + length)[is_answered]] = stop_id
        if pair <= judged_pair:
            refused = np.where(is_output, tables.null_id if pair == judged_pair else output, refused)
            refused[rows, start + length] = stop_id
        outputs.append(span(start, start + np.where(is_answered, length + 1, 0)))
    return _Answers(instructed, refused, outputs)


def _output_start(pair: int, length: np.ndarray) -> np.ndarray:
    """Answer position, (n,), at which a pair's output begins: each output has `length` letters and a STOP."""
    return pair * (length + 1)


def _answered_pairs(tables: CompositionTables, tasks: np.ndarray) -> np.ndarray:
    """Pairs that are answered, (n,): an ex token ends the answer with its own pair."""
    is_ex = np.any((tasks >= tables.n_tokens).reshape(len(tasks), -1, 2), axis=2)
    return np.where(is_ex.any(axis=1), is_ex.argmax(axis=1) + 1, is_ex.shape[1])
