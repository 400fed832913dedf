"""Prompts of a job on language models: loading, selection and digests."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

from makebreak.configs import check_positive
from makebreak.prompts import evaluation_prompts, read_prompts, read_prompts_with_targets
from makebreak.settings import GoalSettings, PromptSettings

FAMILIES = ("harmful", "harmless", "borderline")
"""Families of prompts, in the order of the tables; `borderline` may be missing."""
Item = TypeVar("Item")


def load_prompts(settings: PromptSettings, max_per_family: int | None = None) -> dict[str, list[str]]:
    """Prompts by family: makebreak's own, or those of a file, completed with our harmless ones.

    Args:
        settings: The file, and its column of harmful prompts.
        max_per_family: Largest number of prompts per family, evenly spaced; None for all.

    Returns:
        The families `harmful` and `harmless`, and `borderline` if there are such prompts.

    Raises:
        ValueError: If the file cannot be read, or has no harmful prompts.
    """
    prompts = evaluation_prompts()
    if settings.file is not None:
        prompts = {
            "harmful": read_prompts(settings.file, settings.column or "harmful"),
            "harmless": prompts["harmless"],
        }
        for family in ("harmless", "borderline"):
            with contextlib.suppress(ValueError):  # the file has no such column
                prompts[family] = read_prompts(settings.file, family)
    if max_per_family is None:
        return prompts
    return {family: evenly_spaced(texts, max_per_family) for family, texts in prompts.items()}


def load_attack_prompts(settings: PromptSettings, goals: GoalSettings) -> tuple[list[str], list[str]]:
    """Harmful prompts, evenly spaced, and the target of an attack on each.

    Args:
        settings: The file, and its column of harmful prompts.
        goals: Number of prompts, the column of targets, and the target of prompts that have none there.

    Returns:
        Prompts and targets, in the same order.

    Raises:
        ValueError: If a column of targets is named without a file, or the file cannot be read.
    """
    if settings.file is not None:
        pairs = read_prompts_with_targets(settings.file, settings.column, goals.target_column)
    elif goals.target_column is not None:
        raise ValueError(
            f"--target-column {goals.target_column}: makebreak's own prompts have no targets; give --prompts"
        )
    else:
        pairs = [(prompt, "") for prompt in evaluation_prompts()["harmful"]]
    pairs = evenly_spaced(pairs, goals.requests)
    return [prompt for prompt, _ in pairs], [target or goals.target for _, target in pairs]


def evenly_spaced(items: Sequence[Item], n: int) -> list[Item]:
    """Returns at most `n` items at even distances, the first among them; raises ValueError for n < 1."""
    check_positive(requests=n)
    n = min(n, len(items))
    return [items[i * len(items) // n] for i in range(n)]


def prompts_digest(prompts: Mapping[str, Sequence[str]]) -> str:
    """SHA-256 of prompts and their families, independent of the order of the families."""
    lines = [f"{family}:{prompt}" for family, texts in sorted(prompts.items()) for prompt in texts]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
