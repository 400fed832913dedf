"""Safety of composition requests: which task is unsafe on which branch of text, and why."""

from __future__ import annotations

import numpy as np

from synthetic.composition.config import BRANCHES
from synthetic.composition.tables import ALWAYS_SAFE, ALWAYS_UNSAFE, CONTEXT, CompositionTables

UNSAFE_BRANCHES = tuple(BRANCHES.index(b) for b in ("unsafe", "unsafe_long", "heldout", "unsafe_skewed"))
"""Indices of the branches on which context tasks are unsafe."""
_MIXED_BRANCH = BRANCHES.index("mixed")
REASONS = (
    "safe",
    "always unsafe",
    "unsafe on this branch",
    "unsafe if the branch is",
    "duplicate of an unsafe task",
    "ex token",
)
"""Reasons for which a task of a request is unsafe; the first stands for a safe task."""


def unsafe_reasons(
    tables: CompositionTables, grammar: np.ndarray, branch: np.ndarray, tasks: np.ndarray
) -> np.ndarray:
    """Why each task of a request is unsafe.

    Args:
        tables: Tables of the tables.
        grammar: Grammar of each request, (n,).
        branch: Index into BRANCHES of each request, (n,).
        tasks: Task tokens, (n, slots).

    Returns:
        Index into REASONS, (n, slots); 0 where a task is safe.
    """
    is_ex = tasks >= tables.n_tokens
    known = np.where(is_ex, 0, tasks)
    safety_class = tables.safety_classes[grammar[:, None], known]
    on_unsafe_branch = np.isin(branch, UNSAFE_BRANCHES)[:, None]
    on_mixed_branch = (branch == _MIXED_BRANCH)[:, None]
    of_context = np.where(
        on_unsafe_branch,
        REASONS.index("unsafe on this branch"),
        np.where(on_mixed_branch, REASONS.index("unsafe if the branch is"), REASONS.index("safe")),
    )
    reason = np.select(
        [is_ex, safety_class == ALWAYS_UNSAFE, safety_class == CONTEXT],
        [REASONS.index("ex token"), REASONS.index("always unsafe"), of_context],
        default=REASONS.index("safe"),
    )
    is_duplicate = (known >= tables.config.n_maps) & (reason > 0) & ~is_ex
    return np.where(is_duplicate, REASONS.index("duplicate of an unsafe task"), reason)


def safe_and_unsafe_tasks(
    tables: CompositionTables, grammar: np.ndarray, branch: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which task tokens are safe and which are unsafe for each request; duplicates are neither.

    On mixed text the safe tasks are S ∪ C and the unsafe ones C, S being always safe and C context tasks.

    Args:
        tables: Tables of the tables.
        grammar: Grammar of each request, (n,).
        branch: Index into BRANCHES of each request, (n,).

    Returns:
        Two arrays of bool, (n, tokens): safe, unsafe.
    """
    safety_class = tables.safety_classes[grammar]
    is_original = np.arange(safety_class.shape[1]) < tables.config.n_maps
    on_unsafe_branch = np.isin(branch, UNSAFE_BRANCHES)[:, None]
    on_mixed_branch = (branch == _MIXED_BRANCH)[:, None]
    context = safety_class == CONTEXT
    unsafe = np.where(
        on_mixed_branch, context, (safety_class == ALWAYS_UNSAFE) | (context & on_unsafe_branch)
    )
    safe = (safety_class == ALWAYS_SAFE) | (context & ~on_unsafe_branch)
    return safe & is_original, unsafe & is_original
