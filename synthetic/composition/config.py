"""Configuration of a composition world."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

BRANCHES = ("full", "safe", "unsafe", "unsafe_long", "heldout", "mixed", "unsafe_skewed")
"""Names of the branches of a grammar, which are the concepts of its texts."""


@dataclass(frozen=True)
class CompositionConfig:
    """Settings of a composition world; field names are part of its fingerprint."""

    name: str
    """Name of the world."""
    n_letters: int
    """Number of letters."""
    full: str
    """Rules of the full grammar down to the level above the leaves, which all grammars of the world share."""
    branches: Mapping[str, str]
    """Rules of each branch, by name; symbols without rules of their own use the rules of `full`."""
    leaves: tuple[str, ...]
    """Rules that yield letters, one string per grammar."""
    text_length: tuple[int, int]
    """Fewest and most letters of a text."""
    sequence_length: int
    """Tokens of a whole sequence."""
    n_pairs: int
    """Task pairs of a request, 1 or 2."""
    n_maps: int
    """Distinct bijections that pretraining shows; map 0 is the identity."""
    duplicates: tuple[int, ...]
    """Maps of the further task tokens that pretraining shows, each a duplicate of an original task."""
    map_seeds: tuple[int, ...]
    """Seed of each grammar's bijections."""
    shared_maps: tuple[int, ...]
    """Maps that all grammars share."""
    always_unsafe: tuple[tuple[int, ...], ...]
    """Maps that are unsafe on all branches, by grammar."""
    always_safe: tuple[tuple[int, ...], ...]
    """Maps that are safe on all branches, by grammar; the identity is among them."""
    attack_duplicates: tuple[int, ...] = ()
    """Task tokens of the family `duplicate_tasks`; safety fine-tuning shows none of them."""
    late_duplicates: tuple[int, ...] = ()
    """Maps of the task tokens that no training shows, duplicates of original tasks."""
    null_symbol: str | None = None
    """Symbol that refusals consist of; None for the first letter (released code of Jain et al. 2024)."""
    n_new: int = 0
    """Operators `new1`, `new2` ... that pretraining does not show; safe, each with a bijection of its own."""
    pretraining_branches: tuple[str, ...] = ("full",)
    """Branches that pretraining's texts come from."""
    system: tuple[str, ...] = ()
    """Symbols of the system span; empty for a world without one."""

    def __post_init__(self) -> None:
        self._check_lengths()
        self._check_tasks()
        self._check_branches()
        self._check_grammars()

    def _check_lengths(self) -> None:
        shortest, longest = self.text_length
        if not 1 <= shortest <= longest:
            raise ValueError(f"text_length = {self.text_length}: expected 1 <= shortest <= longest")
        if self.n_pairs not in (1, 2):
            raise ValueError(f"n_pairs = {self.n_pairs}: expected 1 or 2 task pairs")
        prompt = 2 + len(self.system) + 2 * self.n_pairs + 1 + longest
        needed = prompt + self.n_pairs * (longest + 1) + 1
        if self.sequence_length < needed:
            raise ValueError(
                f"sequence_length = {self.sequence_length}: text of {longest} letters needs {needed} or more"
            )

    def _check_tasks(self) -> None:
        if not {*self.duplicates, *self.late_duplicates, *self.shared_maps} <= set(range(self.n_maps)):
            values = f"duplicates {self.duplicates}, {self.late_duplicates}, shared_maps {self.shared_maps}"
            raise ValueError(f"{values}: expected maps from 0 to below n_maps = {self.n_maps}")
        if self.n_new < 0:
            raise ValueError(f"n_new = {self.n_new}: expected 0 or more new operators")

    def _check_branches(self) -> None:
        if not set(self.branches) <= set(BRANCHES[1:]):
            raise ValueError(
                f"branches = {tuple(self.branches)}: expected names among {', '.join(BRANCHES[1:])}"
            )
        if not self.pretraining_branches or not {"full", *self.branches} >= set(self.pretraining_branches):
            known = ", ".join(("full", *self.branches))
            raise ValueError(
                f"pretraining_branches = {self.pretraining_branches}: expected one or more of {known}"
            )

    def _check_grammars(self) -> None:
        labels = 2 * len(self.leaves)
        if self.n_letters <= labels:
            raise ValueError(
                f"n_letters = {self.n_letters}: a null and {labels} labels need {labels + 1} or more"
            )
        sizes = [len(column) for column in (self.map_seeds, self.always_unsafe, self.always_safe)]
        if any(size != len(self.leaves) for size in sizes):
            raise ValueError(
                f"{len(self.leaves)} grammars, but map_seeds, always_unsafe, always_safe have {sizes}"
            )
        if not all(0 <= seed < 2**32 for seed in self.map_seeds):
            raise ValueError(f"map_seeds = {self.map_seeds}: expected integers from 0 to {2**32 - 1}")
        for unsafe, safe in zip(self.always_unsafe, self.always_safe, strict=True):
            if set(unsafe) & set(safe) or 0 not in safe or not {*unsafe, *safe} <= set(range(self.n_maps)):
                raise ValueError(
                    f"always_unsafe {unsafe}, always_safe {safe}: expected disjoint tasks of 0 to "
                    f"{self.n_maps - 1}, 0 safe"
                )
        rules = " ".join((self.full, *self.branches.values(), *self.leaves))
        greatest = max(map(int, re.findall(r"\b\d+\b", rules)), default=0)
        if greatest >= self.n_letters:
            raise ValueError(
                f"n_letters = {self.n_letters}: the grammars write letter {greatest}, the first is 0"
            )
