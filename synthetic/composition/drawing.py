"""Drawing of composition requests: grammars, texts, tasks, and the outputs that answer them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from synthetic.composition.config import BRANCHES
from synthetic.composition.families import CompositionFamily
from synthetic.composition.safety import UNSAFE_BRANCHES, unsafe_reasons
from synthetic.composition.tables import CompositionTables
from synthetic.composition.tasks import apply_tasks
from synthetic.draws import Draws

COLUMNS: Mapping[str, str] = {
    "grammar": "index of the text's grammar",
    "branch": "index into BRANCHES of the text's branch, its concept",
    "label": "token that names the grammar and whether the branch is unsafe",
    "length": "letters of the text",
    "text": "numbers of the text's letters, -1 beyond its end",
    "tasks": "task tokens, two per pair; numbers from that of task tokens on are ex1 and ex2",
    "outputs": "numbers of the letters of each pair's output, -1 beyond the text's end",
    "reason": "index into REASONS of why each task is unsafe",
}
"""Columns of truth."""


def draw_columns(
    tables: CompositionTables, family: CompositionFamily, draws: Draws, task_draws: Draws
) -> dict[str, np.ndarray]:
    """Columns of truth of the requests of `draws`.

    Args:
        tables: Tables of the world.
        family: Family of the requests.
        draws: Draws of branches and texts.
        task_draws: Draws of grammars and tasks.

    Returns:
        The columns of COLUMNS.
    """
    grammar = task_draws.integers("grammar", 1, tables.n_grammars)[:, 0]
    if family.first_grammar_only:
        grammar = np.zeros(len(draws), np.int64)
    branches = family.branches or tables.config.pretraining_branches
    branch_number = draws.integers("branch", 1, len(branches))[:, 0]
    branch = np.array([BRANCHES.index(name) for name in branches])[branch_number]
    text, length = _draw_texts(tables, draws, branches, branch_number, grammar)
    tasks = family.sample_tasks(tables, task_draws, grammar, branch)
    columns = {
        "grammar": grammar,
        "branch": branch,
        "label": tables.letter_ids[1 + 2 * grammar + np.isin(branch, UNSAFE_BRANCHES)],
        "length": length,
        "text": text,
        "tasks": tasks,
    }
    return columns | outputs_and_reasons(tables, columns, remap=family.remap)


def _draw_texts(
    tables: CompositionTables,
    draws: Draws,
    branches: tuple[str, ...],
    branch_number: np.ndarray,
    grammar: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Letters, (n, longest text), -1 beyond each text, and lengths, (n,)."""
    shortest, longest = tables.config.text_length
    length = shortest + draws.integers("length", 1, longest - shortest + 1)[:, 0]
    text = np.full((len(draws), longest), -1)
    for b, branch in enumerate(branches):
        for g in range(tables.n_grammars):
            rows = np.flatnonzero((branch_number == b) & (grammar == g))
            if len(rows):
                part = tables.grammars[branch, g].sample(draws[rows], length[rows])
                text[rows, : part.shape[1]] = part
    return text, length


def outputs_and_reasons(
    tables: CompositionTables, columns: Mapping[str, np.ndarray], *, remap: bool
) -> dict[str, np.ndarray]:
    """Outputs by pair, and why each task is unsafe; an ex token makes its pair null and ends the answer.

    Args:
        tables: Tables of the world.
        columns: The columns grammar, branch, tasks and text.
        remap: Whether the answer of an unsafe pair is that of one task alone, the first always-safe one that
            is not the identity.

    Returns:
        The columns outputs and reason.
    """
    grammar, tasks, text = columns["grammar"], columns["tasks"], columns["text"]
    reason = unsafe_reasons(tables, grammar, columns["branch"], tasks)
    known = np.minimum(tasks, tables.n_tokens - 1)
    if remap:
        known = _remapped_tasks(tables, known, reason, grammar)
    outputs, current = [], text
    for pair in range(tables.config.n_pairs):
        slots = slice(2 * pair, 2 * pair + 2)
        current = apply_tasks(tables.maps, known[:, slots], current, grammar)
        ex_token = (tasks[:, slots] - tables.n_tokens).max(axis=1, keepdims=True)  # below 0: none
        null = np.where(ex_token == 0, tables.null_output, 1)
        outputs.append(np.where((ex_token >= 0) & (text >= 0), null, current))
    return {"outputs": np.stack(outputs, axis=1), "reason": reason}


def _remapped_tasks(
    tables: CompositionTables, tasks: np.ndarray, reason: np.ndarray, grammar: np.ndarray
) -> np.ndarray:
    """Tasks, (n, slots), with each unsafe pair replaced by one safe task and the identity after it."""
    first_safe = np.array([next(filter(None, safe)) for safe in tables.config.always_safe])[grammar]
    pair = np.stack([first_safe, np.zeros_like(first_safe)], axis=1)
    unsafe = (reason.reshape(len(reason), -1, 2) > 0).any(axis=2)
    return np.where(unsafe.repeat(2, axis=1), np.tile(pair, tables.config.n_pairs), tasks)


def is_acceptable(
    tables: CompositionTables, family: CompositionFamily, columns: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Whether each draw is a request of the family, (n,) bool.

    The correct answer must not be all null, a remapped answer must not be the true one, and the judged pair
    must hold an unsafe task if the family needs one.
    """
    accepted = np.ones(len(columns["grammar"]), dtype=bool)
    answer = columns["outputs"][:, family.judged_pair]
    if family.unsafe is not None:
        accepted &= ~((answer == tables.null_output) | (columns["text"] < 0)).all(axis=1)
    if family.remap:
        true_answer = outputs_and_reasons(tables, columns, remap=False)["outputs"][:, family.judged_pair]
        accepted &= (true_answer != answer).any(axis=1)
    if family.needs_unsafe_task:
        judged = columns["reason"][:, 2 * family.judged_pair : 2 * family.judged_pair + 2]
        accepted &= (judged > 0).any(axis=1)
    return accepted
