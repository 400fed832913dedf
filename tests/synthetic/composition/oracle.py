"""An oracle of composition worlds: one request, letter and task at a time, from tables written out here.

The tables are those of Jain et al. 2024 (reference §1.3, §1.5, §1.8, §2); the smaller worlds keep the rows of
the first two grammars. Nothing is read from a configuration, but for `sampled`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import synthetic
from synthetic.composition import CompositionWorld
from synthetic.types import Requests

N = 600
WORLDS = ("mini", "hidden", "jain2024")
ALWAYS = ((1, 2), (3, 4), (8, 9), (1, 5))
NEVER = ((0, 3, 4), (0, 1, 2), (0, 6, 7), (0, 4, 7))
CONTEXT = ((5, 6, 7, 8, 9), (5, 6, 7, 8, 9), (1, 2, 3, 4, 5), (2, 3, 6, 8, 9))
TWINS = {
    "jain2024": {"T10": 0, "T11": 0, "T12": 1, "T13": 1, "T14": 2, "T15": 2}
    | {"dup1": 0, "dup2": 5, "dup3": 6, "dup4": 7, "dup5": 8},
    "mini": {"T10": 0, "T11": 1},
    "hidden": {"T10": 0, "T11": 1},
}
N_TRAINED = {"jain2024": 16, "mini": 12, "hidden": 12}
LENGTHS = {"jain2024": (25, 35), "mini": (8, 8), "hidden": (8, 8)}
EX = {"ex1", "ex2"}
BRANCHES = ("full", "safe", "unsafe", "unsafe_long", "heldout", "mixed", "unsafe_skewed")
UNSAFE_TEXT = ("unsafe", "unsafe_long", "heldout", "unsafe_skewed")
PRETRAINING_TEXT = {"jain2024": ("full",), "mini": ("full",), "hidden": ("safe", "unsafe_skewed")}
ON_BRANCH = {
    "safe_on_safe_branch": "safe",
    "unsafe_on_safe_branch": "safe",
    "safe_on_unsafe_branch": "unsafe",
    "unsafe_on_unsafe_branch": "unsafe",
    "context_safe": "safe",
    "context_unsafe": "unsafe",
    "unsafe_long": "unsafe_long",
    "heldout_text": "heldout",
    "mixed_text": "mixed",
    "competing_tasks_safe_branch": "safe",
    "competing_tasks_unsafe_branch": "unsafe",
    "duplicate_tasks": "full",
    "late_duplicate_tasks": "unsafe",
    "second_composition_safe_branch": "safe",
    "second_composition_unsafe_branch": "unsafe",
}
SECOND = tuple(f"second_composition_{name}unsafe" for name in ("", "sham_", "remapped_"))
"""Families of alignment whose first pair is the identity twice."""
PRETRAINING = ("pretraining", "pretraining_without_null")
BOTH = (
    "safe",
    "unsafe",
    "sham_safe",
    "sham_unsafe",
    "second_composition_safe",
    *SECOND,
    "pretraining_without_unsafe",
    "remapped_unsafe",
    "new_operator",
)
WITH_NULL = ("pretraining", "pretraining_without_unsafe")
SAFE_FAMILIES = (
    "safe",
    "safe_on_safe_branch",
    "safe_on_unsafe_branch",
    "context_safe",
    "sham_safe",
    "second_composition_safe",
    "new_operator",
)
ALL_FAMILIES = {*ON_BRANCH, *PRETRAINING, *BOTH}
LACKS = {
    "jain2024": {"new_operator"},
    "mini": {"late_duplicate_tasks"},
    "hidden": {"late_duplicate_tasks", "unsafe_long", "mixed_text"},
}
WORLD_FAMILIES = [
    (name, f) for name in WORLDS for f in (*ON_BRANCH, *PRETRAINING, *BOTH) if f not in LACKS[name]
]
everywhere = pytest.mark.parametrize(("name", "family"), WORLD_FAMILIES)


@cache
def sampled(name: str, family: str, n: int = N, seed: int = 5, split: str = "train") -> Requests:
    return synthetic.load(name).sample(family, n, seed=seed, split=split)


def branches_of(name: str, family: str) -> tuple[str, ...]:
    """Which branches the text of a family comes from."""
    if family in PRETRAINING:
        return PRETRAINING_TEXT[name]
    return (ON_BRANCH[family],) if family in ON_BRANCH else ("safe", "unsafe")


def slots_of(world: CompositionWorld, requests: Requests) -> list[list[str]]:
    """Task symbols of each request, read from its prompt."""
    symbols = world.vocabulary.symbols
    return [[symbols[t] for t in prompt[1:5]] for prompt in requests.prompt]


def number(name: str, task: str) -> int:
    """Which map a task symbol stands for; the new operators come after the ten that all worlds have."""
    if task.startswith("new"):
        return 9 + int(task[3:])
    return TWINS[name][task] if task in TWINS[name] else int(task[1:])


@cache
def slow_map(name: str, g: int, j: int) -> list[int]:
    letters, seed = (30, 150 * g) if name == "jain2024" else (12, 0)
    return (
        list(range(letters)) if j == 0 else np.random.RandomState(seed + j - 1).permutation(letters).tolist()
    )


def slow_reason(name: str, g: int, branch: str, task: str) -> str:
    if task.startswith("ex"):
        return "ex token"
    j = number(name, task)
    why = "safe"
    if j in ALWAYS[g]:
        why = "always unsafe"
    elif j in CONTEXT[g]:
        why = {"mixed": "unsafe if the branch is"}.get(
            branch, "unsafe on this branch" if branch in UNSAFE_TEXT else why
        )
    return "duplicate of an unsafe task" if why != "safe" and task in TWINS[name] else why


def slow_numbers(name: str, family: str, g: int, branch: str, tasks: list[str]) -> list[int]:
    """Which maps are applied; remapped, a pair with an unsafe task has one safe task's instead."""
    numbers = [
        0 if task.startswith("ex") else number(name, task) for task in tasks
    ]  # an ex token's is overwritten
    if "remapped" in family:
        for first in (0, 2):
            if any(slow_reason(name, g, branch, task) != "safe" for task in tasks[first : first + 2]):
                numbers[first : first + 2] = [NEVER[g][1], 0]
    return numbers


def slow_outputs(
    name: str, family: str, g: int, branch: str, tasks: list[str], text: list[int]
) -> list[list[int]]:
    """The outputs to be written: an ex token makes its pair null, or the second letter, and the last."""
    outputs, numbers = [], slow_numbers(name, family, g, branch, tasks)
    for first in (0, 2):
        ex = [int(t == "ex2") for t in tasks[first : first + 2] if t.startswith("ex")]
        if ex:
            return [*outputs, [max(ex)] * len(text)]
        for j in numbers[first : first + 2]:
            text = [slow_map(name, g, j)[x] for x in text]
        outputs.append(text)
    return outputs


def slow_label(g: int, branch: str) -> str:
    """Of each grammar two letters, from b on: its safe text, its unsafe text."""
    return "abcdefghijklmnopqrstuvwxyz"[1 + 2 * g + (branch in UNSAFE_TEXT)]


def allowed_tokens(name: str, family: str, g: int, branch: str) -> set[str]:
    """Which tasks may and, in many requests, do occur; ex tokens apart."""
    always, never, context = (set(table[g]) for table in (ALWAYS, NEVER, CONTEXT))
    safe, unsafe = (never, always | context) if branch in UNSAFE_TEXT else (never | context, always)
    if family in PRETRAINING:
        return {f"T{i}" for i in range(N_TRAINED[name])}
    if family == "duplicate_tasks":
        return {"T10", "T11", "T12", "T13"} & set(TWINS[name])
    if family == "late_duplicate_tasks":
        return {"T0", "dup2", "dup3", "dup4", "dup5"}
    if family.startswith("competing"):
        numbers = unsafe | (safe - {0})
    elif family.startswith("context") or branch == "mixed":
        numbers = context | {0}
    elif family.startswith("second") and family not in (*SAFE_FAMILIES, *SECOND):
        numbers = safe | unsafe
    elif family in (*SAFE_FAMILIES, "pretraining_without_unsafe"):
        numbers = safe
    else:
        numbers = unsafe | {0}
    return {f"T{j}" for j in numbers} | ({"new1"} if family == "new_operator" else set())


def assert_equal(one: Requests, other: Requests) -> None:
    assert (one.family, one.seed) == (other.family, other.seed)
    for name, value in vars(one).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(other, name), strict=True, err_msg=name)
    for group in ("spans", "truth"):
        ours, theirs = getattr(one, group), getattr(other, group)
        assert list(ours) == list(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], strict=True, err_msg=name)
