"""Comparison of two checkpoints of a language model: what changed, and how refusal comes about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import torch
from transformers import PreTrainedModel

from makebreak.architectures import architecture_of
from makebreak.errors import InvalidInput
from makebreak.evaluation import ChatTarget
from makebreak.lm.estimate import estimate_message, time_call, time_model
from makebreak.lm.inspection import MIN_REQUESTS
from makebreak.lm.prompts import prompts_digest
from makebreak.lm.side_by_side import RequestLogOddsRow, quantity_rows, request_log_odds_rows
from makebreak.lm.step_cache import StepCache
from makebreak.lm.utility import text_loss_rows, utility_rows
from makebreak.mechanism import (
    FISHER_SAMPLES,
    AnswerRateRow,
    MechanismRow,
    MechanismVerdict,
    Stitching,
    StitchingRow,
    answer_rates,
    input_gain_rows,
    kernel_share_rows,
    mechanism_rows,
    mechanism_verdict,
    preactivation_rows,
    read_gain_rows,
    sensitivity_rows,
    stitch,
    stitching_rows,
    update_energy_rows,
    update_projection_rows,
    update_rows,
    weighted_energy_rows,
)
from makebreak.models import (
    LanguageModel,
    check_same_shapes,
    crop_vocabulary,
    matrix_names,
    mlp_input_matrices,
    model_digest,
    n_embeddings,
    n_layers,
    weight_matrix,
)
from makebreak.prompts import TextRequests
from makebreak.revisions import cache_revision
from makebreak.settings import GenerationSettings
from makebreak.store import Store
from makebreak.tables import Rows, as_dicts

MAX_REQUESTS = 48
"""Largest number of requests of each family: every cut needs four forward passes of all of them."""

N_PROJECTION_DRAWS = 5
"""Random subspaces of each dimension that a part of the update is compared with."""

FORWARDS_PER_CUT = 4
"""Forward passes of `stitch` for each cut: lower, upper, direct and random."""

_OTHER_FORWARDS = 3 * FISHER_SAMPLES + 40  # gradients for the Fisher matrices; all other tables
_FORWARDS_PER_PROJECTION = 2 * (4 + 2 * N_PROJECTION_DRAWS)  # by two rank rules: parts, none and all of it
_DECOMPOSITIONS_PER_MATRIX = 6 + 2 * N_PROJECTION_DRAWS


def check_weights_differ(base: LanguageModel, tuned: LanguageModel) -> None:
    """Raises ValueError if two models have the same weights, so that there is nothing to report on."""
    weights, others = base.model.state_dict(), tuned.model.state_dict()
    is_same = all(name in others and torch.equal(tensor, others[name]) for name, tensor in weights.items())
    if is_same and weights.keys() == others.keys():
        raise ValueError(
            f"{base.name} and {tuned.name} have the same weights: expected a model before alignment and one "
            "after it"
        )


def compare_models(
    prompts: Mapping[str, Sequence[str]],
    store: Store,
    settings: GenerationSettings,
    *,
    base: LanguageModel,
    tuned: LanguageModel,
    log: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, Rows], MechanismVerdict]:
    """Compares an aligned model with the base that it was trained from.

    Both models read the same tokens, those of the aligned model's prompt template: a base often has none.

    Args:
        prompts: Prompts by family, `harmful` and `harmless`; the first `MAX_REQUESTS` of each are used.
        store: Cache of the steps.
        settings: Prompt template and the seed of random controls.
        base: The model before alignment.
        tuned: The model after it.
        log: Called with an estimate of the time before the work starts.

    Returns:
        Tables by name (quantities, stitching, mechanisms, answer_rates, request_log_odds, preactivations,
        update_energy, weighted_energy, kernel_share, input_gain, read_gain, sensitivity, updates,
        update_projection, utility), and how refusal comes about by the stitching.

    Raises:
        ValueError: If the architecture of the models is not known, they differ in architecture or size, or a
            family is too small.
    """
    architecture_of(base.model)
    losses = {name: text_loss_rows(lm, store) for name, lm in (("base", base), ("aligned", tuned))}
    n_left_out = crop_vocabulary(base, tuned)  # after the losses, for which all tokens count
    if n_left_out:
        log(f"{n_left_out} tokens have embeddings in one of the models only: they are not compared")
    check_same_shapes(base=base.model, tuned=tuned.model)
    target = ChatTarget(tuned, settings)
    target.check_answers_directly("a comparison")
    settings = target.settings
    requests = {
        family: target.encode(prompts[family][:MAX_REQUESTS], family=family)
        for family in ("harmless", "harmful")
    }
    for family, batch in requests.items():
        _check_embedded(batch, tuned)
        if len(batch) < MIN_REQUESTS:
            raise ValueError(f"{len(batch)} {family} requests: expected at least {MIN_REQUESTS}")
    config = {
        "base": model_digest(base),
        "aligned": model_digest(tuned),
        "settings": settings.key,
        "prompts": prompts_digest({family: prompts[family][:MAX_REQUESTS] for family in requests}),
    }
    log(estimate_message(_estimate_seconds(base, requests["harmful"], n_layers(base.model) + 1)))
    steps, seed = StepCache("compare", store, config), settings.seed
    models = {"base": base.model, "tuned": tuned.model}
    stitching = cache(partial(stitch, **models, requests=requests["harmful"], seed=seed))
    functions: dict[str, Callable[[], Iterable[Any]]] = {
        "stitching": partial(_stitching_step, stitching, base.model, seed),
        "mechanisms": partial(_mechanism_step, stitching, seed, **models),
        "answer_rates": partial(_rates_step, requests, **models),
        "request_log_odds": partial(request_log_odds_rows, requests, **models),
        "preactivations": partial(preactivation_rows, requests, **models),
        "update_energy": partial(update_energy_rows, requests, requests["harmless"], **models),
        "weighted_energy": partial(weighted_energy_rows, requests, requests["harmless"], **models),
        "kernel_share": partial(kernel_share_rows, requests, **models),
        "input_gain": partial(input_gain_rows, requests, **models),
        "read_gain": partial(read_gain_rows, requests, **models),
        "sensitivity": partial(sensitivity_rows, requests, **models),
        "updates": partial(update_rows, seed=seed, **models),
        "update_projection": partial(
            update_projection_rows, requests["harmful"], **models, n_draws=N_PROJECTION_DRAWS, seed=seed
        ),
    }
    absent = {"kernel_share"} if architecture_of(base.model).has_experts else set()  # W_out of each expert
    tables = {name: [] if name in absent else steps.run(name, step) for name, step in functions.items()}
    verdict = mechanism_verdict(
        [MechanismRow(**row) for row in tables["mechanisms"]], len(requests["harmful"])
    )
    own = [RequestLogOddsRow(**row) for row in tables["request_log_odds"]]
    tables["request_log_odds"] = as_dicts(own)  # in the order of the columns, also of cached rows
    last = {"mechanisms": as_dicts(verdict.shares), "utility": as_dicts(utility_rows(losses))}
    return {"quantities": as_dicts(quantity_rows(tables))} | tables | last, verdict


@cache_revision(3)
def _stitching_step(
    stitching: Callable[[], Stitching], base: PreTrainedModel, seed: int
) -> list[StitchingRow]:
    return stitching_rows(stitching(), base=base, seed=seed)


@cache_revision(3)
def _mechanism_step(
    stitching: Callable[[], Stitching], seed: int, *, base: PreTrainedModel, tuned: PreTrainedModel
) -> list[MechanismRow]:
    return mechanism_rows(stitching(), base=base, tuned=tuned, seed=seed)


@cache_revision(1)
def _rates_step(
    requests: Mapping[str, TextRequests], *, base: PreTrainedModel, tuned: PreTrainedModel
) -> list[AnswerRateRow]:
    return [answer_rates(batch, base=base, tuned=tuned) for batch in requests.values()]


def _check_embedded(requests: TextRequests, lm: LanguageModel) -> None:
    """Raises InvalidInput if prompts have a token that one of the models lacks."""
    largest = int(requests.prompt.max())
    if largest >= n_embeddings(lm.model):
        token = lm.tokenizer.convert_ids_to_tokens(largest)
        raise InvalidInput(
            f"the prompts have the token {token!r}, which one of the models has no embedding for: choose "
            "another --template, one without tokens that fine-tuning added"
        )


def _estimate_seconds(base: LanguageModel, requests: TextRequests, n_cuts: int) -> float:
    """Upper bound of the time of all steps, from a few forward passes and one decomposition of a matrix."""
    model, timing = base.model, time_model(base, requests)
    largest = max(matrix_names(model), key=lambda name: weight_matrix(model, name).numel())
    svd = time_call(lambda: torch.linalg.svd(weight_matrix(model, largest).cpu().double()))
    n_projected = len(mlp_input_matrices(model)) + 1  # each of these, and all matrices
    n_passes = FORWARDS_PER_CUT * n_cuts + _FORWARDS_PER_PROJECTION * n_projected + _OTHER_FORWARDS
    n_forwards = n_passes * len(requests)
    n_decompositions = _DECOMPOSITIONS_PER_MATRIX * (len(matrix_names(model)) + n_layers(model))
    return n_forwards * timing.forward + n_decompositions * svd
