"""Prompts of a job on language models: loading, selection and digests."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from makebreak.configs import check_positive
from makebreak.prompts import (
    ReadOptions,
    canonical_text,
    evaluation_prompts,
    read_examples,
    read_families,
    read_prompts_with_targets,
)
from makebreak.settings import GoalSettings, PromptSettings

FAMILIES = ("harmful", "harmless", "borderline")
"""Families of prompts, in the order of the tables; `borderline` may be missing."""
Item = TypeVar("Item")
_FAMILY_NAME = re.compile(r"[A-Za-z][\w ,@]*")  # no colon, which ends the name, and no bracket of JSON
_SHOWN = 40  # characters of a prompt that an error shows


def load_prompts(
    settings: PromptSettings,
    max_per_family: int | None = None,
    *,
    log: Callable[[str], None] = lambda _: None,
) -> dict[str, list[str]]:
    """Prompts by family: makebreak's own, or those of a file, completed with our harmless ones.

    Args:
        settings: The file, and its column of harmful prompts.
        max_per_family: Largest number of prompts per family, evenly spaced; None for all.
        log: Called with a line about what was read as prompts, and if duplicates are left out.

    Returns:
        The families `harmful` and `harmless`, and `borderline` if there are such prompts; no text twice.

    Raises:
        ValueError: If the file cannot be read, has no harmful prompts, or has a text in two families.
    """
    prompts = evaluation_prompts()
    if settings.file is not None:
        harmful = (settings.column or "").casefold()
        others = {family: family for family in FAMILIES[1:] if family != harmful}
        families = read_families(
            settings.file,
            {"harmful": settings.column, **others},
            {"harmless": prompts["harmless"]},
            _read_options(settings, log),
        )
        prompts = families.prompts
        _log_duplicates(log, settings.file, families.n_duplicates)
    if max_per_family is None:
        return prompts
    return {family: evenly_spaced(texts, max_per_family) for family, texts in prompts.items()}


def load_attack_prompts(
    settings: PromptSettings, goals: GoalSettings, *, log: Callable[[str], None] = lambda _: None
) -> tuple[list[str], list[str]]:
    """Harmful prompts, evenly spaced, and the target of an attack on each.

    Args:
        settings: The file, and its column of harmful prompts.
        goals: Number of prompts, the column of targets, and the target of prompts that have none there.
        log: Called with a line about what was read as prompts, and if duplicates are left out.

    Returns:
        Prompts and targets, in the same order; no prompt twice.

    Raises:
        ValueError: If a column of targets is named without a file, the file cannot be read, or a prompt has
            two targets.
    """
    if settings.file is not None:
        rows = read_prompts_with_targets(
            settings.file, settings.column, goals.target_column, options=_read_options(settings, log)
        )
        pairs = _distinct_pairs(settings.file, rows)
        _log_duplicates(log, settings.file, {"harmful": len(rows) - len(pairs)})
    elif goals.target_column is not None:
        raise ValueError(
            f"--target-column {goals.target_column}: makebreak's own prompts have no targets; give --prompts"
        )
    else:
        pairs = [(prompt, "") for prompt in evaluation_prompts()["harmful"]]
    pairs = evenly_spaced(pairs, goals.requests)
    return [prompt for prompt, _ in pairs], [target or goals.target for _, target in pairs]


def load_examples(file: Path, *, log: Callable[[str], None] = lambda _: None) -> list[tuple[str, str]]:
    """A user's prompts with answers to train on, without repetitions.

    Args:
        file: A file or data set with the columns `prompt` and `answer`.
        log: Called with a line if duplicates of the file are left out.

    Returns:
        (prompt, answer) pairs, no pair twice.

    Raises:
        ValueError: If the file cannot be read, or a row has no prompt or no answer.
    """
    rows = read_examples(file)
    distinct: dict[tuple[str, str], tuple[str, str]] = {}
    for prompt, answer in rows:
        distinct.setdefault((canonical_text(prompt), canonical_text(answer)), (prompt, answer))
    pairs = list(distinct.values())
    _log_duplicates(log, file, {"training": len(rows) - len(pairs)})
    return pairs


def check_distinct(prompts: Mapping[str, Sequence[str]]) -> None:
    """Raises ValueError if two prompts are one text: it would be both fitted on and scored."""
    places: dict[str, str] = {}
    for family, texts in prompts.items():
        for text in texts:
            other = places.get(canonical_text(text))
            if other is not None:
                raise ValueError(
                    f"{text[:_SHOWN]!r} is among the {family} and again among the {other} requests: expected "
                    "every text once"
                )
            places[canonical_text(text)] = family


def _read_options(settings: PromptSettings, log: Callable[[str], None]) -> ReadOptions:
    return ReadOptions(settings.encoding, settings.turns, log)


def _distinct_pairs(file: Path, rows: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """(prompt, target) pairs, the first of every prompt."""
    pairs: dict[str, tuple[str, str]] = {}
    for prompt, target in rows:
        _, first = pairs.setdefault(canonical_text(prompt), (prompt, target))
        if first != target:
            raise ValueError(
                f"{file}: {prompt[:_SHOWN]!r} has the targets {first[:_SHOWN]!r} and {target[:_SHOWN]!r}: "
                "expected one target a request"
            )
    return list(pairs.values())


def _log_duplicates(log: Callable[[str], None], file: Path, n_duplicates: Mapping[str, int]) -> None:
    counts = [f"{n} {family}" for family, n in n_duplicates.items() if n]
    if counts:
        log(f"{file}: {', '.join(counts)} duplicates left out")


def evenly_spaced(items: Sequence[Item], n: int) -> list[Item]:
    """Returns at most `n` items at even distances, the first among them; raises ValueError for n < 1."""
    check_positive(requests=n)
    n = min(n, len(items))
    return [items[i * len(items) // n] for i in range(n)]


def prompts_digest(prompts: Mapping[str, Sequence[str]]) -> str:
    """SHA-256 of prompts and their families, independent of the order of the families.

    Prompts of one line each are hashed as lines FAMILY:PROMPT, which no other prompts have, and all others as
    JSON.
    """
    families = sorted(prompts.items())
    lines = [f"{family}:{prompt}" for family, texts in families for prompt in texts]
    has_own_lines = all(texts for _, texts in families) and not any("\n" in line for line in lines)
    if has_own_lines and all(_FAMILY_NAME.fullmatch(family) for family, _ in families):
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return hashlib.sha256(json.dumps([[family, *texts] for family, texts in families]).encode()).hexdigest()
