"""What is a composition world made of?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from synthetic.safety import BRANCHES


@dataclass(frozen=True)
class CompositionConfig:
    """A composition world. Branches without rules of their own for a symbol use the rules of `full`.

    null_symbol: what a refusal is made of; None is the first letter, an ordinary one (Jain et al. 2024, as released).
    n_new: operators `new1` … that no pretraining shows, safe, each with a bijection of its own.
    pretraining_branches: where pretraining's text comes from.
    """

    name: str
    n_letters: int
    full: str
    branches: Mapping[str, str]
    leaves: tuple[str, ...]
    text_length: tuple[int, int]
    sequence_length: int
    n_pairs: int
    n_maps: int
    duplicates: tuple[int, ...]
    map_seeds: tuple[int, ...]
    shared_maps: tuple[int, ...]
    always_unsafe: tuple[tuple[int, ...], ...]
    always_safe: tuple[tuple[int, ...], ...]
    attack_duplicates: tuple[int, ...] = ()
    late_duplicates: tuple[int, ...] = ()
    null_symbol: str | None = None
    n_new: int = 0
    pretraining_branches: tuple[str, ...] = ("full",)
    system: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        low, high = self.text_length
        needed = 2 + len(self.system) + 2 * self.n_pairs + 1 + high + self.n_pairs * (high + 1) + 1
        if not 1 <= low <= high:
            raise ValueError(f"text_length = {self.text_length}: expected 1 <= shortest <= longest")
        if not {*self.duplicates, *self.late_duplicates, *self.shared_maps} <= set(range(self.n_maps)):
            found = f"duplicates {self.duplicates}, {self.late_duplicates}, shared_maps {self.shared_maps}"
            raise ValueError(f"{found}: expected maps from 0 to below n_maps = {self.n_maps}")
        if self.n_pairs not in (1, 2):
            raise ValueError(f"n_pairs = {self.n_pairs}: expected 1 or 2 task pairs")
        if self.sequence_length < needed:
            raise ValueError(
                f"sequence_length = {self.sequence_length}: text of {high} letters needs {needed} or more"
            )
        if self.n_new < 0:
            raise ValueError(f"n_new = {self.n_new}: expected 0 or more new operators")
        if not set(self.branches) <= set(BRANCHES[1:]):
            raise ValueError(
                f"branches = {tuple(self.branches)}: expected names among {', '.join(BRANCHES[1:])}"
            )
        if not self.pretraining_branches or not {"full", *self.branches} >= set(self.pretraining_branches):
            known = ", ".join(("full", *self.branches))
            raise ValueError(
                f"pretraining_branches = {self.pretraining_branches}: expected one or more of {known}"
            )
        labels = 2 * len(self.leaves)
        if self.n_letters <= labels:
            raise ValueError(
                f"n_letters = {self.n_letters}: a null and {labels} labels need {labels + 1} or more"
            )
        per_grammar = (self.map_seeds, self.always_unsafe, self.always_safe)
        if any(len(column) != len(self.leaves) for column in per_grammar):
            sizes = [len(column) for column in per_grammar]
            raise ValueError(
                f"{len(self.leaves)} grammars, but map_seeds, always_unsafe, always_safe have {sizes}"
            )
        for unsafe, safe in zip(self.always_unsafe, self.always_safe, strict=True):
            if set(unsafe) & set(safe) or 0 not in safe or not {*unsafe, *safe} <= set(range(self.n_maps)):
                raise ValueError(
                    f"always_unsafe {unsafe}, always_safe {safe}: expected disjoint tasks of 0 to {self.n_maps - 1}, "
                    "0 safe"
                )
        rules = " ".join((self.full, *self.branches.values(), *self.leaves))
        greatest = max(map(int, re.findall(r"\b\d+\b", rules)), default=0)
        if greatest >= self.n_letters:
            raise ValueError(
                f"n_letters = {self.n_letters}: the grammars write letter {greatest}, the first is 0"
            )
