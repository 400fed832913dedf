"""Answers of a language model to attacked requests: their losses, topics and monitors, one row each."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from makebreak.attacks import (
    Attack,
    AttackResult,
    JailbreakTemplate,
    Prefill,
    Progress,
    Universal,
    score_attack,
    supported_arguments,
)
from makebreak.evaluation import AnswerCheckpoint, ChatTarget, Target, target_nll
from makebreak.lm.monitoring import ReferenceMonitors
from makebreak.prompts import Requests, TextRequests
from makebreak.revisions import cache_revision
from makebreak.tables import Rows, as_dict, as_dicts

SEARCH_FOLDER = "search"
"""Folder within that of a step for the state of a search."""
NO_ATTACK = "no attack"
"""Name of the control without an attack."""
N_TOPIC_CONTROLS = 3
"""Other requests that an answer is compared with; by chance, one in `N_TOPIC_CONTROLS` + 1 is on topic."""


class AttackedAnswerRow(NamedTuple):
    """Greedy answer of the model to one request under one attack."""

    method: str
    """Registered name of the attack, or MODULE:CLASS; `no_attack` without one."""
    attack: str
    """Name of the attack, with its size if there are several."""
    is_control: bool
    """Whether it is a control of other attacks."""
    request: str
    """The request before the attack."""
    answer: str
    """The answer's text, forced tokens included."""
    log_odds: float | None
    """Log-odds that a refusal begins after the prompt, in nats; None behind reasoning that does not end."""
    degenerate: bool
    """Whether the answer is empty or repetitive."""
    target: str | None
    """Text that the attack makes the answer begin with; None for harmless requests."""
    on_topic: bool | None
    """Whether the answer is likelier after its own request than after others; None if that is unknown."""
    loss: float | None
    """Negative log-likelihood per token of the rest of the target, in nats; None if nothing is left."""
    exact_match: bool | None
    """Whether the answer begins with what is left of the target; None if nothing is left."""
    attack_text: str = ""
    """Text of the adversarial tokens; for a jailbreak template, the whole prompt."""
    retokenization_stable: bool | None = None
    """Whether the attacked text, in the prompt template, encodes to the same tokens; None if the attack gives
    neither this column nor the positions of its tokens."""
    n_candidates: int | None = None
    """Candidates that were evaluated for the request; None for attacks without a search."""
    stable_candidate_share: float | None = None
    """Share of proposed candidates, over all requests, that were stable; None without a search."""


_ATTACK_COLUMNS = ("attack_text", "retokenization_stable", "n_candidates", "stable_candidate_share")
"""Columns that an attack gives."""


class SearchHistoryRow(NamedTuple):
    """State of a token search after one step."""

    attack: str
    """Name of the search."""
    step: int
    """Number of steps; 0 is the initial tokens."""
    loss: float
    """Best loss of the target so far, mean over requests, in nats per token."""


@dataclass(frozen=True)
class NoAttack:
    """Control without an attack."""

    tag: ClassVar[str] = "NoAttack"
    is_control: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Name of the control in tables."""
        return NO_ATTACK

    def __call__(
        self, target: Target, requests: Requests, *, seed: int, progress: Progress | None = None
    ) -> AttackResult:
        """Returns the requests as they are, with their outcomes."""
        return score_attack(self.name, target, requests, progress=progress)


_WITHOUT_SEARCH = (NoAttack, JailbreakTemplate, Prefill)
"""Attacks whose time goes into the answers, which are kept batch by batch: they
have no state of their own."""


@dataclass(frozen=True)
class AnswerScorer:
    """Attacks a language model and scores its answers."""

    target: ChatTarget
    """The model that is attacked."""
    monitors: ReferenceMonitors | None
    """Monitors of the attacked requests; None for none."""

    @cache_revision(4)
    def step(
        self, method: str, attack: Attack, requests: TextRequests, seed: int, progress: Progress, folder: Path
    ) -> Rows:
        """Attacks requests and scores the answers.

        Args:
            method: Name of the method in the rows.
            attack: The attack.
            requests: The requests.
            seed: Seed of the attack.
            progress: Called with the number of items that are done.
            folder: Folder of the state of a search, which is removed when the search has ended.

        Returns:
            One element: `answers`, one `AttackedAnswerRow` per request with the fields of `MonitorRow` if
            there are monitors, and `history`, the losses of a search.
        """
        state = folder / SEARCH_FOLDER
        arguments = supported_arguments(attack.__call__, {"progress": progress, "folder": state})
        if "folder" in arguments:
            state.mkdir(exist_ok=True)
        with ExitStack() as stack:  # answers are kept until they are scored
            target = self.target
            if isinstance(attack, _WITHOUT_SEARCH):
                target = replace(target, checkpoint=stack.enter_context(AnswerCheckpoint.open(folder)))
            result = attack(target, requests, seed=seed, **arguments)
            given = requests[1::2] if isinstance(attack, Universal) else requests
            if not len(given) == len(result.requests) == len(result.answers):
                raise ValueError(
                    f"attack {attack.name!r} returned {len(result.answers)} answers to "
                    f"{len(result.requests)} requests: expected one for each of {len(given)}; "
                    "return `score_attack(...)`"
                )
            # an attack may have rewritten the texts, which are compared with the answers
            truth = {**result.requests.truth, "request": given.truth["request"]}
            result = replace(result, requests=replace(result.requests, truth=truth))
            is_control = bool(getattr(attack, "is_control", False))
            rows = self.rows(result, method=method, is_control=is_control)
            step = {"answers": rows, "history": list(result.history)}
        shutil.rmtree(state, ignore_errors=True)
        return [step]

    def rows(self, result: AttackResult, **constants: Any) -> Rows:
        """One row per attacked request; `constants` are its fields `method` and `is_control`."""
        requests: Any = result.requests
        with result.attach(self.target.model):
            answers = self.target.describe(requests, result.answers)
            losses, matches = self._score_targets(requests)
            monitored: Rows = [{} for _ in answers]
            if self.monitors is not None:
                monitored = as_dicts(self.monitors.score(requests))
        on_topic = self._on_topic(requests.truth["request"].tolist(), result.answers)
        targets = requests.truth.get("target", np.full(len(answers), None)).tolist()
        columns = {name: values for name, values in result.columns.items() if name in _ATTACK_COLUMNS}
        if result.positions is not None:
            columns |= self._texts(requests, result.positions)
        rows = []
        for i, answer in enumerate(answers):
            row = AttackedAnswerRow(
                attack=result.name,
                **constants,
                **answer,
                target=targets[i],
                on_topic=on_topic[i],
                loss=losses[i],
                exact_match=matches[i],
                **{name: values[i] for name, values in columns.items()},
            )
            rows.append(as_dict(row) | monitored[i])
        return rows

    def _score_targets(self, requests: Requests) -> tuple[list[float | None], list[bool | None]]:
        """Loss and exact match of what is left of each target, None where nothing is left."""
        losses: list[float | None] = [None] * len(requests)
        matches: list[bool | None] = [None] * len(requests)
        remaining = np.flatnonzero(requests.judged[:, 1] > 0)
        if len(remaining):
            scores = target_nll(self.target.model, requests[remaining], "instructed")
            for i, loss, match in zip(
                remaining.tolist(), scores.nll.tolist(), scores.exact_match.tolist(), strict=True
            ):
                losses[i], matches[i] = loss, match
        return losses, matches

    def _on_topic(self, texts: Sequence[str], answers: Sequence[str]) -> list[bool | None]:
        """Whether each answer is likelier after its own request than after `N_TOPIC_CONTROLS` others.

        All are asked without an attack. None for an empty answer, and for all if there are too few requests.
        """
        on_topic: list[bool | None] = [None] * len(answers)
        nonempty = [i for i, answer in enumerate(answers) if answer.strip()]
        if not nonempty or len(set(texts)) <= N_TOPIC_CONTROLS:
            return on_topic
        targets = [answers[i] for i in nonempty]
        losses = []
        for shift in range(N_TOPIC_CONTROLS + 1):
            prompts = [texts[(i + shift) % len(texts)] for i in nonempty]
            requests = self.target.encode(prompts, targets=targets)
            losses.append(target_nll(self.target.model, requests, "instructed").nll.numpy())
        likelier = losses[0] < np.min(losses[1:], axis=0)
        for i, flag in zip(nonempty, likelier.tolist(), strict=True):
            on_topic[i] = flag
        return on_topic

    def _texts(self, requests: Requests, positions: np.ndarray) -> dict[str, list[Any]]:
        """Text of adversarial tokens, and whether the attacked requests encode to the same tokens."""
        texts, stable = [], []
        for i, slots in enumerate(positions):
            ids, (begin, end) = requests.prompt[i, : requests.prompt_length[i]], requests.spans["text"][i]
            texts.append(self._decode(ids[slots]))
            attacked_text = self._decode(ids[min(begin, slots[0]) : max(end, slots[-1] + 1)])
            stable.append(self._encodes_to(attacked_text, ids))
        return {"attack_text": texts, "retokenization_stable": stable}

    def _decode(self, ids: np.ndarray) -> str:
        tokenizer = self.target.lm.tokenizer
        return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _encodes_to(self, text: str, ids: np.ndarray) -> bool:
        """Whether a text in the prompt template encodes to these tokens."""
        try:
            prompt = self.target.encode([text]).prompt[0]
        except ValueError:  # the template changes the text
            return False
        return bool(np.array_equal(ids, prompt))
