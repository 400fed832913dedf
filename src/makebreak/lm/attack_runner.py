"""Attacks on a language model, evaluated by its answers, its loss on the target and its activations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from makebreak.attacks import (
    JAILBREAK_TEMPLATES,
    AdversarialSlots,
    SearchOptions,
    SoftPromptResult,
    SoftPromptSettings,
    TokenSearchSettings,
    fill_slots,
    insert_soft_prompt,
    optimise_soft_prompt,
    prefill_targets,
    printable_tokens,
    random_soft_prompt,
    retokenizes_identically,
    search_tokens,
)
from makebreak.evaluation import target_nll
from makebreak.lm.inspection import answer_rows, encode_prompts
from makebreak.lm.monitoring import ReferenceMonitors
from makebreak.lm.step_cache import Progress
from makebreak.models import LanguageModel
from makebreak.prompts import Requests, TextRequests
from makebreak.revisions import cache_revision
from makebreak.settings import GenerationSettings
from makebreak.store import write_json
from makebreak.tables import Rows, as_dict, as_dicts

NO_ATTACK = "no attack"
"""Name of the control without an attack."""
SOFT_PROMPT = "soft prompt"
"""Name of the attack by optimised embeddings."""
RANDOM_SOFT_PROMPT = "random soft prompt"
"""Name of its control: random vectors of the same norm."""
N_TOPIC_CONTROLS = 3
"""Other requests that an answer is compared with; by chance, one in `N_TOPIC_CONTROLS` + 1 is on topic."""


class AttackedAnswerRow(NamedTuple):
    """Greedy answer of the model to one request under one attack."""

    attack: str
    """Name of the attack."""
    request: str
    """The request before the attack."""
    answer: str
    """The answer's text, forced tokens included."""
    log_odds: float
    """Log-odds that a refusal begins after the prompt, in nats."""
    degenerate: bool
    """Whether the answer is empty or repetitive."""
    target: str
    """Text that the attack makes the answer begin with."""
    on_topic: bool | None
    """Whether the answer is likelier after its own request than after others; None if that is unknown."""
    loss: float | None
    """Negative log-likelihood per token of the rest of the target, in nats; None if nothing is left."""
    exact_match: bool | None
    """Whether the answer begins with what is left of the target; None if nothing is left."""
    attack_text: str = ""
    """Text of the adversarial tokens; for a jailbreak template, the whole prompt."""
    retokenization_stable: bool | None = None
    """Whether the attacked text, in the prompt template, encodes to the same tokens; None without text."""
    n_candidates: int | None = None
    """Candidates that were evaluated for the request; None for attacks without a search."""
    stable_candidate_share: float | None = None
    """Share of proposed candidates, over all requests, that were stable; None without a search."""


class HarmlessAnswerRow(NamedTuple):
    """Greedy answer of the model to one harmless request in one jailbreak template."""

    attack: str
    """Name of the template, or of the control without one."""
    request: str
    """The request without the template."""
    answer: str
    """The answer's text."""
    log_odds: float
    """Log-odds that a refusal begins after the prompt, in nats."""
    degenerate: bool
    """Whether the answer is empty or repetitive."""
    on_topic: bool | None
    """Whether the answer is likelier after its own request than after others; None if that is unknown."""


class SearchHistoryRow(NamedTuple):
    """State of a token search after one step."""

    attack: str
    """Name of the search."""
    step: int
    """Number of steps; 0 is the initial tokens."""
    loss: float
    """Best loss of the target so far, mean over requests, in nats per token."""


@dataclass(frozen=True)
class AttackRunner:
    """Runs attacks on a language model, one method per kind of attack.

    The methods return one row per attack and request with the fields of `AttackedAnswerRow`, and those of
    `MonitorRow` if there are monitors.
    """

    lm: LanguageModel
    """The model that is attacked."""
    settings: GenerationSettings
    """How prompts are formatted and answers are generated."""
    monitors: ReferenceMonitors | None
    """Monitors of the attacked requests; None for none."""

    @cached_property
    def allowed_tokens(self) -> np.ndarray:
        """(d_vocab,) bool, the printable tokens; raises ValueError if there are none."""
        embedding: Any = self.lm.model.get_input_embeddings()
        return printable_tokens(self.lm.tokenizer, embedding.weight.shape[0])

    @cache_revision(2)
    def evaluate(
        self,
        requests: TextRequests,
        attack: str,
        progress: Progress = lambda _: None,
        *,
        plain_texts: Sequence[str] | None = None,
        soft_prompt: SoftPromptResult | None = None,
        n_prefill: np.ndarray | None = None,
    ) -> Rows:
        """Generates and scores the answers to attacked requests.

        Args:
            requests: The requests as the attack changed them, with targets.
            attack: Name of the attack.
            progress: Called with the number of requests answered since the last call.
            plain_texts: The requests before a jailbreak template; None if the attack leaves their text as it
                was.
            soft_prompt: The embeddings behind ids beyond the vocabulary; None if there are none.
            n_prefill: (n,) how many of the prompt's last tokens are forced tokens of the answer; None for
                none.

        Returns:
            One row per request.
        """
        with nullcontext() if soft_prompt is None else soft_prompt.attach(self.lm.model):
            answers = answer_rows(
                self.lm, requests, self.settings, progress, n_prefill=n_prefill, attack=attack
            )
            losses, matches = self._score_targets(requests)
            monitored = self._monitor_rows(requests)
        texts = requests.truth["request"].tolist() if plain_texts is None else list(plain_texts)
        targets = requests.truth["target"].tolist()
        on_topic = self._on_topic(texts, [row["answer"] for row in answers])
        rows = []
        for i, row in enumerate(answers):
            columns: dict[str, Any] = {**row, "request": texts[i]}
            answer = AttackedAnswerRow(
                **columns,
                target=targets[i],
                on_topic=on_topic[i],
                loss=losses[i],
                exact_match=matches[i],
            )
            rows.append(as_dict(answer) | monitored[i])
        return rows

    @cache_revision(2)
    def evaluate_slots(self, slots: AdversarialSlots, attack: str) -> Rows:
        """Evaluates requests with adversarial tokens, and whether their text encodes to the same tokens.

        Args:
            slots: The requests, filled with the tokens.
            attack: Name of the attack.

        Returns:
            One row per request.
        """
        requests: Any = slots.requests
        rows = self.evaluate(requests, attack)
        for i, row in enumerate(rows):
            positions, (begin, end) = slots.positions[i], requests.spans["text"][i]
            ids = requests.prompt[i, : requests.prompt_length[i]]
            attacked_text = self._decode(ids[min(begin, positions[0]) : max(end, positions[-1] + 1)])
            row["attack_text"] = self._decode(ids[positions])
            row["retokenization_stable"] = self._encodes_to(attacked_text, ids)
        return rows

    @cache_revision(2)
    def search(
        self,
        attack: str,
        train: AdversarialSlots,
        test: AdversarialSlots,
        search: TokenSearchSettings,
        progress: Progress,
        folder: Path,
    ) -> list[dict[str, Rows]]:
        """Searches adversarial tokens and evaluates the best ones.

        Args:
            attack: Name of the search.
            train: Requests that the tokens are searched on, filled with the initial tokens.
            test: Requests that they are evaluated on; the same as `train` unless the attack is universal.
            search: Settings of the search.
            progress: Called after every step.
            folder: Folder with the state of the search, from which an interrupted search resumes.

        Returns:
            One element: `answers`, one row per request of `test`, and `history`, one `SearchHistoryRow` per
            step.
        """
        state_path, counts_path = folder / "search.json", folder / "counts.json"
        stability = _StabilityFilter(self.lm, counts_path)
        if state_path.is_file():
            progress(json.loads(state_path.read_text())["step"])

        def after_step(loss: float) -> None:
            stability.write()
            progress(1, loss=f"{loss:.2f}")

        best, steps, history = test, np.zeros(len(test.positions), dtype=int), []
        if not target_nll(self.lm.model, train.requests, "instructed").exact_match.all():
            options = SearchOptions(self.allowed_tokens, stability, state_path, after_step)
            result = search_tokens(self.lm.model, train, search, seed=self.settings.seed, options=options)
            best, steps, history = (
                AdversarialSlots(result.requests, result.positions),
                result.steps,
                result.history,
            )
            if search.universal:
                ids = np.take_along_axis(result.requests.prompt, result.positions, axis=1)[:1]
                filled = fill_slots(test, np.broadcast_to(ids, test.positions.shape))
                best = AdversarialSlots(filled, test.positions)
                steps = np.broadcast_to(steps[:1], len(test.positions))
        rows = self.evaluate_slots(best, attack)
        for row, n_steps in zip(rows, steps.tolist(), strict=True):
            row["n_candidates"] = n_steps * search.candidates
            row["stable_candidate_share"] = stability.share
        for path in (state_path, counts_path):
            path.unlink(missing_ok=True)
        losses = [SearchHistoryRow(attack, step, loss) for step, loss in enumerate(history, start=1)]
        return [{"answers": rows, "history": as_dicts(losses)}]

    @cache_revision(2)
    def soft_prompts(
        self,
        train: TextRequests,
        test: TextRequests,
        soft_prompt: SoftPromptSettings,
        progress: Progress,
    ) -> Rows:
        """Optimises a soft prompt and evaluates it, together with random vectors of the same norm.

        Args:
            train: Requests that the soft prompt is optimised on.
            test: Requests that it is evaluated on; the same as `train` unless the attack is universal.
            soft_prompt: Settings of the optimisation.
            progress: Called with the number of requests that are finished.

        Returns:
            One row per request for the soft prompt, then one per request for the control.
        """
        model, seed = self.lm.model, self.settings.seed
        result = optimise_soft_prompt(model, train, soft_prompt, seed=seed, progress=progress)
        if soft_prompt.universal:
            vectors = result.vectors[: soft_prompt.n_tokens][None]
            result = insert_soft_prompt(model, test, soft_prompt, vectors)
        control = random_soft_prompt(model, test, soft_prompt, seed=seed)
        rows: Rows = []
        for attack, prompts in ((SOFT_PROMPT, result), (RANDOM_SOFT_PROMPT, control)):
            requests: Any = prompts.requests
            rows += self.evaluate(requests, attack, progress, soft_prompt=prompts)
        return rows

    @cache_revision(2)
    def prefills(self, requests: TextRequests, max_length: int, progress: Progress) -> Rows:
        """Evaluates answers whose first tokens are forced to those of the target.

        Args:
            requests: Requests with targets.
            max_length: Largest number of forced tokens; a shorter target is forced whole.
            progress: Called with the number of requests answered since the last call.

        Returns:
            One row per request for each number of forced tokens, from 1 on.
        """
        rows: Rows = []
        for length in range(1, max_length + 1):
            n_forced = np.minimum(length, requests.judged[:, 1])
            attacked = prefill_targets(requests, n_forced)
            rows += self.evaluate(attacked, f"prefill {length}", progress, n_prefill=n_forced)
        return rows

    @cache_revision(2)
    def template(self, requests: TextRequests, name: str, progress: Progress) -> Rows:
        """Evaluates requests in a jailbreak template; their targets stay as they were.

        Args:
            requests: Requests with targets.
            name: Name of the template, one of `JAILBREAK_TEMPLATES`.
            progress: Called with the number of requests answered since the last call.

        Returns:
            One row per request.
        """
        texts, targets = requests.truth["request"].tolist(), requests.truth["target"].tolist()
        prompts = [JAILBREAK_TEMPLATES[name](text) for text in texts]
        attacked = encode_prompts(self.lm, "harmful", prompts, self.settings, targets)
        rows = self.evaluate(attacked, name, progress, plain_texts=texts)
        for row, prompt in zip(rows, prompts, strict=True):
            row |= {"attack_text": prompt, "retokenization_stable": True}
        return rows

    @cache_revision(2)
    def harmless(self, texts: Sequence[str], name: str, progress: Progress) -> Rows:
        """Evaluates what a jailbreak template does to requests that should be answered.

        Args:
            texts: Harmless requests.
            name: Name of the template, one of `JAILBREAK_TEMPLATES`, or `NO_ATTACK` for none.
            progress: Called with the number of requests answered since the last call.

        Returns:
            One row per request: the fields of `HarmlessAnswerRow`, and those of `MonitorRow` if there are
            monitors.
        """
        template = str if name == NO_ATTACK else JAILBREAK_TEMPLATES[name]
        requests = encode_prompts(self.lm, "harmless", [template(text) for text in texts], self.settings)
        answers = answer_rows(self.lm, requests, self.settings, progress, attack=name)
        on_topic = self._on_topic(texts, [row["answer"] for row in answers])
        monitored = self._monitor_rows(requests)
        rows = []
        for i, row in enumerate(answers):
            columns: dict[str, Any] = {**row, "request": texts[i]}
            answer = HarmlessAnswerRow(**columns, on_topic=on_topic[i])
            rows.append(as_dict(answer) | monitored[i])
        return rows

    def _score_targets(self, requests: Requests) -> tuple[list[float | None], list[bool | None]]:
        """Loss and exact match of what is left of each target, None where nothing is left."""
        losses: list[float | None] = [None] * len(requests)
        matches: list[bool | None] = [None] * len(requests)
        remaining = np.flatnonzero(requests.judged[:, 1] > 0)
        if len(remaining):
            scores = target_nll(self.lm.model, requests[remaining], "instructed")
            for i, loss, match in zip(
                remaining.tolist(), scores.nll.tolist(), scores.exact_match.tolist(), strict=True
            ):
                losses[i], matches[i] = loss, match
        return losses, matches

    def _monitor_rows(self, requests: Requests) -> Rows:
        """The fields of `MonitorRow` for each request; no fields without monitors."""
        if self.monitors is None:
            return [{} for _ in range(len(requests))]
        return as_dicts(self.monitors.score(requests))

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
            requests = encode_prompts(self.lm, "harmful", prompts, self.settings, targets)
            losses.append(target_nll(self.lm.model, requests, "instructed").nll.numpy())
        likelier = losses[0] < np.min(losses[1:], axis=0)
        for i, flag in zip(nonempty, likelier.tolist(), strict=True):
            on_topic[i] = flag
        return on_topic

    def _decode(self, ids: np.ndarray) -> str:
        text = self.lm.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)

    def _encodes_to(self, text: str, ids: np.ndarray) -> bool:
        """Whether a text in the prompt template encodes to these tokens."""
        try:
            prompt = encode_prompts(self.lm, "harmful", [text], self.settings).prompt[0]
        except ValueError:  # the template changes the text
            return False
        return bool(np.array_equal(ids, prompt))


class _StabilityFilter:
    """Filter of retokenisation-stable candidates that keeps its counts in a file."""

    def __init__(self, lm: LanguageModel, path: Path) -> None:
        self._is_stable, self._path = retokenizes_identically(lm.tokenizer), path
        self._counts = {"candidates": 0, "stable": 0}
        if path.is_file():
            self._counts = json.loads(path.read_text())

    def __call__(self, requests: Requests) -> np.ndarray:
        mask = self._is_stable(requests)
        self._counts["candidates"] += len(mask)
        self._counts["stable"] += int(mask.sum())
        return mask

    def write(self) -> None:
        write_json(self._path, self._counts)

    @property
    def share(self) -> float | None:
        """Share of stable candidates; None if there were none."""
        n = self._counts["candidates"]
        return self._counts["stable"] / n if n else None
