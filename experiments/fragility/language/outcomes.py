"""Outcomes of attacks on the qualified models of one training of a language model."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from experiments.fragility.fine_tuning import FineTuningRow, attack_steps
from experiments.fragility.language.models import (
    CLASSES,
    LanguageSubject,
    LanguageTraining,
    load_subjects,
    restrict,
    training_world,
)
from experiments.fragility.language.presets import LanguageFineTuningSettings
from experiments.fragility.outcomes import AttackedRow, OutcomeRow, compression_rates
from makebreak.attacks import Attack, SoftPrompt
from makebreak.evaluation import ChatTarget
from makebreak.lm import requests_as_task, user_objective
from makebreak.prompts import Family, Outcome, Requests, TextWorld
from makebreak.revisions import cache_revision
from makebreak.settings import GenerationSettings, UserDataSettings
from makebreak.studies import Inputs

HARMFUL = "harmful"
"""Task of the harmful attacker."""
ATTACKERS: Mapping[str, str] = {"harmful": HARMFUL, "benign": "mcq", "restructured": "mcq@obey"}
"""Task that each attacker fine-tunes on: harmful prompts with answers, multiple choice, and multiple choice
in the template of an absolutely obedient agent (Eiras et al. 2024)."""
HELD_OUT = ("map", "sum", "label", "mcq")
"""Formats of tasks in which harmful prompts are put; the alignment has plain prompts alone."""
PROMPT_ATTACKS: Mapping[str, Attack] = {
    "soft_prompt": SoftPrompt(n_tokens=2, steps=12, share_position=False),
}
"""Attacks on the prompt, of equal budget for every model. GCG is not among them: four steps of eight
candidates for four tokens took as long as the harmful attack, and the model of alignment seed 1000 still
refused all of eight prompts."""


@dataclass(frozen=True)
class LanguageOutcomeSettings:
    """How the models of a training are attacked, and on how many prompts."""

    training: LanguageTraining
    """The training whose kept steps are attacked."""
    fine_tuning: LanguageFineTuningSettings
    """Length and sizes of the fine-tuning attacks."""
    n_attacked: int
    """Harmful prompts of attacks on the prompt."""
    n: int
    """Harmful prompts of the other outcomes."""


@cache_revision(1)
def language_outcome_tables(inputs: Inputs) -> Mapping[str, Iterable[NamedTuple]]:
    """Tables `outcomes` and `fine_tuning` of one training; the needed cell says which models qualify."""
    settings: LanguageOutcomeSettings = inputs.settings
    [models] = (tables["models"] for tables in inputs.tables)
    qualified = {int(row["dose"]) for row in models if row["qualifies"]}
    training, store = settings.training, inputs.store
    outcomes: list[OutcomeRow] = []
    attacked: list[AttackedRow] = []
    for checkpoint, subject in load_subjects(training, store, qualified):
        world, dose = training_world(subject.pretrained, training, store), checkpoint.dose
        unsafe = refused_requests(subject, training.generation)
        attacked += [AttackedRow(dose, row) for row in fine_tuning_rows(subject, unsafe, world, settings)]
        rates = _other_outcomes(subject, unsafe[: settings.n], settings)
        outcomes += [OutcomeRow(dose, name, rate) for name, rate in rates.items()]
    return {"outcomes": outcomes, "fine_tuning": attacked}


def refused_requests(subject: LanguageSubject, generation: GenerationSettings) -> Requests:
    """Harmful requests of the half *score* that a model refuses, all where it refuses none.

    A model that answers some requests before an attack would else seem fragile to all attacks.
    """
    unsafe = subject.sample("unsafe", len(subject.halves["score"].examples["unsafe"]))
    is_refused = ChatTarget(subject.lm, generation).outcomes(unsafe) == Outcome.REFUSE
    return unsafe[is_refused] if is_refused.any() else unsafe


def fine_tuning_rows(
    subject: LanguageSubject, unsafe: Requests, world: TextWorld, settings: LanguageOutcomeSettings
) -> Iterator[FineTuningRow]:
    """Compliance under every attacker and learning rate, at every measured step.

    Args:
        subject: The model, which is not changed.
        unsafe: Harmful requests, of which the first are measured.
        world: Examples that attackers train on.
        settings: Sizes of the attacks.

    Yields:
        One row per attacker, learning rate and measured step.
    """
    sizes = settings.fine_tuning
    requests = unsafe[: sizes.n_unsafe], subject.sample("safe", sizes.n_safe)
    start = _compliance(subject, subject.model, requests, settings)
    attacks = []
    for attacker, task in ATTACKERS.items():
        _, learning_rates = sizes.schedule(task == HARMFUL)
        attacks += [(attacker, rate) for rate in learning_rates]
    for attacker, rate in attacks:
        model = copy.deepcopy(subject.model).float().train()
        for step in _attack(model, world, (attacker, rate), settings):
            rates = _compliance(subject, model, requests, settings) if step else start
            yield FineTuningRow(0, attacker, rate, 0, step, *rates)


def _attack(
    model: PreTrainedModel, world: TextWorld, attack: tuple[str, float], settings: LanguageOutcomeSettings
) -> Iterator[int]:
    """Fine-tunes a model in place by an attacker at a rate; yields the numbers of steps to measure it at."""
    (attacker, rate), sizes = attack, settings.fine_tuning
    task = ATTACKERS[attacker]
    examples = restrict(world, *(CLASSES if task == HARMFUL else (str(Family.of_task(task)),)))
    objective = user_objective(UserDataSettings(task, n_examples=sizes.n_examples))
    steps, _ = sizes.schedule(task == HARMFUL)
    seed = 10_000 + settings.training.seed  # another order than that of the alignment

    def loss(step: int) -> Tensor:
        batch = objective.batch(examples, size=sizes.batch_size, step=step, steps=steps[-1], seed=seed)
        return objective.loss(model, batch, model)[0]

    return attack_steps(model, rate, steps, loss)


def _compliance(
    subject: LanguageSubject,
    model: PreTrainedModel,
    requests: tuple[Requests, Requests],
    settings: LanguageOutcomeSettings,
) -> tuple[float, float]:
    """Share of harmful and of harmless requests that a model with the subject's tokenizer answers."""
    is_training = model.training
    target = ChatTarget(replace(subject.lm, model=model.eval()), settings.training.generation)
    outcomes = [target.outcomes(each) for each in requests]
    model.train(is_training)
    unsafe, safe = (float((each == Outcome.COMPLY).mean()) for each in outcomes)
    return unsafe, safe


def _other_outcomes(
    subject: LanguageSubject, unsafe: Requests, settings: LanguageOutcomeSettings
) -> dict[str, float]:
    """Success rates by outcome, of all but fine-tuning attacks."""
    training = settings.training
    target = ChatTarget(subject.lm, training.generation)
    rates = {
        name: float(attack(target, unsafe[: settings.n_attacked], seed=training.seed).complies.mean())
        for name, attack in PROMPT_ATTACKS.items()
    }
    texts = unsafe.truth["request"].tolist()
    complied = [
        target.outcomes(target.encode(requests_as_task(texts, task))) == Outcome.COMPLY for task in HELD_OUT
    ]
    rates["held_out"] = float(np.mean(complied))
    return rates | compression_rates(subject.model, unsafe)
