"""The world of Jain et al. (2024): safety is a property of the task *and* the concept of a request.

A prompt is a row of task tokens and a text. The text comes from one of several grammars, and within the
grammar from a branch (its concept); each task token is a bijection of letters. A task is unsafe always,
never, or only on text of the unsafe branch, depending on the grammar. To an unsafe request a model shall
answer with the null letter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property

import numpy as np

from synthetic.composition.config import BRANCHES
from synthetic.composition.drawing import COLUMNS, draw_columns, is_acceptable
from synthetic.composition.encoding import encode_requests
from synthetic.composition.families import CompositionFamily, families_of
from synthetic.composition.safety import REASONS
from synthetic.composition.tables import CompositionTables
from synthetic.draws import Draws
from synthetic.sampling import check_sample_arguments, is_in_split, rejection_sample
from synthetic.types import Requests, judge_segment, key_fields, show_requests


class CompositionWorld(CompositionTables):
    """A world (see `synthetic.World`) of task tokens and texts from grammars."""

    columns: Mapping[str, str] = COLUMNS
    """Description of each column of `Requests.truth`, by name."""

    @property
    def fingerprint(self) -> str:
        """A hash of all that the world is made of, for keys of results."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        tables = [table.tolist() for table in (self.maps, self.safety_classes, self.sham_classes)]
        content = json.dumps([key_fields(self.config), tables], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def families(self) -> Mapping[str, str]:
        """Description of each family that this world has, by name; second composition needs two pairs.

        In a world with a system span half of pretraining has the span, every other family has it, and each
        family exists without it too.
        """
        return {name: family.description for name, family in self._families.items()}

    @cached_property
    def _families(self) -> dict[str, CompositionFamily]:
        return families_of(self.config)

    def sample(self, family: str, n: int, *, seed: int, start: int = 0, split: str = "train") -> Requests:
        """Requests `start` ... `start + n - 1` of a seed, the same whatever the batch size.

        A draw is repeated, for that request alone, if its text is of another split, if its correct answer is
        all null, or if its remapped answer is the true one.

        Args:
            family: One of `families`.
            n: Number of requests.
            seed: Seed of the requests.
            start: Index of the first request.
            split: `train` (90 % of texts), `fit`, `score` (5 % each, by a stable hash of grammar and text) or
                `any`.

        Returns:
            The requests.

        Raises:
            ValueError: If the family or split is unknown, or no draw is acceptable.
        """
        check_sample_arguments(self.config.name, self.families, family=family, n=n, split=split)
        spec, index = self._families[family], np.arange(start, start + n)

        def draw(missing: np.ndarray, attempt_range: range) -> tuple[dict[str, np.ndarray], np.ndarray]:
            draws = Draws.for_attempts(seed, index[missing], attempt_range)
            first = Draws(seed, index[missing])[np.tile(np.arange(len(missing)), len(attempt_range))]
            columns = draw_columns(self, spec, draws, first if spec.redraws_text_only else draws)
            in_split = is_in_split(split, columns["grammar"], columns["text"])
            return columns, in_split & is_acceptable(self, spec, columns)

        truth = rejection_sample(n, draw, family=family, split=split)
        has_system = self._has_system(spec, Draws(seed, index))
        return encode_requests(self, family, seed, truth, family=spec, has_system=has_system)

    def _has_system(self, family: CompositionFamily, draws: Draws) -> np.ndarray:
        """Whether each request has the system span, (n,)."""
        if not self.config.system or not family.has_system:
            return np.zeros(len(draws), dtype=bool)
        if family.unsafe is None:  # pretraining
            return draws.integers("system", 1, 2)[:, 0] > 0
        return np.ones(len(draws), dtype=bool)

    def judge(self, requests: Requests, outputs: np.ndarray) -> np.ndarray:
        """`Outcome` of each generated answer, (n,), from (n, at least judged stop) token ids."""
        is_letter = np.zeros(len(self.vocabulary), dtype=bool)
        is_letter[self.letter_ids] = True
        stop_id = self.vocabulary.id("<stop>")
        return judge_segment(requests, outputs, null_id=self.null_id, stop_id=stop_id, is_letter=is_letter)

    def groups(self, requests: Requests) -> np.ndarray:
        """Index of each request's grammar, (n,) integers."""
        return requests.truth["grammar"]

    def text_ids(self, requests: Requests) -> np.ndarray:
        """Letters of each request's text, (n, longest text), -1 beyond its end."""
        return requests.truth["text"]

    def show(self, requests: Requests, limit: int = 8) -> str:
        """The first `limit` requests as readable lines: truth, prompt and the two reference answers."""
        descriptions = []
        for i in range(min(limit, len(requests))):
            truth = {name: column[i] for name, column in requests.truth.items()}
            unsafe_tasks = [
                f"{self.vocabulary.symbols[self.task_ids[task]]} {REASONS[reason]}"
                for task, reason in zip(truth["tasks"], truth["reason"], strict=True)
                if reason
            ]
            descriptions.append(
                f"grammar {truth['grammar'] + 1}, {BRANCHES[truth['branch']]} text; "
                f"{', '.join(unsafe_tasks) or 'no unsafe task'}"
            )
        return show_requests(requests, self.vocabulary, descriptions)
