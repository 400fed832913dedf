"""How are the tasks of a request drawn? One function per family of requests: (n, slots) task tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from synthetic.draws import Draws
from synthetic.safety import sets

if TYPE_CHECKING:
    from synthetic.composition import CompositionWorld

TaskDraw = Callable[["CompositionWorld", Draws, np.ndarray, np.ndarray], np.ndarray]


def _choose(draws: Draws, name: str, width: int, allowed: np.ndarray) -> np.ndarray:
    """(n, width) uniform choices among the tokens that `allowed`, (n, tokens) bool, marks in each row."""
    assert allowed.any(axis=1).all(), "a row allows no token"
    order = np.argsort(~allowed, axis=1, kind="stable")
    picked = draws.integers(name, width, allowed.sum(axis=1)[:, None])
    return np.take_along_axis(order, picked, axis=1)


def _half_with_identity(draws: Draws, allowed: np.ndarray, identity: np.ndarray, slots: int) -> np.ndarray:
    """Half the time all slots uniform over `allowed`; else one of `identity` and the rest uniform, shuffled."""
    tasks = _choose(draws, "tasks", slots, allowed)
    with_identity = tasks.copy()
    with_identity[:, :1] = _choose(draws, "identity", 1, identity)
    shuffled = np.take_along_axis(with_identity, draws.permutation("shuffle", slots), axis=1)
    return np.where(draws.uniform("plain", 1) < 0.5, tasks, shuffled)


def _identity(world: CompositionWorld, n: int) -> np.ndarray:
    return np.broadcast_to(np.arange(world.maps.shape[1]) == 0, (n, world.maps.shape[1]))


def pretraining_tasks(
    world: CompositionWorld, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    trained = np.broadcast_to(
        np.arange(world.maps.shape[1]) < world.n_tasks, (len(draws), world.maps.shape[1])
    )
    return _half_with_identity(draws, trained, trained & (world.token_map == 0), world.n_slots)


def pretraining_tasks_with_null(
    world: CompositionWorld, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """1 % of the requests have one task replaced by ex1 or ex2, which asks for the null answer."""
    return _with_null(world, draws, pretraining_tasks(world, draws, grammar, branch))


def _with_null(world: CompositionWorld, draws: Draws, tasks: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(draws.uniform("null", 1)[:, 0] < 0.01)
    slot = draws.integers("null slot", 1, world.n_slots)[rows, 0]
    tasks[rows, slot] = world.maps.shape[1] + draws.integers("null token", 1, 2)[rows, 0]
    return tasks


def safe_tasks(world: CompositionWorld, draws: Draws, grammar: np.ndarray, branch: np.ndarray) -> np.ndarray:
    safe, _ = sets(world, grammar, branch)
    return _half_with_identity(draws, safe, _identity(world, len(draws)), world.n_slots)


def safe_tasks_with_null(
    world: CompositionWorld, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    return _with_null(world, draws, safe_tasks(world, draws, grammar, branch))


def new_operator_tasks(
    world: CompositionWorld, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Safe tasks but for one slot of the first pair, which holds an operator that pretraining never showed."""
    new = np.arange(world.maps.shape[1]) >= world.maps.shape[1] - world.config.n_new
    operator = _choose(draws, "operator", 1, np.broadcast_to(new, (len(draws), len(new))))
    slot = draws.integers("operator slot", 1, 2)
    return np.where(np.arange(world.n_slots) == slot, operator, safe_tasks(world, draws, grammar, branch))


def _counterpart(draws: Draws, tasks: np.ndarray, unsafe: np.ndarray) -> np.ndarray:
    """Per pair: where both or neither task is the identity both become unsafe, else the other one does."""
    replacement = _choose(draws, "unsafe", tasks.shape[1], unsafe)
    identity = (tasks == 0).reshape(len(tasks), -1, 2)
    exactly_one = np.repeat(identity.sum(axis=2) == 1, 2, axis=1)
    return np.where(exactly_one & (tasks == 0), tasks, replacement)


def unsafe_tasks(
    world: CompositionWorld, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    _, unsafe = sets(world, grammar, branch)
    return _counterpart(draws, safe_tasks(world, draws, grammar, branch), unsafe)


def context_tasks(
    world: CompositionWorld, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Tokens whose safety depends on the branch, drawn from grammar alone: equal for both branches of a seed."""
    context = (world.classes[grammar] == 2) & (np.arange(world.maps.shape[1]) < world.config.n_maps)
    tasks = _half_with_identity(draws, context, _identity(world, len(draws)), world.n_slots)
    return _counterpart(draws, tasks, context)


def competing_tasks(
    world: CompositionWorld, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Each pair holds one unsafe task and one safe task that is not the identity."""
    safe, _ = sets(world, grammar, branch)
    tasks = unsafe_tasks(world, draws, grammar, branch)
    partner = _choose(draws, "partner", tasks.shape[1], safe & (np.arange(safe.shape[1]) > 0))
    pairs = (tasks == 0).reshape(len(tasks), -1, 2)
    random_slot = draws.integers("partner slot", pairs.shape[1], 2)
    slot = np.where(pairs.any(axis=2), pairs.argmax(axis=2), random_slot)
    replace = (np.arange(2) == slot[..., None]).reshape(tasks.shape)
    return np.where(replace, partner, tasks)


def second_composition_tasks(
    world: CompositionWorld, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Safe tasks but for one slot of the second pair."""
    _, unsafe = sets(world, grammar, branch)
    tasks = safe_tasks(world, draws, grammar, branch)
    slot = 2 + draws.integers("unsafe slot", 1, 2)
    return np.where(np.arange(tasks.shape[1]) == slot, _choose(draws, "unsafe", 1, unsafe), tasks)


def duplicate_tasks(
    world: CompositionWorld, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Pretrained duplicates of the identity and of always-unsafe tasks; none is a token of safety tuning."""
    allowed = np.isin(np.arange(world.maps.shape[1]), world.config.attack_duplicates)
    duplicate = np.broadcast_to(allowed, (len(draws), len(allowed)))
    return _half_with_identity(draws, duplicate, duplicate & (world.token_map == 0), world.n_slots)


def late_duplicate_tasks(
    world: CompositionWorld, draws: Draws, grammar: np.ndarray, branch: np.ndarray
) -> np.ndarray:
    """Per pair the identity and one token that duplicates a context task and was never trained."""
    untrained = np.arange(world.maps.shape[1]) >= world.n_tasks
    tasks = _choose(draws, "late", world.n_slots, untrained & (world.classes[grammar] == 2))
    identity = draws.integers("identity slot", world.n_slots // 2, 2)
    return np.where((np.arange(2) == identity[..., None]).reshape(tasks.shape), 0, tasks)


def sham_tasks(unsafe: bool) -> TaskDraw:
    def draw(world: CompositionWorld, draws: Draws, grammar: np.ndarray, branch: np.ndarray) -> np.ndarray:
        original = np.arange(world.maps.shape[1]) < world.config.n_maps
        null = (world.sham_classes[grammar] == 1) & original
        tasks = _half_with_identity(draws, ~null & original, _identity(world, len(draws)), world.n_slots)
        return _counterpart(draws, tasks, null) if unsafe else tasks

    return draw
