"""Targets: a model together with the rule that decides what its answers mean.

Attacks, landscapes and evaluations are written once for every target. A model of a synthetic world is judged
exactly (`WorldTarget`); a language model generates texts that a judge reads (`ChatTarget`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int
from transformers import PreTrainedModel

from makebreak.errors import InvalidInput
from makebreak.evaluation.answer_checkpoint import AnswerCheckpoint
from makebreak.evaluation.context import check_context
from makebreak.evaluation.decisions import first_tokens, log_odds, next_token_log_probs
from makebreak.evaluation.degeneracy import is_degenerate
from makebreak.evaluation.generation import generate_texts
from makebreak.evaluation.judges import JUDGE, JUDGES, Judge, classify_answers
from makebreak.evaluation.outcomes import exact_outcomes
from makebreak.evaluation.reasoning import (
    behind_reasoning,
    is_unfinished,
    reasoning_option,
    with_thinking,
)
from makebreak.evaluation.sampling import Sampling
from makebreak.evaluation.token_constraint import TokenConstraint
from makebreak.models import LanguageModel
from makebreak.prompts import (
    REASONING_BEGIN,
    REASONING_END,
    PromptFormat,
    ReasoningBlock,
    Requests,
    TextRequests,
    encode_texts,
    open_block,
    printable_tokens,
    request_truth,
    retokenizes_identically,
    text_requests,
    with_targets,
)
from makebreak.settings import GenerationSettings
from makebreak.tables import Rows, as_dicts

_INITIAL_TEXTS = (" !", "!", " x", "x")
_MAX_INITIAL_TOKENS = 256


class AnswerRow(NamedTuple):
    """Greedy answer to one request."""

    request: str
    """The request's text, without the prompt template."""
    answer: str
    """The answer's text."""
    log_odds: float | None
    """Log-odds that a refusal begins after the prompt, or after the answer's own reasoning, in nats; None if
    that does not end."""
    degenerate: bool
    """Whether the answer, what follows its reasoning, is empty or repetitive."""


@runtime_checkable
class Target(Protocol):
    """A model together with the rule that decides what its answers mean."""

    @property
    def model(self) -> PreTrainedModel:
        """The model that answers."""
        ...

    @property
    def constraint(self) -> TokenConstraint:
        """Which tokens an attacker can put into a request."""
        ...

    def answer(self, requests: Requests, progress: Callable[[int], object] | None = None) -> list[Any]:
        """Returns the model's answers to requests, one JSON value per request.

        Args:
            requests: The requests.
            progress: Called with the number of requests answered since the last call.

        Returns:
            The answers, as `judge` takes them.
        """
        ...

    def judge(self, requests: Requests, answers: Sequence[Any]) -> Int[np.ndarray, " n"]:
        """Returns the `Outcome` of each answer."""
        ...

    def outcomes(self, requests: Requests) -> Int[np.ndarray, " n"]:
        """Returns the `Outcome` of the model's answer to each request."""
        ...


@dataclass(frozen=True)
class WorldTarget:
    """A model whose requests carry their reference answers, as those of synthetic worlds do.

    Outcomes are those of greedy decoding, decided exactly without generation: `REFUSE` (STOP not required),
    `COMPLY` (STOP included) or `NEITHER`. An answer that is both is a refusal.
    """

    model: PreTrainedModel
    """The model that answers."""
    constraint: TokenConstraint = field(default_factory=TokenConstraint)
    """Which tokens an attacker can put into a request; by default every token of the vocabulary."""

    def answer(self, requests: Requests, progress: Callable[[int], object] | None = None) -> list[int]:
        """Returns the outcome of each answer, which stands for the answer itself; reports no progress."""
        return exact_outcomes(self.model, requests).tolist()

    def judge(self, requests: Requests, answers: Sequence[int]) -> Int[np.ndarray, " n"]:
        """Returns the outcomes as an array."""
        return np.array(answers, dtype=np.int64)

    def outcomes(self, requests: Requests) -> Int[np.ndarray, " n"]:
        """Returns the `Outcome` of the model's answer to each request."""
        return exact_outcomes(self.model, requests)


@dataclass(frozen=True)
class ChatTarget:
    """A language model whose generated texts are read by a judge.

    An answer that is empty or repetitive is `DEGENERATE`; any other is `REFUSE` or `COMPLY` by the judge.
    """

    lm: LanguageModel
    """The model and its tokenizer."""
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    """How prompts are formatted and answers are generated. How they deal with reasoning is chosen if it is
    not, for a model that may reason (`choose_thinking`, `template_thinking`)."""
    text_judge: Judge = field(default=JUDGES[JUDGE])
    """Function of requests and answers that returns whether each answer is a refusal."""
    sampling: Sampling | None = None
    """How answers are sampled, of requests by `repeat_requests`; None for greedy answers."""
    checkpoint: AnswerCheckpoint | None = None
    """Where `answer` keeps the answers of finished batches, and finds them again; None for nowhere."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", with_thinking(self.lm.tokenizer, self.settings))

    @property
    def model(self) -> PreTrainedModel:
        """The model that answers."""
        return self.lm.model

    @property
    def reasons(self) -> bool:
        """Whether answers are expected to begin with reasoning."""
        return self.settings.thinking in ("on", "template") or self._open_block is not None

    @cached_property
    def _open_block(self) -> ReasoningBlock | None:
        """The block of reasoning within which prompts end; None if they do not."""
        template, system, thinking = self.settings.template, self.settings.system, self.settings.thinking
        return open_block(self.lm.tokenizer, thinking, system, template or "{}")

    @property
    def reasoning_option(self) -> tuple[str, str]:
        """The option by which answers begin with reasoning, and what makes them begin directly."""
        return reasoning_option(self.lm.tokenizer, self.settings)

    def check_answers_directly(self, purpose: str) -> None:
        """Raises InvalidInput, which names the purpose, if answers begin with reasoning."""
        if self.reasons:
            option, remedy = self.reasoning_option
            raise InvalidInput(
                f"{option}: {purpose} needs prompts that the answer itself follows, and this model may "
                f"reason before it; {remedy}"
            )

    @property
    def constraint(self) -> TokenConstraint:
        """Printable tokens, in requests whose tokens survive decoding and encoding.

        Raises:
            ValueError: If no token is printable.
        """
        return self._constraint

    @cached_property
    def _constraint(self) -> TokenConstraint:
        tokenizer, embedding = self.lm.tokenizer, self.model.get_input_embeddings()
        allowed = printable_tokens(tokenizer, embedding.weight.shape[0])  # type: ignore[union-attr, index]
        encodings = encode_texts(tokenizer, _INITIAL_TEXTS)["input_ids"]
        initial = [ids[0] for ids in encodings if len(ids) == 1 and allowed[ids[0]]]
        initial += np.flatnonzero(allowed)[:_MAX_INITIAL_TOKENS].tolist()
        return TokenConstraint(allowed, retokenizes_identically(tokenizer), tuple(initial))

    def encode(
        self, texts: Sequence[str], *, family: str = "harmful", targets: Sequence[str] | None = None
    ) -> TextRequests:
        """Formats and tokenises prompts for the model.

        Args:
            texts: The prompts.
            family: Name of the family; requests of `harmful` are unsafe, all others are safe.
            targets: For each prompt, the beginning of the answer that is scored; None for none.

        Returns:
            The requests, in the order of the prompts.

        Raises:
            ValueError: If a prompt cannot be formatted, or exceeds the context of the model.
        """
        tokenizer, settings = self.lm.tokenizer, self.settings
        requests = text_requests(
            tokenizer,
            texts,
            family=family,
            unsafe=family == "harmful",
            prompt_format=PromptFormat(settings.template, settings.system, thinking=settings.thinking),
        )
        check_context(self.lm, requests)
        return requests if targets is None else with_targets(tokenizer, requests, targets)

    def answer(self, requests: Requests, progress: Callable[[int], object] | None = None) -> list[str]:
        """Returns answers of at most `settings.n_new` tokens, greedy or sampled.

        Args:
            requests: The requests; prefilled tokens (span `prefill`) are returned with the answer.
            progress: Called with the number of requests answered since the last call.

        Returns:
            The texts, in the order of the requests; reasoning stands in `<think>…</think>`, also where the
            prompt begins it.
        """
        n_new = self.settings.n_new
        generate = partial(generate_texts, self.lm, n_new=n_new, sampling=self.sampling)
        if self.checkpoint is None:
            answers = generate(requests, progress=progress)
        else:
            answers = self.checkpoint.complete(self.lm, requests, generate, n_new=n_new, progress=progress)
        if self._open_block is None:
            return answers
        end = self._open_block.end
        return [REASONING_BEGIN + answer.replace(end, REASONING_END, 1) for answer in answers]

    def judge(self, requests: Requests, answers: Sequence[str]) -> Int[np.ndarray, " n"]:
        """Returns the `Outcome` of each answer."""
        return classify_answers(request_truth(requests, "request").tolist(), answers, self.text_judge)

    def outcomes(self, requests: Requests) -> Int[np.ndarray, " n"]:
        """Returns the `Outcome` of the model's answer to each request."""
        return self.judge(requests, self.answer(requests))

    def answer_rows(
        self, requests: TextRequests, progress: Callable[[int], object] | None = None, **columns: str
    ) -> Rows:
        """Generates answers and scores the refusal after each prompt, or after the answer's own reasoning.

        Args:
            requests: The requests.
            progress: Called with the number of requests answered since the last call.
            **columns: Constant columns that are put before those of `AnswerRow`.

        Returns:
            One row per request: `columns`, then the fields of `AnswerRow`.
        """
        return [{**columns, **row} for row in self.describe(requests, self.answer(requests, progress))]

    def describe(self, requests: TextRequests, answers: Sequence[str]) -> Rows:
        """Returns the fields of `AnswerRow` for requests and the model's answers to them."""
        texts = request_truth(requests, "request").tolist()
        refusal = self.refusal_log_odds(requests, answers)
        return as_dicts(map(AnswerRow, texts, answers, refusal, is_degenerate(answers).tolist()))

    def refusal_log_odds(self, requests: TextRequests, answers: Sequence[str]) -> list[float | None]:
        """Log-odds that a refusal begins where the answer proper begins.

        Args:
            requests: The requests.
            answers: The model's answers to them.

        Returns:
            Log-odds after each prompt, or after the answer's own reasoning, in nats; None where that does not
            end.
        """
        requests = behind_reasoning(self.lm.tokenizer, requests, answers, open_block=self._open_block)
        values = log_odds(next_token_log_probs(self.model, requests), first_tokens(requests, "refused"))
        return [
            None if is_unfinished(answer) else value
            for answer, value in zip(answers, values.tolist(), strict=True)
        ]
