"""Attacks on the harmful requests that a language model refuses, compared with controls of the same size.

Every step is cached in the store, and an interrupted token search resumes in its middle. Intervals are over
requests: they describe one model. Universal attacks are optimised on half of the refused requests, and all
attacks are then evaluated on the other half.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from makebreak.attacks import (
    JAILBREAK_TEMPLATES,
    PLACEBO,
    AdversarialSlots,
    SearchMethod,
    SoftPromptSettings,
    TokenSearchSettings,
    insert_slots,
    retokenizes_identically,
)
from makebreak.configs import nearest, to_json
from makebreak.evaluation import generate_texts, target_nll
from makebreak.lm.attack_runner import (
    NO_ATTACK,
    RANDOM_SOFT_PROMPT,
    SOFT_PROMPT,
    AttackRunner,
    SearchHistoryRow,
)
from makebreak.lm.inspection import encode_prompts, prompts_digest
from makebreak.lm.monitoring import ReferenceMonitors, projection_summary_rows, reference_monitors
from makebreak.lm.step_cache import StepCache
from makebreak.lm.verdicts import answer_outcome, is_refusal, with_verdicts
from makebreak.models import LanguageModel, model_digest
from makebreak.prompts import TextRequests
from makebreak.settings import AttackSettings, GenerationSettings
from makebreak.store import Store
from makebreak.tables import Rows, as_dict, as_dicts

INITIAL_TOKENS = "initial tokens"
"""Name of the control by the tokens that every search starts from."""
SEARCH_METHODS: dict[str, SearchMethod] = {
    "GCG": "gradient",
    "random search": "search",
    "random tokens": "random",
}
"""Methods of the token searches by the names of the attacks; the last two are controls."""
CONTROLS = (NO_ATTACK, INITIAL_TOKENS, "random search", "random tokens", RANDOM_SOFT_PROMPT, PLACEBO)
"""Names of the controls."""
MIN_ATTACKED_REQUESTS = 4
"""Fewest requests that attacks are optimised on, and that they are evaluated on."""

_MAX_INITIAL_TOKENS = 256  # allowed tokens that are tried as the initial token
_TIMED_REQUESTS = 16
_TIMED_TOKENS = 5
_PASSES_PER_GRADIENT = 3  # a forward and a backward pass, in units of the forward pass
_GRADIENT_ATTACKS = 2  # GCG and the soft prompt
_OTHER_ANSWERS = 5  # without an attack, initial tokens, soft prompt, its control, clean harmless requests


@dataclass(frozen=True)
class AttackData:
    """What a language model is attacked with."""

    prompts: Sequence[str]
    """Harmful requests; those that the model refuses are attacked."""
    targets: Sequence[str]
    """For each request, the text that the answer is to begin with."""
    reference: Mapping[str, Sequence[str]] | None = None
    """Clean `harmful` and `harmless` requests in pairs, and `borderline` ones if any: monitors are fitted on
    them, and jailbreak templates are evaluated on the harmless ones. Requests that are attacked are left out.
    None skips both."""


@dataclass(frozen=True)
class AttackSuiteResult:
    """Tables of the attacks on a language model, and why tables are missing."""

    tables: dict[str, Rows]
    """`answers` to all requests; `attacked_answers`, one row per attack and refused request;
    `search_history`; `harmless_answers`, one row per template and harmless request; `projection` of attacked
    and clean requests."""
    skip_reasons: dict[str, str]
    """Why a table could not be computed, by its name."""


class _Split(NamedTuple):
    """Refused requests, and the same with the initial tokens in their slots."""

    requests: TextRequests
    slots: AdversarialSlots


@dataclass(frozen=True)
class _AttackPlan:
    """Which requests are attacked; the two splits are the same unless attacks are universal."""

    rows: list[int]
    """Indices of the attacked requests among all requests."""
    test_rows: list[int]
    """Indices of those that attacks are evaluated on."""
    train: _Split
    """Requests that attacks are optimised on."""
    test: _Split
    """Requests that attacks are evaluated on."""


def attack_model(
    lm: LanguageModel,
    data: AttackData,
    store: Store,
    settings: GenerationSettings,
    attack_settings: AttackSettings,
    *,
    log: Callable[[str], None] = lambda _: None,
) -> AttackSuiteResult:
    """Attacks the harmful requests that a language model refuses.

    Args:
        lm: The model.
        data: Requests, targets and reference requests.
        store: Cache of the steps.
        settings: Prompt template, answer length and seed.
        attack_settings: Sizes of the attacks.
        log: Called with an estimate of the time before the attacks start, and with the result of each search.

    Returns:
        The tables. Nothing is attacked if the model refuses too few requests, or too few of them are
        retokenisation-stable.

    Raises:
        ValueError: If prompt, attack and answer exceed the context length, no token is printable, the model
            gives all targets by itself, or the reference is too small.
    """
    requests = encode_prompts(lm, "harmful", data.prompts, settings, data.targets)
    _check_context(lm, requests, settings, attack_settings)
    monitors, skip_reasons = None, {}
    if data.reference is not None:
        monitors, reason = reference_monitors(lm, data.reference, data.prompts, settings)
        if reason:
            log(f"attacked requests are not projected: {reason}")
            skip_reasons = {"harmless_answers": reason, "projection": reason}
    runner = AttackRunner(lm, settings, monitors)
    _ = runner.allowed_tokens  # raises before the work starts if there are none
    minutes = max(_estimate_seconds(lm, requests, settings, attack_settings) / 60, 0.1)
    log(f"at most about {minutes:.1f} minutes, less for steps that are cached")
    cache = StepCache("attack", store, _config(lm, data, settings, monitors))
    answers = with_verdicts(
        cache.run("answers", partial(runner.evaluate, requests, NO_ATTACK), total=len(requests))
    )
    plan = _plan_attacks(lm, requests, answers, attack_settings, runner.allowed_tokens)
    if isinstance(plan, str):
        return AttackSuiteResult({"answers": answers}, {"attacked_answers": plan, **skip_reasons})
    suite = _AttackSuite(runner, attack_settings, plan, cache, log)
    attacked, history = suite.run()
    attacked = with_verdicts([answers[i] for i in plan.test_rows] + attacked)
    tables = {"answers": answers, "attacked_answers": attacked, "search_history": history}
    if monitors is not None:
        tables["harmless_answers"] = with_verdicts(suite.harmless(monitors.reference["harmless"][1::2]))
        clean = cache.run("clean", monitors.clean_rows)
        tables["projection"] = _projection(clean, attacked, tables["harmless_answers"])
    return AttackSuiteResult(tables, skip_reasons)


def template_names(settings: AttackSettings) -> tuple[str, ...]:
    """Names of the jailbreak templates that are evaluated; ValueError if one does not exist."""
    if settings.jailbreak_templates is None:
        return tuple(JAILBREAK_TEMPLATES)
    for name in settings.jailbreak_templates:
        if name not in JAILBREAK_TEMPLATES:
            raise ValueError(
                f"jailbreak template {name!r} does not exist; {nearest(name, list(JAILBREAK_TEMPLATES))}"
            )
    return settings.jailbreak_templates


def _soft_prompt_settings(settings: AttackSettings) -> SoftPromptSettings:
    """Settings of the soft prompt, which keeps ordinary position ids."""
    return SoftPromptSettings(
        settings.soft_tokens,
        settings.steps,
        settings.soft_radius,
        where=settings.where,
        universal=settings.universal,
        share_position=False,
    )


def _search_config(settings: AttackSettings) -> dict[str, Any]:
    """What the results of a token search depend on, JSON values."""
    config = asdict(settings) | {"soft_tokens": None, "prefill": None}
    return {key: value for key, value in config.items() if key not in ("soft_radius", "jailbreak_templates")}


@dataclass(frozen=True)
class _AttackSuite:
    """All attacks of a plan, each one a cached step."""

    runner: AttackRunner
    settings: AttackSettings
    plan: _AttackPlan
    cache: StepCache
    log: Callable[[str], None]

    def run(self) -> tuple[Rows, Rows]:
        """Rows of every attack, and of the searches' losses by step."""
        rows = self.templates() + self.initial_tokens()
        searched, history = self.searches()
        return rows + searched + self.soft_prompts() + self.prefills(), history

    def templates(self) -> Rows:
        """Rows of the jailbreak templates."""
        rows: Rows = []
        for name in template_names(self.settings):
            rows += self.step(
                name,
                partial(self.runner.template, self.plan.test.requests, name),
                total=len(self.plan.test_rows),
                depends_on={"universal": self.settings.universal},
            )
        return rows

    def initial_tokens(self) -> Rows:
        """Rows of the tokens that every search starts from."""
        evaluate = partial(self.runner.evaluate_slots, self.plan.test.slots, INITIAL_TOKENS)
        return self.step(INITIAL_TOKENS, evaluate, depends_on=_search_config(self.settings))

    def searches(self) -> tuple[Rows, Rows]:
        """Rows of the token searches, and of their losses by step."""
        initial = target_nll(self.runner.lm.model, self.plan.train.slots.requests, "instructed")
        initial_loss, n = float(initial.nll.mean()), len(self.plan.test_rows)
        rows: Rows = []
        history = [as_dict(SearchHistoryRow(name, 0, initial_loss)) for name in SEARCH_METHODS]
        for name, method in SEARCH_METHODS.items():
            search = partial(
                self.runner.search,
                name,
                self.plan.train.slots,
                self.plan.test.slots,
                TokenSearchSettings(
                    method, self.settings.steps, self.settings.candidates, universal=self.settings.universal
                ),
            )
            [result] = self.step(
                name, search, total=self.settings.steps, depends_on=_search_config(self.settings)
            )
            rows += result["answers"]
            history += result["history"]
            loss = result["history"][-1]["loss"] if result["history"] else initial_loss
            n_matches = sum(row["exact_match"] for row in result["answers"])
            self.log(
                f"{name}: best loss {loss:.2f} ({initial_loss:.2f} at the initial tokens); the target begins "
                f"{n_matches} of {n} answers"
            )
        return rows, history

    def soft_prompts(self) -> Rows:
        """Rows of the soft prompt and of its control."""
        train, test, soft_prompt = (
            self.plan.train.requests,
            self.plan.test.requests,
            _soft_prompt_settings(self.settings),
        )
        return self.step(
            SOFT_PROMPT,
            partial(self.runner.soft_prompts, train, test, soft_prompt),
            total=3 * len(test),
            depends_on={key: value for key, value in to_json(soft_prompt).items() if key != "type"},
        )

    def prefills(self) -> Rows:
        """Rows of the prefilled answers."""
        requests = self.plan.test.requests
        max_length = min(self.settings.prefill, int(requests.judged[:, 1].max()))
        return self.step(
            "prefill",
            partial(self.runner.prefills, requests, max_length),
            total=max_length * len(requests),
            depends_on={"prefill": max_length, "universal": self.settings.universal},
        )

    def harmless(self, texts: Sequence[str]) -> Rows:
        """Rows of as many harmless requests as are attacked, plain and in every jailbreak template."""
        chosen = list(texts)[: len(self.plan.test_rows)]
        rows: Rows = []
        for name in (NO_ATTACK, *template_names(self.settings)):
            rows += self.cache.run(
                f"harmless {name}",
                partial(self.runner.harmless, chosen, name),
                total=len(chosen),
                depends_on={"n": len(chosen)},
            )
        return rows

    def step(
        self,
        name: str,
        function: Callable[..., Iterable[Any]],
        *,
        total: int | None = None,
        depends_on: Mapping[str, Any],
    ) -> Rows:
        """A cached step that depends on which requests are attacked."""
        return self.cache.run(name, function, total=total, depends_on={**depends_on, "of": self.plan.rows})


def _config(
    lm: LanguageModel, data: AttackData, settings: GenerationSettings, monitors: ReferenceMonitors | None
) -> dict[str, Any]:
    """What every step depends on."""
    return {
        "model": model_digest(lm),
        "settings": asdict(settings),
        "reference": None if monitors is None else prompts_digest(monitors.reference),
        "prompts": prompts_digest({"harmful": data.prompts, "targets": data.targets}),
    }


def _plan_attacks(
    lm: LanguageModel,
    requests: TextRequests,
    answers: Rows,
    settings: AttackSettings,
    allowed_tokens: np.ndarray,
) -> _AttackPlan | str:
    """Which requests are attacked, or why none is; ValueError if the model gives all targets."""
    refused = np.flatnonzero([is_refusal(row) for row in answers])
    if len(refused) < MIN_ATTACKED_REQUESTS:
        return (
            f"the model refuses {len(refused)} of {len(requests)} harmful requests, and at least "
            f"{MIN_ATTACKED_REQUESTS} are needed"
        )
    if all(answers[i]["exact_match"] for i in refused):
        target = answers[refused[0]]["target"]
        raise ValueError(
            f"the model gives the target {target!r} already where it refuses: choose one that it does not "
            "give"
        )
    slots, is_stable = _initial_slots(lm, requests[refused], settings, allowed_tokens)
    n_needed = 2 * MIN_ATTACKED_REQUESTS if settings.universal else MIN_ATTACKED_REQUESTS
    if is_stable.sum() < n_needed:
        return (
            f"{is_stable.sum()} of {len(refused)} refused requests encode to the same tokens after decoding, "
            f"and at least {n_needed} are needed"
        )
    stable = np.flatnonzero(is_stable)
    train, test = (stable[::2], stable[1::2]) if settings.universal else (stable, stable)

    def split(rows: np.ndarray) -> _Split:
        part = AdversarialSlots(slots.requests[rows], slots.positions[rows])
        return _Split(requests[refused[rows]], part)

    return _AttackPlan(refused[stable].tolist(), refused[test].tolist(), split(train), split(test))


def _projection(clean: Rows, attacked_answers: Rows, harmless: Rows) -> Rows:
    """Projection of clean, attacked and harmless requests, by attack and outcome."""
    rows = [{"attack": f"clean {row['family']}", **row} for row in clean]
    rows += [row | {"outcome": answer_outcome(row)} for row in attacked_answers]
    rows += [row | {"attack": f"harmless, {row['attack']}"} for row in harmless]
    return as_dicts(projection_summary_rows(rows))


def _check_context(
    lm: LanguageModel, requests: TextRequests, settings: GenerationSettings, attack_settings: AttackSettings
) -> None:
    """Raises ValueError if prompt, attack and answer exceed the model's context."""
    n_ctx = getattr(lm.model.config, "max_position_embeddings", None)
    n_prompt = int(requests.prompt_length.max())
    n_attack = max(attack_settings.attack_tokens, attack_settings.soft_tokens)
    texts = requests.truth["request"].tolist()
    for name in template_names(attack_settings):
        prompts = [JAILBREAK_TEMPLATES[name](text) for text in texts]
        attacked = encode_prompts(lm, "harmful", prompts, settings)
        n_attack = max(n_attack, int(attacked.prompt_length.max()) - n_prompt)
    n_answer = max(settings.n_new, int(requests.judged[:, 1].max()))
    n_tokens = n_prompt + n_attack + n_answer
    if n_ctx is not None and n_tokens > n_ctx:
        raise ValueError(
            f"a prompt of {n_prompt} tokens, an attack of {n_attack} and an answer of {n_answer} are "
            f"{n_tokens} tokens; the model's context is {n_ctx}: choose a shorter attack or answer"
        )


def _initial_slots(
    lm: LanguageModel, requests: TextRequests, settings: AttackSettings, allowed_tokens: np.ndarray
) -> tuple[AdversarialSlots, np.ndarray]:
    """Requests with one initial token in all slots, and (n,) which of them are retokenisation-stable.

    The token is the first with which all are stable, else the one with which most are; exclamation marks and
    the letter x are tried first.
    """
    encodings = [lm.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (" !", "!", " x", "x")]
    tokens = [ids[0] for ids in encodings if len(ids) == 1 and allowed_tokens[ids[0]]]
    tokens += np.flatnonzero(allowed_tokens)[:_MAX_INITIAL_TOKENS].tolist()
    stability_filter = retokenizes_identically(lm.tokenizer)
    best: tuple[AdversarialSlots, np.ndarray] | None = None
    for token in tokens:
        slots = insert_slots(requests, settings.attack_tokens, settings.where, token=token)
        is_stable = stability_filter(slots.requests)
        if best is None or is_stable.sum() > best[1].sum():
            best = slots, is_stable
        if is_stable.all():
            break
    assert best is not None  # some token is allowed
    return best


def _estimate_seconds(
    lm: LanguageModel, requests: TextRequests, settings: GenerationSettings, attack_settings: AttackSettings
) -> float:
    """Upper bound of the time, from one forward pass and some steps of generation: no search stops early."""
    slots = insert_slots(requests, attack_settings.attack_tokens, attack_settings.where, token=0)
    timed = slots.requests[:_TIMED_REQUESTS]
    generate_texts(lm, requests[:2], n_new=1)  # warms up
    forward = _seconds(lambda: target_nll(lm.model, timed, "instructed"))
    one_token = _seconds(lambda: generate_texts(lm, requests, n_new=1))
    five_tokens = _seconds(lambda: generate_texts(lm, requests, n_new=_TIMED_TOKENS))
    forward *= len(requests) / min(len(requests), _TIMED_REQUESTS)
    uncached = (
        1 - int(slots.positions.min()) / slots.requests.prompt.shape[1]
    )  # share of tokens after the prefix
    n_candidates = len(SEARCH_METHODS) * attack_settings.steps * attack_settings.candidates
    n_gradients = _GRADIENT_ATTACKS * attack_settings.steps
    n_answers = len(SEARCH_METHODS) + _OTHER_ANSWERS + attack_settings.prefill
    n_answers += 2 * len(template_names(attack_settings))
    per_token = max(five_tokens - one_token, 0) / (_TIMED_TOKENS - 1)
    per_answer = (
        5 * one_token + per_token * settings.n_new
    )  # losses of the target and of the topic are passes too
    searches = n_candidates * forward * uncached
    gradients = n_gradients * _PASSES_PER_GRADIENT * forward
    return float(searches + gradients + n_answers * per_answer)


def _seconds(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start
