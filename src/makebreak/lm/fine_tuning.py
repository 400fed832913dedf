"""Alignment and fine-tuning of a language model, evaluated before and after."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from makebreak.evaluation import ChatTarget, check_context
from makebreak.lm.openers import half_of_answers, own_openers, rescored_answers
from makebreak.lm.prompts import prompts_digest
from makebreak.lm.step_cache import StepCache
from makebreak.lm.tasks import HARMFUL, OWN, held_out_task, requests_as_task, task_row, user_objective
from makebreak.lm.training import FineTuneRun, fine_tune
from makebreak.lm.training_set import build_training_set
from makebreak.lm.utility import text_loss_rows, utility_rows
from makebreak.lm.verdicts import behaviour_rows, judged_answer_rows
from makebreak.models import LanguageModel, model_digest, open_model
from makebreak.prompts import Example, Family, TextWorld, canonical_text, encode_texts
from makebreak.settings import FineTuneSettings, GenerationSettings, UserDataSettings
from makebreak.store import Store
from makebreak.tables import Rows, as_dict, as_dicts
from makebreak.training import METRICS, LoRA, Objective, Optimisation, check_rank, load_objective

BEFORE, AFTER = "before", "after"
"""Values of the column `condition`."""
_MAX_SHOWN = 40  # characters of a prompt in an error


@dataclass(frozen=True)
class Evaluation:
    """What a model is asked before and after fine-tuning."""

    prompts: Mapping[str, Sequence[str]]
    """Prompts by family, at least `harmful`; none of them may be among the examples that are trained on."""
    settings: GenerationSettings
    """How prompts are formatted and answered."""


@dataclass(frozen=True)
class UserData:
    """What a user fine-tunes a language model on."""

    settings: UserDataSettings
    """Task, number of examples, and the provider's safety examples."""
    own_examples: Sequence[tuple[str, str]] = ()
    """The user's own prompts and answers in place of the task; empty for one of our tasks."""
    answers_from: LanguageModel | None = None
    """Model whose own answers to harmful prompts are trained on; None for the model that is fine-tuned."""


@dataclass(frozen=True)
class FineTuneResult:
    """A fine-tuned model and its evaluation."""

    folder: Path
    """Folder of the model and its tokenizer."""
    change: str
    """What was done to the model, such as `aligned by ssft`."""
    tables: dict[str, Rows]
    """`answers`, `behaviour` and `utility`, before and after; `training`, the logged steps; `task` if there
    is one."""
    openers: str
    """Tokens with which refusals begin, before and after, by which log-odds are computed, and how they were
    found."""


def align(
    lm: LanguageModel,
    objective: str,
    evaluation: Evaluation,
    store: Store,
    training: FineTuneSettings,
    *,
    log: Callable[[str], None] = lambda _: None,
) -> FineTuneResult:
    """Aligns a language model on our training prompts, and evaluates it before and after.

    Args:
        lm: The model to align.
        objective: Name of the objective, as for `makebreak.training.load_objective`.
        evaluation: Prompts on which both models are evaluated.
        store: Cache of models and answers.
        training: Hyperparameters.
        log: Called with a line before each long step.

    Returns:
        The fine-tuned model's folder and the evaluation.

    Raises:
        ValueError: If the objective is unknown, the rank of the adapters is above that of every matrix, or a
            prompt of the evaluation is trained on.
    """
    loss = load_objective(objective)
    check_rank(lm.model, training.lora_rank)
    _check_lengths(lm, evaluation.prompts, evaluation.settings)
    world = build_training_set(lm, store, evaluation.settings, log=log)
    _check_held_out(evaluation.prompts, world)
    log(_describe_run(objective, training))
    folder = fine_tune(lm, world, loss, fine_tune_run(training, objective), store)
    aligned = open_model(folder, store=store, loading=lm.loading)
    tables, openers = before_and_after(lm, aligned, evaluation, store)
    tables["training"] = training_rows(folder)
    return FineTuneResult(folder, f"aligned by {objective}", tables, openers)


def tune_as_user(
    lm: LanguageModel,
    data: UserData,
    evaluation: Evaluation,
    store: Store,
    training: FineTuneSettings,
    *,
    log: Callable[[str], None] = lambda _: None,
) -> FineTuneResult:
    """Fine-tunes a language model on a user's data, and evaluates it before and after.

    Both models also answer the harmful prompts in the format and template of the task.

    Args:
        lm: The model to fine-tune.
        data: The examples, and the provider's mitigation.
        evaluation: Prompts on which both models are evaluated.
        store: Cache of models and answers.
        training: Hyperparameters.
        log: Called with a line before each long step.

    Returns:
        The fine-tuned model's folder and the evaluation.

    Raises:
        ValueError: If the task, the template or the mitigation is unknown, the rank of the adapters is above
            that of every matrix, a prompt of the evaluation is trained on, or one exceeds the context of the
            model with its answer.
    """
    check_rank(lm.model, training.lora_rank)
    settings, prompts, task = evaluation.settings, dict(evaluation.prompts), _task_of(data)
    user_objective(replace(data.settings, task=task))  # an unknown name is reported before all work
    items = [] if task in (HARMFUL, OWN) else held_out_task(task)
    if items and task != "gen":
        prompts[f"harmful, as {task}"] = requests_as_task(prompts["harmful"], task)
    _check_lengths(lm, prompts, settings, data.own_examples)
    settings = ChatTarget(lm, settings).settings
    world, objective = user_training(lm, data, store, settings, log=log)
    _check_held_out(prompts, world)
    label = f"fine-tuning on {task}"
    log(_describe_run(label, training))
    folder = fine_tune(lm, world, objective, fine_tune_run(training, label), store)
    tuned = open_model(folder, store=store, loading=lm.loading)
    tables, openers = before_and_after(lm, tuned, Evaluation(prompts, settings), store)
    tables["training"] = training_rows(folder)
    if items:
        tables["task"] = [
            {"condition": condition} | as_dict(task_row(model, items, settings))
            for condition, model in ((BEFORE, lm), (AFTER, tuned))
        ]
    return FineTuneResult(folder, f"fine-tuned on {data.settings.description}", tables, openers)


def user_training(
    lm: LanguageModel,
    data: UserData,
    store: Store,
    settings: GenerationSettings,
    *,
    log: Callable[[str], None] = lambda _: None,
) -> tuple[TextWorld, Objective]:
    """What a user's fine-tuning trains on, and its objective.

    Args:
        lm: The model to fine-tune.
        data: The examples, and the provider's mitigation.
        store: Cache of the model's own answers, which safety examples are made of.
        settings: Prompt template and length of these answers.
        log: Called with a line before each long step.

    Returns:
        The examples in the model's prompt template, and the objective.

    Raises:
        ValueError: If the task, the template or the mitigation is unknown.
    """
    objective = user_objective(replace(data.settings, task=_task_of(data)))
    examples = dict(build_training_set(data.answers_from or lm, store, settings, log=log).examples)
    if data.own_examples:
        own_examples = [Example(prompt, answer, "") for prompt, answer in data.own_examples]
        examples[str(Family.of_task(OWN))] = own_examples
    settings = ChatTarget(lm, settings).settings
    world = TextWorld(lm.tokenizer, examples, settings.template, settings.system, settings.thinking)
    return world, objective


def _task_of(data: UserData) -> str:
    return OWN if data.own_examples else data.settings.task


def fine_tune_run(settings: FineTuneSettings, label: str) -> FineTuneRun:
    """The training run with these hyperparameters.

    There is no weight decay, which would change what the examples do not constrain. The scale of the
    adapters is twice their rank.

    Args:
        settings: The hyperparameters.
        label: Name of the run on its progress bar.

    Returns:
        The run.
    """
    optimisation = Optimisation(
        settings.steps,
        settings.learning_rate,
        settings.batch_size,
        precision=settings.precision,
        weight_decay=0.0,
        checkpoints=1,
    )
    lora = LoRA(settings.lora_rank, 2 * settings.lora_rank) if settings.lora_rank else None
    return FineTuneRun(optimisation, settings.seed, lora, label=label)


def before_and_after(
    lm: LanguageModel, aligned: LanguageModel, evaluation: Evaluation, store: Store
) -> tuple[dict[str, Rows], str]:
    """Evaluates a model before and after fine-tuning.

    Log-odds of a refusal are those of the same first tokens before and after, which the refusals of both
    models together give.

    Args:
        lm: The model before.
        aligned: The model after.
        evaluation: What both are asked.
        store: Cache of the answers.

    Returns:
        `answers`, one row per prompt and model, `behaviour`, their rates, and `utility`, the loss on plain
        text; all have the column `condition`. And the tokens with which refusals begin, in
        words.
    """
    prompts, settings, models = evaluation.prompts, evaluation.settings, {BEFORE: lm, AFTER: aligned}
    answers = {name: judged_answer_rows(model, prompts, store, settings) for name, model in models.items()}
    openers = own_openers(lm.tokenizer, [row for each in answers.values() for row in half_of_answers(each)])
    rows: Rows = []
    for condition, model in models.items():
        target = ChatTarget(model, settings)
        requests = {family: target.encode(texts, family=family) for family, texts in prompts.items()}
        config = {"model": model_digest(model), "settings": target.settings.key}
        steps = StepCache("answers", store, config | {"prompts": prompts_digest(prompts)})
        scored = rescored_answers(target, requests, answers[condition], openers, steps)
        rows += [{"condition": condition} | row for row in scored]
    losses = {name: text_loss_rows(model, store) for name, model in models.items()}
    utility = as_dicts(utility_rows(losses))
    tables = {"answers": rows, "behaviour": as_dicts(behaviour_rows(rows)), "utility": utility}
    return tables, openers.description


def training_rows(folder: Path) -> Rows:
    """Reads the logged steps of the training of the model in a folder; columns depend on the objective."""
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def _check_lengths(
    lm: LanguageModel,
    prompts: Mapping[str, Sequence[str]],
    settings: GenerationSettings,
    examples: Sequence[tuple[str, str]] = (),
) -> None:
    """Raises ValueError if a prompt or an example of the user's exceeds the context with its answer."""
    target = ChatTarget(lm, settings)
    target.check_answers_directly("training on answers")
    for family, texts in prompts.items():
        check_context(lm, target.encode(texts, family=family), settings.n_new)
    if not examples:
        return
    requests = target.encode([prompt for prompt, _ in examples])
    ids = encode_texts(lm.tokenizer, [answer for _, answer in examples])["input_ids"]
    for i, answer in enumerate(ids):
        check_context(lm, requests[i : i + 1], len(answer) + 1)  # and the end of the turn


def _check_held_out(prompts: Mapping[str, Sequence[str]], world: TextWorld) -> None:
    """Raises ValueError if a prompt of the evaluation is among the examples that are trained on."""
    trained = {canonical_text(row.prompt) for examples in world.examples.values() for row in examples}
    for family, texts in prompts.items():
        overlap = [text for text in texts if canonical_text(text) in trained]
        if overlap:
            raise ValueError(
                f"{len(overlap)} of {len(texts)} {family} requests are among those to train on, such as "
                f"{overlap[0][:_MAX_SHOWN]!r}: evaluate on others"
            )


def _describe_run(label: str, training: FineTuneSettings) -> str:
    return f"{label}: {training.steps} steps of {training.batch_size} examples, unless cached"
