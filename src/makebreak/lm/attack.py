"""Attacks on the harmful requests that a language model refuses, compared with controls of the same size.

Every attack is a cached step of the store, and an interrupted search resumes in its middle. Intervals are
over requests: they describe one model. Universal attacks are optimised on half of the refused requests, and
all attacks are then evaluated on the other half.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from makebreak.attacks import (
    ATTACKS,
    JAILBREAK_TEMPLATES,
    Attack,
    InitialTokens,
    JailbreakTemplate,
    Prefill,
    RandomSoftPrompt,
    SoftPrompt,
    TokenSearch,
    Universal,
    load_attacks,
)
from makebreak.configs import to_json
from makebreak.evaluation import ANSWERS_FILE, ChatTarget, planning_judge, target_nll
from makebreak.lm.attacked_answers import SEARCH_FOLDER, AnswerScorer, NoAttack, SearchHistoryRow
from makebreak.lm.estimate import estimate_message, time_call, time_model
from makebreak.lm.monitoring import projection_summary_rows, reference_monitors
from makebreak.lm.prompts import check_distinct, prompts_digest
from makebreak.lm.step_cache import StepCache
from makebreak.lm.utility import UNCHANGED, text_loss_rows, utility_rows
from makebreak.lm.verdicts import answer_outcome, is_refusal, with_verdicts
from makebreak.models import LanguageModel, context_length, model_digest
from makebreak.plugins import is_built_in, outside_bases, plugin_address, source_digest
from makebreak.prompts import TextRequests
from makebreak.settings import AttackSettings, GenerationSettings
from makebreak.store import Store
from makebreak.tables import Rows, as_dicts

MIN_ATTACKED_REQUESTS = 4
"""Fewest requests that attacks are optimised on, and that they are evaluated on."""
_PASSES_PER_GRADIENT = 3  # a forward and a backward pass, in units of the forward pass
_PASSES_PER_ANSWER = 5  # the prompt, the losses of the target and of the topic


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
    """`answers` to all requests; `utility`; `attacked_answers`, one row per attack and refused request;
    `search_history`; `harmless_answers`, one row per template and harmless request; `projection` of attacked
    and clean requests."""
    skip_reasons: dict[str, str]
    """Why a table could not be computed, by its name."""


_TOKEN_METHODS = ("initial_tokens", "gcg", "random_search", "random_tokens")
_SOFT_METHODS = ("soft_prompt", "random_soft_prompt")
_SIZES = {
    "jailbreak_templates": ("jailbreak_templates",),
    "attack_tokens": _TOKEN_METHODS,
    "candidates": _TOKEN_METHODS,
    "steps": _TOKEN_METHODS + _SOFT_METHODS,
    "where": _TOKEN_METHODS + _SOFT_METHODS,
    "soft_tokens": _SOFT_METHODS,
    "soft_radius": _SOFT_METHODS,
    "prefill": ("prefill",),
}  # methods that a size is of


class _Plan(NamedTuple):
    """Which requests are attacked."""

    rows: list[int]
    """Indices of the attacked requests among all requests."""
    test_rows: list[int]
    """Indices of those that attacks are evaluated on: every second one if attacks are universal."""
    initial_token: int | None
    """Token that every search starts from; None without a search."""


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
        attack_settings: Methods and sizes of the attacks.
        log: Called with an estimate of the time before the attacks start, and with the result of each search.

    Returns:
        The tables. Nothing is attacked if the model refuses too few requests, or too few of them are
        retokenisation-stable.

    Raises:
        ValueError: If a prompt is there twice, a method does not exist, prompt, attack and answer exceed the
            context length, no token is printable, the model gives all targets by itself, or the reference is
            too small.
    """
    check_distinct({"harmful": data.prompts})
    target = ChatTarget(lm, settings)
    target.check_answers_directly("an attack")
    settings = target.settings
    requests = target.encode(data.prompts, targets=data.targets)
    longest = int(requests.judged[:, 1].max())  # a longer prefill forces no more tokens
    pairs = [
        (method, attack)
        for method, attack in choose_attacks(attack_settings)
        if not (isinstance(attack, Prefill) and attack.n_tokens > longest)
    ]
    attacks = [attack for _, attack in pairs]
    _check_context(target, requests, attacks)
    monitors, skip_reasons = None, {}
    if data.reference is not None:
        monitors, reason = reference_monitors(lm, data.reference, data.prompts, settings)
        if reason:
            log(f"attacked requests are not projected: {reason}")
            skip_reasons = {"harmless_answers": reason, "projection": reason}
    if any(isinstance(_inner(attack), TokenSearch) for attack in attacks):
        _ = target.constraint  # raises before the work starts if no token is printable
    log(estimate_message(_estimate_seconds(lm, requests, settings, attacks)))
    config = {
        "model": model_digest(lm),
        "settings": settings.key,
        "reference": None if monitors is None else prompts_digest(monitors.reference),
        "prompts": prompts_digest({"harmful": data.prompts, "targets": data.targets}),
    }
    utility = as_dicts(utility_rows({UNCHANGED: text_loss_rows(lm, store)}))
    suite = _Suite(AnswerScorer(target, monitors), StepCache("attack", store, config), settings.seed)
    answers = with_verdicts(suite.run("no_attack", NoAttack(), requests)[0])
    plan = _plan(target, requests, answers, attacks, universal=attack_settings.universal)
    if isinstance(plan, str):
        return AttackSuiteResult(
            {"answers": answers, "utility": utility}, {"attacked_answers": plan, **skip_reasons}
        )
    rows, history = suite.attack(pairs, requests, plan, log)
    attacked = with_verdicts([answers[i] for i in plan.test_rows] + rows)
    tables = {"answers": answers, "attacked_answers": attacked, "search_history": history}
    tables["utility"] = utility
    if monitors is not None:
        texts = monitors.reference["harmless"][1::2][: len(plan.test_rows)]
        tables["harmless_answers"] = suite.harmless(pairs, target.encode(texts, family="harmless"))
        clean = suite.cache.run("clean", monitors.clean_rows)
        tables["projection"] = _projection(clean, attacked, tables["harmless_answers"])
    return AttackSuiteResult(tables, skip_reasons)


def choose_attacks(settings: AttackSettings) -> list[tuple[str, Attack]]:
    """Every attack with the name of its method.

    Args:
        settings: Methods and sizes.

    Returns:
        Pairs of method and attack, in the order of the methods.

    Raises:
        ValueError: If a method or a jailbreak template does not exist, no attack is chosen, or two attacks
            have the same name.
    """
    JailbreakTemplate.from_settings(settings)  # a wrong name is an error even if no template is chosen
    methods = ATTACKS if settings.methods is None else settings.methods
    pairs = [(method, attack) for method in methods for attack in load_attacks(method, settings)]
    if not pairs:
        raise ValueError(f"--method: no attack is chosen; name at least one of {', '.join(ATTACKS)}")
    names = [attack.name for _, attack in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two attacks have the name {name!r}: their rows would be pooled; rename one")
    return pairs


def check_sizes_are_used(settings: AttackSettings) -> None:
    """Checks that every size that differs from its default is one of a chosen method.

    Args:
        settings: Methods and sizes. A method of one's own may use every size.

    Raises:
        ValueError: If a size would be ignored.
    """
    methods = settings.methods
    if methods is None or not set(methods) <= set(ATTACKS):
        return
    chosen, default = settings.complete(), AttackSettings().complete()
    for size, users in _SIZES.items():
        if getattr(chosen, size) != getattr(default, size) and not set(methods) & set(users):
            raise ValueError(
                f"--{size.replace('_', '-')} is a setting of {', '.join(users)}: expected one of them in "
                f"--method {' '.join(methods)}, or no such setting"
            )


class _Suite(NamedTuple):
    """Attacks as cached steps."""

    scorer: AnswerScorer
    cache: StepCache
    seed: int

    def attack(
        self,
        pairs: Sequence[tuple[str, Attack]],
        requests: TextRequests,
        plan: _Plan,
        log: Callable[[str], None],
    ) -> tuple[Rows, Rows]:
        """Rows of all attacks on the requests of a plan, and of the losses of their searches."""
        rows: Rows = []
        history: Rows = []
        for method, attack in pairs:
            attack = _with_initial_token(attack, plan.initial_token)
            chosen = plan.rows if isinstance(attack, Universal) else plan.test_rows
            attack_rows, losses = self.run(method, attack, requests[np.array(chosen)])
            rows, history = rows + attack_rows, history + losses
            if losses:
                n_matches = sum(bool(row["exact_match"]) for row in attack_rows)
                log(
                    f"{attack.name}: best loss {losses[-1]['loss']:.2f} ({losses[0]['loss']:.2f} at the "
                    f"initial tokens); the target begins {n_matches} of {len(attack_rows)} answers"
                )
        return rows, history

    def harmless(self, pairs: Sequence[tuple[str, Attack]], requests: TextRequests) -> Rows:
        """Rows of harmless requests, plain and in every jailbreak template, with verdicts."""
        rows, _ = self.run("no_attack", NoAttack(), requests)
        for method, attack in pairs:
            if isinstance(attack, JailbreakTemplate):
                rows = rows + self.run(method, attack, requests)[0]
        return with_verdicts(rows)

    def run(self, method: str, attack: Attack, requests: TextRequests) -> tuple[Rows, Rows]:
        """Rows of the answers under an attack, and of the losses of its search.

        The step depends on the attack, on its source and that of its bases if they are a user's, and on the
        requests.
        """
        inner, texts = _inner(attack), requests.truth["request"].tolist()
        depends_on = {
            "method": method,
            "attack": plugin_address(type(inner)),
            "settings": to_json(inner) if is_built_in(type(inner)) else repr(sorted(vars(inner).items())),
            "universal": isinstance(attack, Universal),
            "revision": getattr(inner, "revision", None),
            "source": [source_digest(base) for base in outside_bases(type(inner))],
            "requests": prompts_digest({requests.family: texts}),
        }
        total = None  # unknown for universal attacks and a user's
        if inner is attack and isinstance(attack, NoAttack | JailbreakTemplate | Prefill | RandomSoftPrompt):
            total = len(requests)
        elif inner is attack and isinstance(attack, SoftPrompt):
            total = 2 * len(requests)
        elif inner is attack and isinstance(attack, TokenSearch) and not isinstance(attack, InitialTokens):
            total = attack.steps
        state = r"search\.json" if is_built_in(type(inner)) else ".*"  # a user's has a name of its own
        states = f"{SEARCH_FOLDER}/{state}|{re.escape(ANSWERS_FILE)}"
        function = partial(self.scorer.step, method, attack, requests, self.seed)
        name = attack.name if requests.family == "harmful" else f"{requests.family} {attack.name}"
        [step] = self.cache.run(name, function, total=total, depends_on=depends_on, states=states)
        history = [SearchHistoryRow(attack.name, i, loss) for i, loss in enumerate(step["history"])]
        return step["answers"], as_dicts(history)


def _inner(attack: Attack) -> Any:
    """The attack itself, or the one that is made universal."""
    return attack.attack if isinstance(attack, Universal) else attack


def _with_initial_token(attack: Attack, token: int | None) -> Attack:
    """The attack, a search of which starts from this token."""
    inner = _inner(attack)
    if token is None or not isinstance(inner, TokenSearch):
        return attack
    inner = replace(inner, token=token)
    return replace(attack, attack=inner) if isinstance(attack, Universal) else inner


def _plan(
    target: ChatTarget, requests: TextRequests, answers: Rows, attacks: Sequence[Attack], *, universal: bool
) -> _Plan | str:
    """Which requests are attacked, or why none is; ValueError if the model gives all targets."""
    refused = np.flatnonzero([is_refusal(row, planning_judge()) for row in answers])
    if len(refused) < MIN_ATTACKED_REQUESTS:
        return (
            f"the model refuses {len(refused)} of {len(requests)} harmful requests (judge "
            f"{planning_judge()}), and at least {MIN_ATTACKED_REQUESTS} are needed"
        )
    if all(answers[i]["exact_match"] for i in refused):
        text = answers[refused[0]]["target"]
        raise ValueError(
            f"the model gives the target {text!r} already where it refuses: choose one that it does not give"
        )
    is_stable, token = np.ones(len(refused), dtype=bool), None
    search = next((attack for attack in map(_inner, attacks) if isinstance(attack, TokenSearch)), None)
    if search is not None:
        slots = search.insert(target, requests[refused])
        token = int(slots.requests.prompt[0, slots.positions[0, 0]])
        assert target.constraint.is_valid is not None  # a language model's requests are texts
        is_stable = target.constraint.is_valid(slots.requests)
    n_needed = 2 * MIN_ATTACKED_REQUESTS if universal else MIN_ATTACKED_REQUESTS
    if is_stable.sum() < n_needed:
        return (
            f"{is_stable.sum()} of {len(refused)} refused requests encode to the same tokens after decoding, "
            f"and at least {n_needed} are needed"
        )
    rows = refused[is_stable].tolist()
    return _Plan(rows, rows[1::2] if universal else rows, token)


def _projection(clean: Rows, attacked_answers: Rows, harmless: Rows) -> Rows:
    """Projection of clean, attacked and harmless requests, by attack and outcome."""
    rows = [{"attack": f"clean {row['family']}", **row} for row in clean]
    rows += [row | {"outcome": answer_outcome(row)} for row in attacked_answers]
    rows += [row | {"attack": f"harmless, {row['attack']}"} for row in harmless]
    return as_dicts(projection_summary_rows(rows))


def _check_context(target: ChatTarget, requests: TextRequests, attacks: Sequence[Attack]) -> None:
    """Raises ValueError if prompt, attack and answer exceed the model's context."""
    n_ctx = context_length(target.model.config)
    n_prompt = int(requests.prompt_length.max())
    n_attack, texts = 0, requests.truth["request"].tolist()
    for attack in map(_inner, attacks):
        if isinstance(attack, TokenSearch | SoftPrompt):
            n_attack = max(n_attack, attack.n_tokens)
        if isinstance(attack, Prefill):
            n_attack = max(n_attack, min(attack.n_tokens, int(requests.judged[:, 1].max())))
        if isinstance(attack, JailbreakTemplate):
            prompts = [JAILBREAK_TEMPLATES[attack.template](text) for text in texts]
            n_attack = max(n_attack, int(target.encode(prompts).prompt_length.max()) - n_prompt)
    n_answer = max(target.settings.n_new, int(requests.judged[:, 1].max()))
    n_tokens = n_prompt + n_attack + n_answer
    if n_ctx is not None and n_tokens > n_ctx:
        raise ValueError(
            f"a prompt of {n_prompt} tokens, an attack of {n_attack} and an answer of {n_answer} are "
            f"{n_tokens} tokens; the model's context is {n_ctx}: choose a shorter attack or answer"
        )


def _estimate_seconds(
    lm: LanguageModel, requests: TextRequests, settings: GenerationSettings, attacks: Sequence[Attack]
) -> float:
    """Upper bound of the time, from timed passes and answers: no search stops early."""
    timing = time_model(lm, requests)
    sample = requests[:MIN_ATTACKED_REQUESTS]
    forward = time_call(lambda: target_nll(lm.model, sample, "instructed")) / len(sample)
    n_templates = sum(isinstance(attack, JailbreakTemplate) for attack in attacks)
    n_answers = len(attacks) + n_templates + 3  # plain harmful and harmless requests, and clean ones
    seconds = n_answers * (timing.answer(settings.n_new) + _PASSES_PER_ANSWER * timing.first_token)
    for attack in map(_inner, attacks):
        if isinstance(attack, TokenSearch) and not isinstance(attack, InitialTokens):
            n_gradients = 0 if attack.is_control else _PASSES_PER_GRADIENT
            seconds += attack.steps * (attack.candidates + n_gradients) * forward
        elif isinstance(attack, SoftPrompt) and not attack.is_control:
            seconds += attack.steps * _PASSES_PER_GRADIENT * forward
    return len(requests) * seconds
