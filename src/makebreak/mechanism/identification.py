"""Identification of the mechanism of refusal: stitching, the mechanism of each request, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from transformers import PreTrainedModel

from makebreak.evaluation import exact_outcomes, first_tokens, is_likeliest, next_token_log_probs
from makebreak.mechanism.request_mechanisms import MechanismRow, mechanism_rows
from makebreak.mechanism.stitching import stitch
from makebreak.mechanism.stitching_table import StitchingRow, stitching_rows
from makebreak.mechanism.verdict import MechanismVerdict, mechanism_verdict
from makebreak.prompts import Outcome, Requests, TextRequests

MAX_SIDE_EFFECT = 0.05
"""Largest rate of refused safe requests, or of refusals of the first token only, that is not noted."""


class AnswerRateRow(NamedTuple):
    """How often base and tuned model give the answer on one family of requests."""

    family: str
    """Family of the requests."""
    n: int
    """Number of requests."""
    base_rate: float
    """Share whose likeliest first token begins the answer in the base; it can exceed the share of whole
    answers, which may begin so and end otherwise."""
    tuned_rate: float
    """The same in the tuned model."""
    tuned_whole_rate: float | None
    """Share of refusals among the tuned model's whole answers; below `tuned_rate` where it refuses at the
    first token only. None for text and for other answers than refusals."""


@dataclass(frozen=True)
class MechanismReport:
    """Result of `identify_mechanism`."""

    verdict: MechanismVerdict
    """The mechanism, with its shares and depth."""
    requests: list[MechanismRow]
    """One row per request whose answer flips."""
    cuts: list[StitchingRow]
    """One row per cut."""
    rates: list[AnswerRateRow]
    """How often the answer is given on unsafe and, if there are any, on safe requests."""

    @property
    def notes(self) -> list[str]:
        """What the verdict does not say: refusal of safe requests, and refusal at the first token only."""
        notes = []
        for row in self.rates[1:]:
            if row.tuned_rate - row.base_rate > MAX_SIDE_EFFECT:
                notes.append(
                    f"The tuned model gives this answer to {row.tuned_rate:.2f} of the safe requests, too; "
                    f"the base to {row.base_rate:.2f}."
                )
        whole, first = self.rates[0].tuned_whole_rate, self.rates[0].tuned_rate
        if whole is not None and first - whole > MAX_SIDE_EFFECT:
            notes.append(
                f"The first token refuses {first:.2f} of the unsafe requests, the whole answer {whole:.2f}: "
                "the verdict is about the first token."
            )
        return notes


def identify_mechanism(
    *,
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    unsafe: Requests,
    safe: Requests | None = None,
    answer: str = "refused",
    seed: int = 0,
) -> MechanismReport:
    """Identifies how fine-tuning makes a model refuse, by stitching it with its base at every cut.

    Args:
        base: The model before fine-tuning.
        tuned: The model after it.
        unsafe: Requests that fine-tuning made the model refuse.
        safe: Requests that it should still answer, reported beside.
        answer: The answer that fine-tuning taught, `refused`, or `instructed` for a remap control.
        seed: Seed of the random movement, the Fisher matrices and the readers' folds.

    Returns:
        The verdict and what it rests on.

    Raises:
        ValueError: If the two models are not checkpoints of one model.
    """
    stitching = stitch(base=base, tuned=tuned, requests=unsafe, answer=answer, seed=seed)
    rows = mechanism_rows(stitching, base=base, tuned=tuned, seed=seed)
    families = [unsafe] if safe is None else [unsafe, safe]
    return MechanismReport(
        mechanism_verdict(rows, len(unsafe)),
        rows,
        stitching_rows(stitching, base=base, seed=seed),
        [answer_rates(requests, answer, base=base, tuned=tuned) for requests in families],
    )


def answer_rates(
    requests: Requests, answer: str = "refused", *, base: PreTrainedModel, tuned: PreTrainedModel
) -> AnswerRateRow:
    """Measures how often base and tuned model give an answer, by its first token and as a whole.

    Args:
        requests: Requests of one family.
        answer: `refused` or `instructed`.
        base: The model before fine-tuning.
        tuned: The model after it.

    Returns:
        The rates.
    """
    target = first_tokens(requests, answer)
    base_rate, tuned_rate = (
        float(is_likeliest(next_token_log_probs(model, requests), target).double().mean())
        for model in (base, tuned)
    )
    whole = None
    if answer == "refused" and not isinstance(requests, TextRequests):
        whole = float((exact_outcomes(tuned, requests) == Outcome.REFUSE).mean())
    return AnswerRateRow(requests.family, len(requests), base_rate, tuned_rate, whole)
