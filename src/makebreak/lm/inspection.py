"""Inspection of one language model: refusal rates, class separation, sensitivity and the refusal direction.

Every step is cached in the store, so that an interrupted inspection resumes. Intervals are over requests:
they describe one model, not how the results vary between training runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from makebreak.activations import add, intervene
from makebreak.architectures import architecture_of
from makebreak.evaluation import ANSWERS_FILE, AnswerCheckpoint, ChatTarget, planning_judge, text_losses
from makebreak.lm.clear_requests import MIN_REQUESTS, clear_pair
from makebreak.lm.estimate import estimate_message, time_model
from makebreak.lm.openers import half_of_answers, opener_key, own_openers, rescored_answers, with_openers
from makebreak.lm.prompts import FAMILIES, check_distinct, prompts_digest
from makebreak.lm.sampled_answers import sample_rate_rows, sampled_answer_rows
from makebreak.lm.step_cache import Progress, StepCache
from makebreak.lm.utility import UNCHANGED, text_loss_rows, utility_rows
from makebreak.lm.verdicts import behaviour_rows, judged_answer_rows, with_verdicts
from makebreak.mechanism import (
    DIRECTION_SETTINGS,
    DirectionSettings,
    SafeUnsafeRequests,
    ablate_directions,
    cluster_rows,
    cosmic_rows,
    direction_rows,
    refusal_direction,
    sensitivity,
)
from makebreak.models import LanguageModel, model_digest, n_layers
from makebreak.prompts import Requests, TextRequests, plain_texts
from makebreak.revisions import cache_revision
from makebreak.settings import GenerationSettings, SamplingSettings
from makebreak.stats import auroc_interval
from makebreak.store import Store
from makebreak.tables import Rows, as_dicts

WITHOUT_CONTROLS = DirectionSettings(controls=False)
"""Settings of the directions: their controls would take three times as long."""
GREEDY = SamplingSettings()
"""No sampled answers."""
Selection = Literal["arditi2024", "cosmic"]
"""How a refusal direction is selected: by log-odds of a refusal, or by cosines of states."""
MECHANISM_TABLES = ("clusters", "sensitivity", "directions", "ablation")
"""Tables that are computed at the end of the prompts."""

_FORWARDS_PER_REQUEST = 3  # log-odds of a refusal, states for the clusters, gradients for the sensitivity
_FORWARDS_PER_CANDIDATE = 3  # ablation on either family and addition on harmless requests
_ABLATION_CONDITIONS = 8  # four interventions on two families


class SensitivityQuartileRow(NamedTuple):
    """Quartiles over requests of the gradient norm of one output with respect to the prompt's embeddings."""

    family: str
    """Family of the requests."""
    output: str
    """Output whose gradient is taken, a field of `mechanism.Sensitivity`."""
    median: float
    """Median over requests."""
    lower_quartile: float
    """0.25 quantile over requests."""
    upper_quartile: float
    """0.75 quantile over requests."""


@dataclass(frozen=True)
class InspectionSettings:
    """What is inspected besides greedy answers, and how a refusal direction is selected."""

    sampling: SamplingSettings = GREEDY
    """Answers that are sampled besides the greedy ones."""
    selection: Selection = "arditi2024"
    """Selection of a refusal direction. `cosmic` needs no token of a refusal: requests that the model decides
    the other way are left out by the judge then."""


@dataclass(frozen=True)
class InspectionResult:
    """Tables of an inspection, and why steps were skipped."""

    tables: dict[str, Rows]
    """Tables `answers`, `behaviour` and `utility`, and those of `MECHANISM_TABLES` that were computed; with
    sampled answers `samples` and `sample_rates`."""
    skip_reasons: dict[str, str]
    """Why one of `MECHANISM_TABLES` is missing, by its name."""
    openers: str
    """Tokens with which refusals begin, by which log-odds are computed, and how they were found."""


def inspect(
    lm: LanguageModel,
    prompts: Mapping[str, Sequence[str]],
    store: Store,
    settings: GenerationSettings,
    *,
    inspection: InspectionSettings = InspectionSettings(),
    log: Callable[[str], None] = lambda _: None,
) -> InspectionResult:
    """Inspects a language model's refusals and their mechanism.

    Args:
        lm: The model.
        prompts: Prompts by family, at least `harmful` and `harmless`. Directions and class means are fitted
            on every second one and scored on the others.
        store: Cache of the steps.
        settings: Prompt template, answer length and seed.
        inspection: Sampled answers, and the selection of a refusal direction.
        log: Called with an estimate of the time before the work starts.

    Returns:
        The tables. A refusal direction is only computed for a model that refuses harmful requests more often
        than harmless ones (their 95 % intervals do not overlap). Where answers begin with reasoning, the end
        of the prompt does not decide about refusal: only the verdicts are computed, and no mechanism.

    Raises:
        ValueError: If the architecture of the model is not known, a family is missing or too small, or a
            prompt is there twice.
    """
    architecture_of(lm.model)
    check_distinct(prompts)
    for family in FAMILIES[:2]:
        n = len(prompts.get(family, ()))
        if n < 2 * MIN_REQUESTS:
            raise ValueError(
                f"{n} {family} requests: expected at least {2 * MIN_REQUESTS}, half to fit on, half to score"
            )
    target = ChatTarget(lm, settings)
    settings, sampling = target.settings, inspection.sampling
    families = [family for family in FAMILIES if family in prompts]
    requests = {family: target.encode(prompts[family], family=family) for family in families}
    config = {"model": model_digest(lm), "settings": settings.key, "prompts": prompts_digest(prompts)}
    if architecture_of(lm.model).has_experts:
        log("a mixture of experts: classes are separated by what whole MLPs write, hook_mlp_out")
    log(estimate_message(_estimate_seconds(lm, requests, settings.n_new, sampling.samples)))
    steps = StepCache("inspect", store, config)
    answers = judged_answer_rows(lm, {family: prompts[family] for family in families}, store, settings)
    fit, score = _half(requests, 0), _half(requests, 1)
    openers = own_openers(lm.tokenizer, half_of_answers(answers))  # the half that is fitted on
    key = opener_key(requests["harmful"], openers)
    answers = rescored_answers(target, requests, answers, openers, steps)
    tables = {"answers": answers, "behaviour": as_dicts(behaviour_rows(answers))}
    losses = {UNCHANGED: text_loss_rows(lm, store)}
    tables["utility"] = as_dicts(utility_rows(losses))
    if sampling.samples:
        tables["samples"] = sampled_answer_rows(steps, target, requests, sampling)
        tables["sample_rates"] = as_dicts(sample_rate_rows(tables["samples"], answers, sampling))
    requests = {family: with_openers(batch, openers) for family, batch in requests.items()}
    if target.reasons:
        option, remedy = target.reasoning_option
        reason = (
            f"with {option}, reasoning lies between the prompt and the answer; {remedy} to have the "
            "mechanism computed"
        )
        return InspectionResult(tables, dict.fromkeys(MECHANISM_TABLES, reason), openers.description)
    tables["clusters"] = steps.run("clusters", partial(separation_rows, lm, fit, score, settings))
    tables["sensitivity"] = steps.run("sensitivity", partial(_sensitivity_rows, lm, score))
    reason = _no_refusal(tables["behaviour"])
    if reason:
        return InspectionResult(tables, {"directions": reason, "ablation": reason}, openers.description)
    is_cosmic = inspection.selection == "cosmic"
    halves = [clear_pair(requests, answers, half, by_verdict=is_cosmic) for half in (0, 1)]
    if is_cosmic:
        texts = {f"{name} {i}": batch.truth["request"].tolist() for i, name, batch in _named(halves)}
        key = key | {"selection": inspection.selection, "clear": prompts_digest(texts)}
    candidates = partial(direction_rows, lm.model, *halves, settings=WITHOUT_CONTROLS, seed=settings.seed)
    tables["directions"] = steps.run("directions", candidates, depends_on=key)
    if is_cosmic:
        chosen = steps.run("cosmic", partial(cosmic_rows, lm.model, *halves), depends_on=key)
        pairs = zip(tables["directions"], chosen, strict=True)
        tables["directions"] = [row | by_cosines for row, by_cosines in pairs]
    selected = next((row for row in tables["directions"] if row["is_selected"]), None)
    if selected is None:
        reason = "no candidate passed the selection criteria; the table of directions gives the reasons"
        return InspectionResult(tables, {"ablation": reason}, openers.description)
    held_out = {family: requests[family][1::2] for family in FAMILIES[:2]}
    ablation = partial(_ablation_rows, target, halves[0], selected["layer"], held_out)
    rows = steps.run("ablation", ablation, depends_on=key, states=re.escape(ANSWERS_FILE))
    tables["ablation"] = with_verdicts(rows)
    losses_under = partial(_ablation_losses, target, halves[0], selected["layer"])
    for row in steps.run("ablation utility", losses_under, depends_on=key):
        losses.setdefault(row["condition"], []).append(row)
    tables["utility"] = as_dicts(utility_rows(losses))
    return InspectionResult(tables, {}, openers.description)


@cache_revision(3)
def separation_rows(
    lm: LanguageModel,
    fit: SafeUnsafeRequests,
    score: SafeUnsafeRequests,
    settings: GenerationSettings,
    progress: Progress = lambda _: None,
) -> Rows:
    """Separation of harmful and harmless requests by layer, with intervals over requests.

    Args:
        lm: The model.
        fit: Requests that the class means are fitted on.
        score: Held-out requests.
        settings: Seed of the shuffled labels.
        progress: Called with the number of requests once they are done.

    Returns:
        The rows of `mechanism.cluster_rows` with two more columns, the 95 % interval of the AUROC over
        requests: `auroc_low` and `auroc_high`.
    """
    rows = as_dicts(cluster_rows(lm.model, fit, {"harmful or harmless": score}, seed=settings.seed))
    progress(len(fit.safe) + len(score.safe))
    for row in rows:
        row["auroc_low"], row["auroc_high"] = auroc_interval(row["auroc"], len(score.safe), len(score.unsafe))
    return rows


def _named(halves: Sequence[SafeUnsafeRequests]) -> Iterator[tuple[int, str, Requests]]:
    """Number of the half, name of the class, and the requests."""
    return ((i, *item) for i, pair in enumerate(halves) for item in pair._asdict().items())


def _half(requests: Mapping[str, TextRequests], half: int) -> SafeUnsafeRequests:
    """Every second request of both classes: the first half is fitted on, the second is scored."""
    return SafeUnsafeRequests(safe=requests["harmless"][half::2], unsafe=requests["harmful"][half::2])


def _estimate_seconds(
    lm: LanguageModel, requests: Mapping[str, TextRequests], n_new: int, n_samples: int
) -> float:
    """Upper bound of the time of all steps."""
    timing = time_model(lm, requests["harmful"])
    n, half = sum(map(len, requests.values())), len(requests["harmful"]) // 2
    n_candidates = DIRECTION_SETTINGS.max_depth * n_layers(lm.model)
    directions = _FORWARDS_PER_CANDIDATE * n_candidates * half * timing.forward
    ablation = _ABLATION_CONDITIONS * half * (timing.answer(n_new) + timing.forward)
    answers = n * ((1 + n_samples) * timing.answer(n_new) + _FORWARDS_PER_REQUEST * timing.forward)
    return answers + directions + ablation


def _no_refusal(behaviour: Rows) -> str:
    """Why no refusal direction is computed; empty if harmful requests are clearly refused more often."""
    by_family = {row["family"]: row for row in behaviour if row["judge"] == planning_judge()}
    harmful, harmless = by_family["harmful"], by_family["harmless"]
    if harmful["low"] > harmless["high"]:
        return ""
    return (
        f"the intervals of the refusal rates on harmful ({harmful['refuse']:.2f}) and harmless "
        f"({harmless['refuse']:.2f}) requests overlap (judge {planning_judge()})"
    )


@cache_revision(2)
def _sensitivity_rows(
    lm: LanguageModel, score: SafeUnsafeRequests, progress: Progress
) -> list[SensitivityQuartileRow]:
    quantiles = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    rows = []
    for family, requests in (("harmless", score.safe), ("harmful", score.unsafe)):
        norms = sensitivity(lm.model, requests)._asdict()
        progress(len(requests))
        for output, values in norms.items():
            lower, median, upper = values.double().quantile(quantiles).tolist()
            rows.append(SensitivityQuartileRow(family, output, median, lower, upper))
    return rows


@cache_revision(2)
def _ablation_rows(
    target: ChatTarget,
    fit: SafeUnsafeRequests,
    layer: int,
    requests: Mapping[str, TextRequests],
    progress: Progress,
    folder: Path,
) -> Rows:
    """Answers without intervention, with a layer's direction or a random one ablated, and with it added."""
    rows: Rows = []
    vector = refusal_direction(target.model, fit, layer)
    with AnswerCheckpoint.open(folder) as checkpoint:
        for family, batch in requests.items():
            for condition, intervention in _interventions(target, vector, layer).items():
                part = replace(target, checkpoint=checkpoint.under(f"{condition}, {family}"))
                with intervention:
                    rows += part.answer_rows(batch, progress, condition=condition, family=family)
    return rows


def _interventions(target: ChatTarget, vector: Float[Tensor, " d"], layer: int) -> dict[str, Any]:
    """Contexts by condition: no intervention, or ablation or addition of a layer's or a random direction."""
    noise = torch.randn(vector.shape, generator=torch.Generator().manual_seed(target.settings.seed))
    return {
        UNCHANGED: nullcontext(),
        "ablated": ablate_directions(target.model, (vector / vector.norm())[:, None]),
        "random ablated": ablate_directions(target.model, (noise / noise.norm())[:, None]),
        "added": intervene(target.model, f"blocks.{layer}.hook_resid_pre", add(vector)),
    }


@cache_revision(1)
def _ablation_losses(target: ChatTarget, fit: SafeUnsafeRequests, layer: int, progress: Progress) -> Rows:
    """Loss on plain text under every intervention."""
    rows: Rows = []
    vector = refusal_direction(target.model, fit, layer)
    for condition, intervention in _interventions(target, vector, layer).items():
        if condition != UNCHANGED:
            with intervention:
                losses = as_dicts(text_losses(target.lm, plain_texts()))
            progress(len(losses))
            rows += [{"condition": condition, **row} for row in losses]
    return rows
