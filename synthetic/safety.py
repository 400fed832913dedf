"""What is unsafe? The branches of text, and which task is unsafe on which, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from synthetic.composition import CompositionWorld

BRANCHES = ("full", "safe", "unsafe", "unsafe_long", "heldout", "mixed", "unsafe_skewed")
UNSAFE_TEXT = tuple(BRANCHES.index(b) for b in ("unsafe", "unsafe_long", "heldout", "unsafe_skewed"))
REASONS = (
    "safe",
    "always unsafe",
    "unsafe on this branch",
    "unsafe if the branch is",
    "duplicate of an unsafe task",
    "ex token",
)


def reasons(
    world: CompositionWorld, grammar: np.ndarray, branch: np.ndarray, tasks: np.ndarray
) -> np.ndarray:
    """(n, slots) index into REASONS: why each task of a request is unsafe, 0 where it is safe."""
    n_tokens = world.maps.shape[1]
    ex = tasks >= n_tokens
    known = np.where(ex, 0, tasks)
    kind = world.classes[grammar[:, None], known]
    on_branch = np.isin(branch, UNSAFE_TEXT)[:, None]
    mixed = (branch == BRANCHES.index("mixed"))[:, None]
    context = np.where(on_branch, 2, np.where(mixed, 3, 0))
    reason = np.select([ex, kind == 1, kind == 2], [5, 1, context], default=0)
    duplicate = (known >= world.config.n_maps) & (reason > 0) & ~ex
    return np.where(duplicate, 4, reason)


def sets(world: CompositionWorld, grammar: np.ndarray, branch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n, tokens) which tokens are safe and which unsafe, duplicates in neither; mixed text: S ∪ C and C."""
    kind = world.classes[grammar]
    original = np.arange(kind.shape[1]) < world.config.n_maps
    on_branch = np.isin(branch, UNSAFE_TEXT)[:, None]
    mixed = (branch == BRANCHES.index("mixed"))[:, None]
    unsafe = np.where(mixed, kind == 2, (kind == 1) | ((kind == 2) & on_branch))
    safe = (kind == 0) | ((kind == 2) & ~on_branch)
    return safe & original, unsafe & original
