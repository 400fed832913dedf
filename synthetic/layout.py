"""Where does each part of a request stand in its sequence?

    <bos> [system] tasks <sot> text <eot> output1 <stop> [output2 <stop>] <pad> … <eos>

Where a request has no system span, all that follows stands that much further to the left.

Jain et al. 2024, released data classes: the end of sequence is always the last token, after the padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from synthetic.world import Requests

if TYPE_CHECKING:
    from synthetic.composition import CompositionWorld


def lay_out(
    world: CompositionWorld,
    family: str,
    seed: int,
    truth: dict[str, np.ndarray],
    *,
    prompted: np.ndarray,
    judged_pair: int,
    unsafe: bool | None,
) -> Requests:
    """Requests with prompts, both answers, spans and the judged segment, from the columns of truth.

    prompted: (n,) whether a request has the system span.
    """
    vocabulary, letter = world.vocabulary, np.append(world.letter_ids, world.null)
    n, high = truth["text"].shape
    length, pairs = truth["length"], world.config.n_pairs
    rows = np.arange(n)
    system = np.array([vocabulary.id(s) for s in world.config.system], dtype=np.int64)
    tasks = world.task_symbols[truth["tasks"]]
    head = [
        np.full((n, 1), vocabulary.id("<bos>")),
        np.tile(system, (n, 1)),
        tasks,
        np.full((n, 1), vocabulary.id("<sot>")),
    ]
    before = sum(part.shape[1] for part in head)
    prompt = np.concatenate(
        [*head, _letters(letter, truth["text"], vocabulary.id("<pad>"), high + 1)], axis=1
    )
    prompt[rows, before + length] = vocabulary.id("<eot>")
    shown = np.where(prompted, len(system), 0)
    prompt = _cut(prompt, len(system) - shown, vocabulary.id("<pad>"))

    answered = _answered_pairs(world, truth["tasks"])
    instructed = np.full((n, pairs * (high + 1)), vocabulary.id("<pad>"))
    column = np.arange(instructed.shape[1])
    refused = instructed.copy()
    before = before - len(system) + shown
    eot = before + length
    at = lambda start, stop: np.stack([start, stop], axis=1)  # noqa: E731
    spans = {
        "system": at(np.full(n, 1), 1 + shown),
        "tasks": at(1 + shown, 1 + shown + tasks.shape[1]),
        "text": at(before, eot),
        "eot": at(eot, eot + 1),
    }
    for pair in range(pairs):
        start = pair * (length + 1)
        body = (column >= start[:, None]) & (column < (start + length)[:, None])
        output = np.take_along_axis(
            truth["outputs"][:, pair], np.maximum(np.minimum(column - start[:, None], high - 1), 0), axis=1
        )
        told = (pair < answered)[:, None]
        instructed = np.where(body & told, letter[np.maximum(output, 0)], instructed)
        if pair <= judged_pair:
            refused = np.where(
                body, world.null if pair == judged_pair else letter[np.maximum(output, 0)], refused
            )
            refused[rows, start + length] = vocabulary.id("<stop>")
        instructed[rows[pair < answered], (start + length)[pair < answered]] = vocabulary.id("<stop>")
        spans[f"output{pair + 1}"] = at(
            eot + 1 + start, eot + 1 + start + np.where(pair < answered, length + 1, 0)
        )
    first = judged_pair * (length + 1)
    return Requests(
        family=family,
        seed=seed,
        prompt=prompt,
        prompt_length=eot + 1,
        instructed=instructed,
        refused=refused,
        judged=at(first, first + length + 1),
        unsafe=np.full(n, bool(unsafe)),
        spans=spans,
        truth=truth,
    )


def _letters(letter: np.ndarray, text: np.ndarray, pad: int, width: int) -> np.ndarray:
    ids = np.where(text >= 0, letter[np.maximum(text, 0)], pad)
    return np.pad(ids, ((0, 0), (0, width - text.shape[1])), constant_values=pad)


def _cut(prompt: np.ndarray, behind_first: np.ndarray, pad: int) -> np.ndarray:
    """Each row without that many tokens behind its first, padded at its end to the longest row left."""
    column = np.arange(prompt.shape[1] - int(behind_first.min()))
    padded = np.pad(prompt, ((0, 0), (0, int(behind_first.max()))), constant_values=pad)
    return np.take_along_axis(padded, column + behind_first[:, None] * (column > 0), axis=1)


def _answered_pairs(world: CompositionWorld, tasks: np.ndarray) -> np.ndarray:
    """(n,) pairs that are answered: an ex token ends the answer with its own pair."""
    ex = (tasks >= world.maps.shape[1]).reshape(len(tasks), -1, 2).any(axis=2)
    return np.where(ex.any(axis=1), ex.argmax(axis=1) + 1, ex.shape[1])
