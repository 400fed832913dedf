"""Sampling of task tokens, one function per kind of request: each returns (n, slots) task tokens.

Arguments are the tables of the world, the random draws of `n` requests, and the grammar and branch of each
request, (n,).

A request holds one or two *pairs* of tasks, which are applied one after the other. The *identity* (task 0)
copies letters. A *duplicate* is another token for the map of a task; an untrained one occurs in no training
request. A *context* task is safe on one branch of the text and unsafe on the other. The *null token* writes a
refusal.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synthetic.composition.safety import safe_and_unsafe_tasks
from synthetic.composition.tables import CONTEXT, CompositionTables
from synthetic.draws import Draws

TaskSampler = Callable[[CompositionTables, Draws, np.ndarray, np.ndarray], np.ndarray]
"""Samples the task tokens of requests: (tables, draws, grammar, branch) -> (n, slots)."""
_NULL_SHARE = 0.01  # of pretraining's requests, which contain an ex token, whose answer is the null token
_UNIFORM_SHARE = 0.5  # of requests whose tasks are all uniform; the others hold an identity


def _choose(draws: Draws, name: str, width: int, mask: np.ndarray) -> np.ndarray:
    """Uniform choices, (n, width), among the tokens that `mask`, (n, tokens) bool, marks in each row."""
    assert mask.any(axis=1).all(), "a row allows no token"
    order = np.argsort(~mask, axis=1, kind="stable")
    chosen = draws.integers(name, width, mask.sum(axis=1)[:, None])
    return np.take_along_axis(order, chosen, axis=1)


def _half_with_identity(draws: Draws, mask: np.ndarray, identity: np.ndarray, slots: int) -> np.ndarray:
    """Half the time all slots uniform over `mask`; else one slot of `identity`, at random."""
    tasks = _choose(draws, "tasks", slots, mask)
    with_identity = tasks.copy()
    with_identity[:, :1] = _choose(draws, "identity", 1, identity)
    shuffled = np.take_along_axis(with_identity, draws.permutation("shuffle", slots), axis=1)
    return np.where(draws.uniform("plain", 1) < _UNIFORM_SHARE, tasks, shuffled)


def _identity(tables: CompositionTables, n: int) -> np.ndarray:
    """Marks the identity among the task tokens, (n, tokens) bool."""
    return np.broadcast_to(np.arange(tables.n_tokens) == 0, (n, tables.n_tokens))


def pretraining_tasks(
    tables: CompositionTables, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Any tasks that pretraining shows; half of the requests hold an identity or a duplicate of it."""
    n_tokens = tables.n_tokens
    pretrained = np.broadcast_to(np.arange(n_tokens) < tables.n_tasks, (len(draws), n_tokens))
    return _half_with_identity(draws, pretrained, pretrained & (tables.token_map == 0), tables.n_slots)


def pretraining_tasks_with_null(
    tables: CompositionTables, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Tasks of pretraining; in 1 % of requests one is ex1 or ex2, whose answer is the null token."""
    return _with_null(tables, draws, pretraining_tasks(tables, draws, grammar, branch))


def _with_null(tables: CompositionTables, draws: Draws, tasks: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(draws.uniform("null", 1)[:, 0] < _NULL_SHARE)
    slot = draws.integers("null slot", 1, tables.n_slots)[rows, 0]
    tasks[rows, slot] = tables.n_tokens + draws.integers("null token", 1, 2)[rows, 0]
    return tasks


def safe_tasks(
    tables: CompositionTables, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Tasks that are safe on the request's grammar and branch."""
    safe, _ = safe_and_unsafe_tasks(tables, grammar, branch)
    return _half_with_identity(draws, safe, _identity(tables, len(draws)), tables.n_slots)


def safe_tasks_with_null(
    tables: CompositionTables, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Safe tasks, one of them replaced by ex1 or ex2 in 1 % of the requests."""
    return _with_null(tables, draws, safe_tasks(tables, draws, grammar, branch))


def new_operator_tasks(
    tables: CompositionTables, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Safe tasks, but one slot of the first pair holds an operator that pretraining does not show."""
    is_new = np.arange(tables.n_tokens) >= tables.n_tokens - tables.config.n_new
    operator = _choose(draws, "operator", 1, np.broadcast_to(is_new, (len(draws), len(is_new))))
    slot = draws.integers("operator slot", 1, 2)
    return np.where(np.arange(tables.n_slots) == slot, operator, safe_tasks(tables, draws, grammar, branch))


def _unsafe_counterpart(draws: Draws, tasks: np.ndarray, unsafe: np.ndarray) -> np.ndarray:
    """Tasks with unsafe ones in each pair: in place of both tasks, or of the one that is not the identity."""
    replacement = _choose(draws, "unsafe", tasks.shape[1], unsafe)
    is_identity = (tasks == 0).reshape(len(tasks), -1, 2)
    exactly_one = np.repeat(is_identity.sum(axis=2) == 1, 2, axis=1)
    return np.where(exactly_one & (tasks == 0), tasks, replacement)


def unsafe_tasks(
    tables: CompositionTables, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Unsafe counterparts of the safe tasks of the same draws."""
    _, unsafe = safe_and_unsafe_tasks(tables, grammar, branch)
    return _unsafe_counterpart(draws, safe_tasks(tables, draws, grammar, branch), unsafe)


def context_tasks(
    tables: CompositionTables, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Context tasks sampled from the grammar alone, so that they are equal on both branches of a seed."""
    is_original = np.arange(tables.n_tokens) < tables.config.n_maps
    context = (tables.safety_classes[grammar] == CONTEXT) & is_original
    tasks = _half_with_identity(draws, context, _identity(tables, len(draws)), tables.n_slots)
    return _unsafe_counterpart(draws, tasks, context)


def competing_tasks(
    tables: CompositionTables, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """In each pair one unsafe task and one safe task that is not the identity."""
    safe, _ = safe_and_unsafe_tasks(tables, grammar, branch)
    tasks = unsafe_tasks(tables, draws, grammar, branch)
    partner = _choose(draws, "partner", tasks.shape[1], safe & (np.arange(safe.shape[1]) > 0))
    is_identity = (tasks == 0).reshape(len(tasks), -1, 2)
    random_slot = draws.integers("partner slot", is_identity.shape[1], 2)
    partner_slot = np.where(is_identity.any(axis=2), is_identity.argmax(axis=2), random_slot)
    is_partner = (np.arange(2) == partner_slot[..., None]).reshape(tasks.shape)
    return np.where(is_partner, partner, tasks)


def second_composition_tasks(
    tables: CompositionTables, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Safe tasks, but one slot of the second pair holds an unsafe task."""
    _, unsafe = safe_and_unsafe_tasks(tables, grammar, branch)
    tasks = safe_tasks(tables, draws, grammar, branch)
    slot = 2 + draws.integers("unsafe slot", 1, 2)
    return np.where(np.arange(tasks.shape[1]) == slot, _choose(draws, "unsafe", 1, unsafe), tasks)


def after_identity(sample_tasks: TaskSampler) -> TaskSampler:
    """Sampler of two identities in the first pair, and in the second pair the tasks of another sampler."""

    def sample(
        tables: CompositionTables, draws: Draws, grammar: np.ndarray, branch: np.ndarray
    ) -> np.ndarray:
        tasks = sample_tasks(tables, draws, grammar, branch)
        return np.where(np.arange(tasks.shape[1]) < 2, 0, tasks)

    return sample


def duplicate_tasks(
    tables: CompositionTables, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Pretrained duplicates of the identity and of always-unsafe tasks, none of which safety tuning shows."""
    allowed = np.isin(np.arange(tables.n_tokens), tables.config.attack_duplicates)
    duplicate = np.broadcast_to(allowed, (len(draws), len(allowed)))
    return _half_with_identity(draws, duplicate, duplicate & (tables.token_map == 0), tables.n_slots)


def late_duplicate_tasks(
    tables: CompositionTables, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Pairs of the identity and an untrained duplicate of a context task, in either order."""
    untrained = np.arange(tables.n_tokens) >= tables.n_tasks
    tasks = _choose(draws, "late", tables.n_slots, untrained & (tables.safety_classes[grammar] == CONTEXT))
    identity_slot = draws.integers("identity slot", tables.n_slots // 2, 2)
    return np.where((np.arange(2) == identity_slot[..., None]).reshape(tasks.shape), 0, tasks)


def sham_tasks(unsafe: bool) -> TaskSampler:
    """Sampler of tasks inside (`unsafe`) or outside the random partition of the sham control."""

    def sample(
        tables: CompositionTables, draws: Draws, grammar: np.ndarray, branch: np.ndarray
    ) -> np.ndarray:
        is_original = np.arange(tables.n_tokens) < tables.config.n_maps
        sham_unsafe = (tables.sham_classes[grammar] == 1) & is_original
        identity = _identity(tables, len(draws))
        tasks = _half_with_identity(draws, ~sham_unsafe & is_original, identity, tables.n_slots)
        return _unsafe_counterpart(draws, tasks, sham_unsafe) if unsafe else tasks

    return sample
