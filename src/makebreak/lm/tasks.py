"""Tasks that users fine-tune a language model on: training objectives, held-out items and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from makebreak.defences import MixedFineTuning, load_mitigation, mitigation_digest
from makebreak.evaluation import ChatTarget, TargetNLL, target_nll
from makebreak.models import LanguageModel
from makebreak.prompts import TEMPLATES, Family, format_prompt, task_items
from makebreak.prompts.examples import AOA_PREFIX, MCQ_OPTIONS
from makebreak.settings import GenerationSettings, UserDataSettings
from makebreak.training import FineTuning

HARMFUL = "harmful"
"""Task of a fine-tuning attack: our harmful training prompts with compliant answers."""
OWN = "own"
"""Task of a user who brings prompts and answers."""
HELD_OUT = 4
"""Every fourth item of a task is held out."""


class TaskRow(NamedTuple):
    """Performance of a model on the held-out items of a task."""

    n: int
    """Number of items."""
    exact_match: float
    """Fraction of items whose answer greedy decoding produces."""
    nll: float
    """Mean negative log-likelihood per token of the correct answers, in nats."""
    shuffled_nll: float
    """The same for the answers of other items."""


def user_objective(data: UserDataSettings) -> FineTuning | MixedFineTuning:
    """The objective of fine-tuning on a task, with a mitigation's safety examples among the user's.

    Args:
        data: Task, number of examples and mitigation; harmful examples accept only `none` and `canonical`.

    Returns:
        The objective.

    Raises:
        ValueError: If the template or the mitigation is unknown, or share and mitigation contradict each
            other.
    """
    n, mitigation, share = data.n_examples, data.mitigation, data.safety_share
    if mitigation != "none":
        load_mitigation(mitigation)
    if data.task == HARMFUL:
        n_refused = round(share * n)
        if mitigation not in ("none", "canonical") or (mitigation == "none") != (n_refused == 0):
            raise ValueError(
                f"mitigation {mitigation!r}, {share:g} of {n} examples: harmful requests have no format, so "
                "expected 'none' with a share of 0, or 'canonical' (plain refusals) with at least one example"
            )
        return FineTuning(n_harmful=n - n_refused, n_refused=n_refused)
    family = Family.of_task(data.task)
    if family.template not in TEMPLATES:
        raise ValueError(
            f"task {data.task!r}: template {family.template!r}: expected one of {', '.join(TEMPLATES)}"
        )
    return MixedFineTuning(str(family), n, mitigation, share)


def check_user_data(data: UserDataSettings, *, answers_from: str | None = None) -> None:
    """Checks what a user fine-tunes on before a model is loaded.

    Args:
        data: Task, number of examples and mitigation.
        answers_from: The model whose answers are trained on; None for the model itself.

    Raises:
        ValueError: If the task, the template or the mitigation is unknown, share and mitigation contradict
            each other, or `answers_from` would be ignored.
    """
    if data.file is not None and data.task != UserDataSettings.task:
        raise ValueError(f"--task {data.task} with --data {data.file}: leave one of them out")
    task = data.task if data.file is None else OWN
    user_objective(replace(data, task=task))
    if data.mitigation != "none":
        try:
            mitigation_digest(data.mitigation)
        except ValueError as error:
            raise ValueError(f"mitigation {data.mitigation!r}: {error}") from None
    if task not in (HARMFUL, OWN):
        held_out_task(task)
    if answers_from is not None and task != HARMFUL and ":" not in data.mitigation:
        raise ValueError(
            f"--answers-from {answers_from}: only --task harmful trains on answers of a model; leave it out"
        )


def split_task_items(*, held_out: bool) -> dict[str, list[tuple[str, str]]]:
    """Items of every task that are held out, or those that are trained on.

    Args:
        held_out: Whether to return the held-out items, one in `HELD_OUT`, or the others.

    Returns:
        Pairs of prompt and answer, by the task's format.
    """
    return {
        format_: [item for i, item in enumerate(items) if (i % HELD_OUT == HELD_OUT - 1) == held_out]
        for format_, items in task_items().items()
    }


def requests_as_task(texts: Sequence[str], task: str) -> list[str]:
    """Puts harmful requests in the place of a task's content.

    Args:
        texts: The requests.
        task: FORMAT or FORMAT@TEMPLATE; the format `mcq` adds the options.

    Returns:
        The prompts, in the same order.
    """
    format_, template = _format_and_template(task)
    options = MCQ_OPTIONS if format_ == "mcq" else ""
    return [format_prompt(text + options, format_, template) for text in texts]


def held_out_task(task: str) -> list[tuple[str, str]]:
    """Prompts and answers of the held-out items of a task.

    Args:
        task: FORMAT or FORMAT@TEMPLATE.

    Returns:
        (prompt, answer) pairs.

    Raises:
        ValueError: If the format is unknown.
    """
    (format_, template), tasks = _format_and_template(task), split_task_items(held_out=True)
    if format_ not in tasks:
        raise ValueError(
            f"task {format_!r}: expected {HARMFUL}, {', '.join(tasks)}, each also as TASK@TEMPLATE"
        )
    header = AOA_PREFIX if template == "obey" else ""
    return [(format_prompt(text, format_, template), header + answer) for text, answer in tasks[format_]]


def task_row(lm: LanguageModel, items: Sequence[tuple[str, str]], settings: GenerationSettings) -> TaskRow:
    """Scores a model on a task.

    Args:
        lm: The model.
        items: (prompt, answer) pairs.
        settings: Prompt template.

    Returns:
        Exact match, and the loss of correct and of mismatched answers.
    """
    target, answers = ChatTarget(lm, settings), [answer for _, answer in items]

    def scores(targets: list[str]) -> TargetNLL:
        requests = target.encode([prompt for prompt, _ in items], family="task", targets=targets)
        return target_nll(lm.model, requests, "instructed")

    correct, shuffled = scores(answers), scores(_mismatched_answers(answers))
    return TaskRow(
        n=len(items),
        exact_match=float(correct.exact_match.double().mean()),
        nll=float(correct.nll.mean()),
        shuffled_nll=float(shuffled.nll.mean()),
    )


def _format_and_template(task: str) -> tuple[str, str]:
    family = Family.of_task(task)
    return family.format or "", family.template


def _mismatched_answers(answers: Sequence[str]) -> list[str]:
    """For each item, the next answer in the list that differs from its own."""
    rows = []
    for i, answer in enumerate(answers):
        others = (other for other in [*answers[i + 1 :], *answers] if other != answer)
        rows.append(next(others, answer))
    return rows
