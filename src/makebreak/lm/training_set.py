"""Training set for aligning and fine-tuning a language model: our prompts, its own answers, our refusals."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from makebreak.evaluation import ANSWERS_FILE, JUDGE, JUDGES, AnswerCheckpoint, ChatTarget, repeats_words
from makebreak.lm.prompts import evenly_spaced, prompts_digest
from makebreak.lm.step_cache import Progress, StepCache
from makebreak.lm.tasks import split_task_items
from makebreak.models import LanguageModel, model_digest
from makebreak.prompts import (
    Example,
    TextRequests,
    TextWorld,
    encode_texts,
    format_families,
    refusal_text,
    training_prompts,
)
from makebreak.revisions import cache_revision
from makebreak.settings import GenerationSettings
from makebreak.store import Store
from makebreak.tables import Rows

ANSWER_TOKENS = 10
"""Tokens of the model's own answers: the beginning decides the outcome, and a laptop has to train on them."""
DEFAULT_ANSWER = "Sure, here is how to do that."
"""Answer to a harmful request where the model has none of its own."""


class OwnAnswerRow(NamedTuple):
    """The model's own answer to a training prompt."""

    request: str
    """The prompt."""
    answer: str
    """Greedy answer of at most `ANSWER_TOKENS` tokens."""
    is_complete: bool
    """Whether the answer ended before the limit."""


def build_training_set(
    lm: LanguageModel,
    store: Store,
    settings: GenerationSettings,
    *,
    prompts: Mapping[str, Sequence[str]] | None = None,
    max_per_family: int | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> TextWorld:
    """Builds the examples that a language model is aligned or fine-tuned on.

    Compliance is the model's own greedy answer, cut after `ANSWER_TOKENS` tokens and then trained without an
    end of turn, so that nothing but refusal changes. Safe requests that the model refuses, or gives a
    degenerate answer to, are excluded; for such unsafe requests the answer is `DEFAULT_ANSWER`. No harmful
    answers are shipped.

    Args:
        lm: The model whose answers are used.
        store: Cache of the answers.
        settings: Prompt template and system prompt.
        prompts: Prompts of the families `harmless` and `harmful`; None for our training prompts.
        max_per_family: Largest number of prompts per family, evenly spaced; None for all.
        log: Called with a line before answers are generated.

    Returns:
        A world with the families `safe` and `unsafe` (the prompts) and those of `format_families`.
    """
    prompts = {
        family: evenly_spaced(texts, max_per_family or len(texts))
        for family, texts in (prompts or training_prompts()).items()
    }
    target = ChatTarget(lm, settings)
    target.check_answers_directly("training on answers")
    settings = target.settings
    config = {"model": model_digest(lm), "settings": settings.key | {"n_new": ANSWER_TOKENS}}
    steps = StepCache("training set", store, config | {"prompts": prompts_digest(prompts)})
    log(f"generating the model's own answers to {sum(map(len, prompts.values()))} prompts, unless cached")
    answers = {family: _own_answers(lm, family, texts, settings, steps) for family, texts in prompts.items()}
    safe = [
        Example(row["request"], row["answer"], refusal_text(i), row["is_complete"])
        for i, row in enumerate(answers["harmless"])
        if row["is_compliant"]
    ]
    harmful = [
        (row["request"], row["answer"] if row["is_compliant"] else DEFAULT_ANSWER)
        for row in answers["harmful"]
    ]
    unsafe = [
        Example(text, answer, refusal_text(i), complete=False) for i, (text, answer) in enumerate(harmful)
    ]
    tasks = format_families(harmful, split_task_items(held_out=False))
    families = {"safe": safe, "unsafe": unsafe} | tasks
    return TextWorld(lm.tokenizer, families, settings.template, settings.system, settings.thinking)


def _own_answers(
    lm: LanguageModel, family: str, texts: Sequence[str], settings: GenerationSettings, steps: StepCache
) -> Rows:
    """One row per prompt: the fields of `OwnAnswerRow` and `is_compliant`, neither refused nor degenerate."""
    target = ChatTarget(lm, replace(settings, n_new=ANSWER_TOKENS))
    answers_of = partial(_generate_answers, target, target.encode(texts, family=family))
    rows = steps.run(f"answers {family}", answers_of, states=re.escape(ANSWERS_FILE))
    answers = [row["answer"] for row in rows]
    # fixed definitions: the keys of trained models depend on the examples
    is_compliant = ~(JUDGES[JUDGE](list(texts), answers) | repeats_words(answers))
    return [row | {"is_compliant": flag} for row, flag in zip(rows, is_compliant.tolist(), strict=True)]


@cache_revision(1)
def _generate_answers(
    target: ChatTarget, requests: TextRequests, progress: Progress, folder: Path
) -> list[OwnAnswerRow]:
    """One row per request: its greedy answer and whether it is complete."""
    with AnswerCheckpoint.open(folder) as checkpoint:
        answers = replace(target, checkpoint=checkpoint).answer(requests, progress)
    lengths = map(len, encode_texts(target.lm.tokenizer, answers)["input_ids"])
    is_complete = (n < ANSWER_TOKENS for n in lengths)
    return list(map(OwnAnswerRow, requests.truth["request"].tolist(), answers, is_complete))
